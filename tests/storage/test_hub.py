"""The hub as users meet it: reachable, switched off, dead, silent, and saying no."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sumcirc.data import hub_dataset
from sumcirc.data.documents import read_corpus
from sumcirc.errors import UserError
from sumcirc.schema import DataConfig, Source
from sumcirc.storage import hub
from tests.support.hub_server import CONVERTED, Hub, commit_of, start_hub

ROOT = Path(__file__).resolve().parents[2]

# Reads two models and two data sets (or those of them that argv names) as the commands do.
READ_ALL = """
import json, sys
from sumcirc.data.documents import check_files, read_corpus
from sumcirc.errors import UserError
from sumcirc.models.loading import check_model, load_model, load_tokenizer
from sumcirc.schema import DataConfig, ModelConfig, Source

def model(path):
    config = ModelConfig(name="m", path=path)
    check_model(config)
    tokenizer, model = load_tokenizer(config), load_model(config)
    assert not model.training and next(model.parameters()).dtype.is_floating_point
    weight = sum(parameter.double().abs().sum().item() for parameter in model.parameters())
    return [weight, tokenizer("Trains to Lisbon").input_ids]

def data(path, subset, document, summary, id):
    config = DataConfig(
        name="d", source=Source.hub, path=path, subset=subset, train="train",
        validation="validation", test="test", document_column=document, summary_column=summary,
        id_column=id,
    )
    config.sizes.train = 5
    check_files(config)
    corpora = [read_corpus(config, split) for split in ("train", "validation", "test")]
    return [[len(c.documents), c.documents[0].document, list(c.documents[0].references),
             c.not_drawn, c.fingerprint] for c in corpora]

found = {}
for name, read in {
    "gpt2": lambda: model("loop/gpt2-small-test"),
    "llama": lambda: model("loop/llama-small-test"),
    "cnn": lambda: data("abisee/cnn_dailymail", "3.0.0", "article", "highlights", "id"),
    "scripted": lambda: data("loop/scripted", "Abstract", "source", "target", "paper_id"),
}.items():
    if name in sys.argv[1:]:
        try:
            found[name] = read()
        except UserError as error:
            found[name] = str(error)
print(json.dumps(found))
"""


def read_all(environment: dict[str, str], *names: str) -> dict:
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"log": done.stderr}


def test_reachable_then_offline_then_dead(tmp_path: Path) -> None:
    served = start_hub(tmp_path / "repositories")
    environment = served.environment(tmp_path / "cache")
    everything = ("gpt2", "llama", "cnn", "scripted")

    online = read_all(environment, *everything)
    assert online["gpt2"][0] != online["llama"][0]
    assert [corpus[0] for corpus in online["cnn"]] == [5, 8, 8]
    assert online["cnn"][0][3] == 19
    assert online["cnn"][1][1].startswith("(VALIDATION) A storm reached Lisbon on day 0")
    assert online["scripted"][1][2] == [
        "Storm closes 2 roads in Lisbon.\nNobody is hurt.",
        "A storm.",
    ]
    assert any("cnn_dailymail/resolve" in request for request in served.requests)
    assert not any(".bin" in request for request in served.requests)

    served.stop()
    before = len(served.requests)
    for off in ({"HF_HUB_OFFLINE": "1"}, {}):
        again = read_all({**environment, **off}, *everything)
        assert {name: again[name] for name in everything} == {n: online[n] for n in everything}
    assert len(served.requests) == before


@contextmanager
def silent_hub() -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that takes connections and never answers, and what it was asked."""
    asked: list[str] = []

    def listen() -> None:
        connections = []
        with suppress(OSError):  # closed
            while True:
                connections.append(server.accept()[0])
                line = connections[-1].recv(1000).split(b"\r\n")[0].decode()
                if "/api/agent-harnesses" not in line:  # which command asks, not for a repository
                    asked.append(line)
        for connection in connections:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            with suppress(OSError):  # macOS: it is not connected; on Linux `accept` returns
                server.shutdown(socket.SHUT_RDWR)


def test_silent_hub_and_empty_cache_is_refused_after_one_request(tmp_path: Path) -> None:
    """What waits PROBE_SECONDS is the first request; the libraries alone make five for each id."""
    with silent_hub() as (url, asked):
        found = read_all(
            {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}, "gpt2", "cnn"
        )
    # none where a busy machine has not sent it in time
    assert asked in ([], ["GET /api/models/loop/gpt2-small-test HTTP/1.1"])
    assert hub.PROBE_SECONDS <= 5
    assert found["gpt2"].startswith("model.path=loop/gpt2-small-test: not in the local cache")
    assert "model.path=FOLDER" in found["gpt2"]
    assert "hf download loop/gpt2-small-test" in found["gpt2"]
    assert found["cnn"].startswith("data.path=abisee/cnn_dailymail data.subset=3.0.0: not in the")
    assert "data=files data.train=FILE" in found["cnn"]
    assert "hf download abisee/cnn_dailymail --repo-type dataset" in found["cnn"]
    assert "Traceback" not in found["log"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    running = start_hub(tmp_path_factory.mktemp("repositories"))
    yield running
    running.stop()


@pytest.fixture
def online(served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """This process sees the loopback hub, with an empty cache, and forgets it afterwards."""
    from huggingface_hub import constants

    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", served.url)
    template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hub, "_offline_because", None)
    monkeypatch.setattr(hub, "_found", {})
    return served


def test_found_repository_tells_commit_and_files(online: Hub) -> None:
    found = hub.require_hub("loop/gpt2-small-test", "model.path")
    folder = online.repositories["loop/gpt2-small-test"].branches["main"]
    assert found.online
    assert found.commit == commit_of(folder)
    assert found.files == {path.name for path in folder.iterdir()}


def test_hub_is_asked_once_for_each_repository(online: Hub) -> None:
    before = len(online.requests)
    for _ in range(3):
        hub.require_hub("loop/llama-small-test", "model.path")
    assert len(online.requests) == before + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("loop/none", "model.path"), r"model\.path=loop/none: no folder here, and no such model"),
        (("a b", "model.path"), r"model\.path=a b: neither a folder here nor a hub id"),
        (("loop/gated-test", "model.path"), r"model\.path=loop/gated-test: .*hf auth login"),
    ],
)
def test_refusals(online: Hub, arguments: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        hub.require_hub(*arguments)
    assert "\n" not in str(refused.value)
    assert not hub.is_offline()


def test_missing_data_set_and_revision(online: Hub) -> None:
    with pytest.raises(UserError, match=r"data\.path=loop/gpt2-small-test: .*no such data set"):
        hub.require_hub("loop/gpt2-small-test", "data.path", kind="dataset")
    with pytest.raises(UserError, match=r"data\.revision=v9: data set abisee/cnn_dailymail has no"):
        hub.require_hub("abisee/cnn_dailymail", "data.path", kind="dataset", revision="v9")


def test_revision_of_a_data_set_is_known_offline_afterwards(
    online: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"kind": "dataset", "revision": CONVERTED}
    found = hub.require_hub("loop/scripted", "data.path", **asked)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached = hub.require_hub("loop/scripted", "data.path", **asked)
    assert (cached.online, cached.commit) == (False, found.commit)


def test_incomplete_data_set_snapshot_does_not_count(online: Hub) -> None:
    found = hub.require_hub("loop/scripted", "data.path", kind="dataset", revision=CONVERTED)
    hub.download(found, "Abstract/train/*", "data.path")
    pick = ("loop/scripted", "dataset", CONVERTED)
    assert hub.snapshot(*pick, "Abstract/train/*") is not None
    assert hub.snapshot(*pick, "Abstract/*") is None


def test_downloaded_data_set_is_read_offline(
    online: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    repo_id = "abisee/cnn_dailymail"
    given = DataConfig(
        name="cnn",
        source=Source.hub,
        path=repo_id,
        subset="3.0.0",
        train="train",
        document_column="article",
        summary_column="highlights",
    )
    huggingface_hub.hf_hub_download(repo_id, "README.md", repo_type="dataset")
    assert hub.snapshot(repo_id, "dataset", None) is None  # a part is not enough
    huggingface_hub.snapshot_download(repo_id, repo_type="dataset")  # what `hf download` does
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub_dataset._load_split.cache_clear()
    assert len(read_corpus(given, "train").documents) == 24
    hub_dataset._load_split.cache_clear()


def test_no_answer_switches_every_library_off(
    online: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import datasets.config
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with silent_hub() as (url, asked), caplog.at_level(logging.WARNING):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        for name in ("loop/one", "loop/two", "loop/three"):
            with pytest.raises(UserError, match=f"model.path={name}: not in the local cache"):
                hub.require_hub(name, "model.path")
    assert asked in ([], ["GET /api/models/loop/one HTTP/1.1"])  # only the first one waited
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert huggingface_hub.is_offline_mode()
    assert datasets.config.HF_HUB_OFFLINE
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_failing_hub_counts_as_no_answer(online: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", online.url + "/broken")
    monkeypatch.setattr(hub, "_OFFLINE_SWITCHES", ())
    with pytest.raises(UserError, match="not in the local cache, and the hub is not used because"):
        hub.require_hub("loop/one", "model.path")
