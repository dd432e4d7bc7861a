"""A hub on loopback: small real models, tokenizers and data sets behind the hub's own requests.

`start_hub(folder)` makes the repositories in `folder` and serves them; with `HF_ENDPOINT` set to
the hub's `url`, `from_pretrained` and `load_dataset` run as they do for users. Repositories:

    loop/gpt2-small-test     GPT-2, 2 layers, width 32, random weights, its own byte-level BPE
    loop/llama-small-test    Llama with grouped-query attention, of the same size
    loop/pickle-test         only a pickled checkpoint (it never gets to be read)
    loop/gated-test          access is refused, as for a licence that was not accepted
    abisee/cnn_dailymail     Parquet in the published layout: configuration 3.0.0, columns article,
                             highlights, id; 24 train, 8 validation and 8 test items
    loop/scripted            published as a Python script, converted on refs/convert/parquet;
                             configuration Abstract, columns source and target (lists), paper_id
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_loop"  # of the only user, loop
CONVERTED = "refs/convert/parquet"
PLACES = ("Lisbon", "Porto", "Braga", "Faro", "Evora", "Aveiro", "Coimbra", "Setubal")


@dataclass
class Repository:
    """Files of each branch; a branch's commit is the hash of its contents."""

    kind: str  # model or dataset
    branches: dict[str, Path]
    gated: bool = False
    private: bool = False

    def resolve(self, revision: str) -> tuple[str, Path] | None:
        for branch, folder in self.branches.items():
            commit = commit_of(folder)
            if revision in (branch, commit):
                return commit, folder
        return None


def commit_of(folder: Path) -> str:
    """A 40-digit hash of a folder's file names and contents."""
    digest = hashlib.sha1()
    for path in files_of(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """All files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass
class Hub:
    """A running hub; `requests` lists "METHOD path" of all that was asked."""

    url: str
    repositories: dict[str, Repository]
    folder: Path
    requests: list[str] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def stop(self) -> None:
        """Refuse connections from now on; the address stays dead."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that point a process to this hub, with `cache` as its only cache."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "",
        }


def start_hub(folder: Path) -> Hub:
    """Make the repositories below `folder` and serve them on a free port of 127.0.0.1."""
    hub = Hub("", _make_repositories(folder), folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub._server = server
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return hub


def small_tokenizer(sentences: list[str]):
    """A byte-level BPE of 400 tokens with <|endoftext|>, trained on the sentences."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(sentences, vocab_size=400, special_tokens=["<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        model_max_length=256,
    )


def news(split: str, count: int) -> list[dict[str, str]]:
    """Items in the layout of CNN/DailyMail, all different."""
    items = []
    for index in range(count):
        place = PLACES[index % len(PLACES)]
        article = (
            f"({split.upper()}) A storm reached {place} on day {index} and closed {index + 2} "
            f"roads. Trains between {place} and the coast stood still. Officials said that nobody "
            "was hurt."
        )
        summary = f"Storm closes {index + 2} roads in {place}.\nNobody is hurt."
        digest = hashlib.sha1(article.encode()).hexdigest()
        items.append({"article": article, "highlights": summary, "id": digest})
    return items


def _make_repositories(folder: Path) -> dict[str, Repository]:
    import pyarrow as pa
    import torch
    from pyarrow import parquet
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    def write(path: Path, rows: list[dict]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)

    tokenizer = small_tokenizer([item["article"] for item in news("train", 24)])
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape = {"vocab_size": len(tokenizer), **ends}
        gpt2 = GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=256, **shape)
        llama = LlamaConfig(
            num_hidden_layers=2,
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            **shape,
        )
        for name, model in (("gpt2", GPT2LMHeadModel(gpt2)), ("llama", LlamaForCausalLM(llama))):
            model.save_pretrained(folder / name)
            tokenizer.save_pretrained(folder / name)

    pickled = folder / "pickle"
    pickled.mkdir()
    shutil.copy(folder / "gpt2" / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02never read")

    cnn = folder / "cnn_dailymail"
    for split, count in (("train", 24), ("validation", 8), ("test", 8)):
        write(cnn / "3.0.0" / f"{split}-00000-of-00001.parquet", news(split, count))
    splits = [{"split": s, "path": f"3.0.0/{s}-*"} for s in ("train", "validation", "test")]
    header = {"configs": [{"config_name": "3.0.0", "data_files": splits}]}
    (cnn / "README.md").write_text(f"---\n{json.dumps(header)}\n---\n# News\n")

    scripted = folder / "scripted"
    scripted.mkdir()
    (scripted / "scripted.py").write_text("raise SystemExit('this must never run')\n")
    (scripted / "README.md").write_text("# Abstracts\n")
    for split in ("train", "validation", "test"):
        rows = [
            {
                "source": item["article"].split(". "),
                "target": [item["highlights"], "A storm."],
                "paper_id": item["id"],
            }
            for item in news(split, 6)
        ]
        write(folder / "converted" / "Abstract" / split / "0000.parquet", rows)
    return {
        "loop/gpt2-small-test": Repository("model", {"main": folder / "gpt2"}),
        "loop/llama-small-test": Repository("model", {"main": folder / "llama"}),
        "loop/pickle-test": Repository("model", {"main": pickled}),
        "loop/gated-test": Repository("model", {"main": folder / "llama"}, gated=True),
        "abisee/cnn_dailymail": Repository("dataset", {"main": cnn}),
        "loop/scripted": Repository("dataset", {"main": scripted, CONVERTED: folder / "converted"}),
    }


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path in ("/api/validate-yaml", "/api/repos/create"):
                hub.requests.append(f"POST {self.path}")
                self.prepare(json.loads(body))
            elif self.path.startswith("/api/models/") and "/preupload/" in self.path:
                modes = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                self.json({"files": modes})
            elif self.path.startswith("/api/models/") and "/commit/" in self.path:
                self.commit(body)
            else:
                self.answer(body)

        def prepare(self, given: dict) -> None:
            """Check a model card's header as the hub does, or make a repository."""
            if self.path.endswith("create"):
                repo_id = f"{given['organization']}/{given['name']}"
                empty = Path(tempfile.mkdtemp(dir=hub.folder))
                hub.repositories.setdefault(repo_id, Repository("model", {"main": empty}))
                hub.repositories[repo_id].private = given.get("visibility") == "private"
                self.json({"url": f"{hub.url}/{repo_id}"})
                return
            base = yaml.safe_load(given["content"].split("---")[1]).get("base_model", "a/b")
            known = re.fullmatch(r"([\w.-]+/)?[\w.-]+", base)
            wrong = [] if known else [{"message": f'"base_model" {base} is not a model id'}]
            self.json({"errors": wrong, "warnings": []})

        def commit(self, body: bytes) -> None:
            """Write the files of a commit, which come in lines of JSON."""
            repo_id = "/".join(self.path.split("/")[3:5])
            folder = hub.repositories[repo_id].branches["main"]
            for line in body.splitlines():
                one = json.loads(line)
                if one["key"] == "file":
                    target = folder / one["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(one["value"]["content"]))
            oid = commit_of(folder)
            self.json(
                {
                    "success": True,
                    "commitOid": oid,
                    "commitUrl": f"{hub.url}/{repo_id}/commit/{oid}",
                }
            )

        def answer(self, body: bytes = b"") -> None:
            hub.requests.append(f"{self.command} {self.path}")
            parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
            if parts[0] == "api" and len(parts) >= 4:
                self.api(parts[1], "/".join(parts[2:4]), parts[4:], body)
            elif parts == ["api", "whoami-v2"]:
                if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                    self.json({"type": "user", "name": "loop", "orgs": []})
                else:
                    self.refuse(401, "InvalidToken")
            elif parts == [""]:
                self.send(200, b"")
            else:
                kind = "dataset" if parts[0] == "datasets" else "model"
                parts = parts[1:] if kind == "dataset" else parts
                if len(parts) >= 5 and parts[2] == "resolve":
                    self.file(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
                else:
                    self.refuse(404, "EntryNotFound")

        def find(self, kind: str, repo_id: str, revision: str) -> tuple[str, Path] | None:
            repository = hub.repositories.get(repo_id)
            if repository is None or repository.kind != kind:
                self.refuse(404, "RepoNotFound")
                return None
            found = repository.resolve(revision)
            if found is None:
                self.refuse(404, "RevisionNotFound")
            return found

        def api(self, plural: str, repo_id: str, rest: list[str], body: bytes) -> None:
            what = rest[0] if rest else "revision"
            revision = rest[1] if len(rest) > 1 else "main"
            found = self.find(plural.removesuffix("s"), repo_id, revision)
            if found is None:
                return
            commit, folder = found
            repository = hub.repositories[repo_id]
            names = [path.relative_to(folder).as_posix() for path in files_of(folder)]
            if what == "auth-check":
                if repository.gated:
                    self.refuse(403, "GatedRepo")
                else:
                    self.send(200, b"OK")
            elif what == "revision":
                siblings = [{"rfilename": name} for name in names]
                gated = "auto" if repository.gated else False
                self.json({"id": repo_id, "sha": commit, "siblings": siblings, "gated": gated})
            elif what in ("tree", "paths-info"):
                entries = {name: self.entry(folder, name) for name in names}
                for name in names:
                    for parent in list(Path(name).parents)[:-1]:
                        entries[parent.as_posix()] = self.entry(folder, parent.as_posix())
                if what == "paths-info":
                    wanted = parse_qs(body.decode()).get("paths") or json.loads(body)["paths"]
                    self.json([entries[name] for name in wanted if name in entries])
                    return
                within = "/".join(rest[2:])
                query = parse_qs(urlsplit(self.path).query)
                deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
                self.json(
                    [
                        entry
                        for name, entry in sorted(entries.items())
                        if name.startswith(f"{within}/" if within else "")
                        and (deep or "/" not in name[len(within) + 1 if within else 0 :])
                    ]
                )
            else:
                self.refuse(404, "EntryNotFound")

        def entry(self, folder: Path, name: str) -> dict[str, object]:
            path = folder / name
            kind = "directory" if path.is_dir() else "file"
            content = name.encode() if path.is_dir() else path.read_bytes()
            size = 0 if path.is_dir() else len(content)
            oid = hashlib.sha1(content).hexdigest()
            return {"type": kind, "path": name, "oid": oid, "size": size}

        def file(self, kind: str, repo_id: str, revision: str, name: str) -> None:
            found = self.find(kind, repo_id, revision)
            if found is None:
                return
            commit, folder = found
            if hub.repositories[repo_id].gated:
                self.refuse(403, "GatedRepo")
            elif not (folder / name).is_file():
                self.refuse(404, "EntryNotFound", commit)
            else:
                content = (folder / name).read_bytes()
                tag = f'"{hashlib.sha1(content).hexdigest()}"'
                self.send(200, content, {"X-Repo-Commit": commit, "ETag": tag})

        def json(self, value: object) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def refuse(self, status: int, code: str, commit: str = "") -> None:
            headers = {"X-Error-Code": code, "X-Error-Message": code}
            self.send(status, b"", headers | ({"X-Repo-Commit": commit} if commit else {}))

        def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler
