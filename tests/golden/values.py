"""Numbers that a restructuring must not change: what every verb writes, by family, in float64.

The verbs run as a user would type them, on small random models, and every number in their run
directories is reduced to a few sums. Only the command line and the files of a run directory are
used, so the same script runs before and after code has moved:

    python -m tests.golden.values write FILE           # before, for all families
    python -m tests.golden.values check FILE           # after; code 1 if any differs
    python -m tests.golden.values check FILE mistral   # after, for one family
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-9  # relative to the sum of absolute values
ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3")
LAYERS, WIDTH, HEADS, CONTEXT = 3, 32, 4, 256

# keys of values that differ between two runs of one program, or that say where it ran
PASSING = re.compile(
    r"second|time|throughput|tokens_per|memory|version|commit|created|started|ended|moment|host"
    r"|pid|python|fingerprint|hash|format|(^|/)bytes"
)
SKIPPED_FILES = {
    "adapter_config.json",
    "status.json",
    "config.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
}
DEPTH = {"summary.json": 3, "metrics.csv": 9}  # levels of keys that are told apart, else 1

SMALL = (
    *("data=wire", "logger=none", "trainer=cpu", "trainer.threads=1"),
    *("data.sizes.train=16", "data.sizes.validation=8", "data.sizes.test=8"),
    "sweep.name=golden",
)
SCORED = ("generation.max_new_tokens=12", "evaluation.bootstrap=100")
TRAIN = (
    *SCORED,
    *("adaptation=lora", "adaptation.rank=2", "trainer.max_steps=4", "trainer.batch_size=4"),
    *("trainer.validate_every=2", "trainer.log_every=1", "callbacks=circuits"),
    *("callbacks.progress=false", "callbacks.probes.documents=8", "callbacks.schedule.points=1"),
    *("callbacks.circuit.documents=8", "callbacks.circuit.sizes=[0.05,1.0]"),
    "callbacks.circuit.resamples=10",
)
CIRCUIT = ("circuit.documents=8", "circuit.sizes=[0.05,0.2,1.0]", "circuit.resamples=10")
COMPARE = ("compare.items=8", "compare.random_sets=2", "compare.top=2")
SELECT = ("selector.documents=16", "selector.resamples=20", "selector.probe_steps=3")
METHODS = ("eap_ig_inputs", "eap", "clean_corrupted", "eap_ig_activations", "relp", "exact")
CORRUPTIONS = ("twin", "replace", "swap", "control", "shuffled")
RULES = ("left", "right", "midpoint", "gauss_legendre")
PARTS = "[output,query,key,value,pattern,attention,mlp,residual,readout]"
SELECTORS = (
    *("first", "middle", "last", "random", "circuit", "circuit_delta", "attention_kl", "entropy"),
    *("drift", "cka_redundancy", "page", "fisher", "gradient_norm", "all"),
)


def commands(folder: Path, family: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each run and the words after `sumcirc`."""
    # the tied GPT-2 and the grouped-query Llama get every method, the others the main ones
    whole = family in ("gpt2", "llama")
    model = f"model.path={folder / family}"
    # Qwen 2 splits the built-in tokenizer's texts otherwise, so the wire's facts don't align
    aligned = family != "qwen2"
    tracked = () if aligned else ("callbacks.circuit.corruption=replace",)
    yield "lora", ("train", model, *SMALL, *TRAIN, *tracked)
    run = folder / "runs" / "golden" / f"{family}-lora"
    if whole:
        full = [word for word in TRAIN if not word.startswith("adaptation")]
        yield "full", ("train", model, "adaptation=full", *SMALL, *full)
        yield "beams", ("evaluate", f"checkpoint={run}", *SMALL, *SCORED, "generation.num_beams=2")
    first = ("circuit.method=eap_ig_inputs",)
    settings: list[tuple[str, ...]] = [first if aligned else (*first, "circuit.corruption=replace")]
    if whole:
        # the divergence from the clean run has no gradient at the clean run
        settings += [(f"circuit.method={name}", "circuit.metric=surprise") for name in METHODS[1:]]
        settings += [(f"circuit.corruption={name}",) for name in CORRUPTIONS[1:]]
        settings += [("circuit.metric=surprise",)]
        # few documents have a fact whose logit corruption lowers
        more = ("circuit.documents=16", "data.sizes.test=16")
        settings += [("circuit.metric=logit_difference", *more)]
        settings += [(f"circuit.rule={name}",) for name in RULES if name != "midpoint"]
    for words in settings:
        name = words[0].removeprefix("circuit.")
        yield name, ("circuit", f"checkpoint={run}", *SMALL, *CIRCUIT, *words)
    parts = f"compare.parts={PARTS}"
    yield "compare", ("compare", f"after={run}", *SMALL, *COMPARE, parts)
    if whole:
        yield "facts", ("compare", f"after={run}", "prompts=facts", *SMALL, *COMPARE, parts)
        yield "compare_full", ("compare", f"after={run}/../{family}-full", *SMALL, *COMPARE)
    for selector in SELECTORS if whole else ("circuit", "page"):
        size = ("adaptation.budget=3000", f"selector={selector}")
        other = () if aligned else ("selector.corruption=replace",)
        yield f"select_{selector}", ("select", model, *SMALL, *SELECT, *size, *other)
    modules = ("selector=fisher", "adaptation.granularity=module", "adaptation.rank=2")
    yield "select_modules", ("select", model, *SMALL, *SELECT, *modules)


def write_models(folder: Path) -> None:
    """Write a float64 model of each family, far from symmetric, with the built-in tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(files("sumcirc") / "assets" / "tiny"))
    ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    for number, family in enumerate(ARCHITECTURES):
        shape = {
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "num_attention_heads": HEADS,
            "max_position_embeddings": CONTEXT,
            "intermediate_size": 48,
        }
        if family == "gpt2":
            shape = {"n_layer": LAYERS, "n_embd": WIDTH, "n_head": HEADS, "n_positions": CONTEXT}
            shape |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        elif family != "gpt_neox":
            shape |= {"num_key_value_heads": 2, "head_dim": WIDTH // HEADS}
        torch.manual_seed(number)
        config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **shape, **ends)
        model = AutoModelForCausalLM.from_config(config).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, dtype=torch.float64))
        model.save_pretrained(folder / family)
        tokenizer.save_pretrained(folder / family)


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Load every model in float64, whatever precision the program asks for."""
    import torch
    from transformers import AutoModelForCausalLM

    load = AutoModelForCausalLM.from_pretrained

    def in_double(*arguments: Any, **options: Any) -> Any:
        return load(*arguments, **{**options, "dtype": torch.float64})

    AutoModelForCausalLM.from_pretrained = in_double
    try:
        yield
    finally:
        AutoModelForCausalLM.from_pretrained = load


def run(words: tuple[str, ...]) -> None:
    """Run `sumcirc WORDS` in this process.

    Raises:
        RuntimeError: it ended with another code than 0; what it printed is in the message.
    """
    printed = io.StringIO()
    before = sys.argv
    sys.argv = ["sumcirc", *words]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            runpy.run_module("sumcirc", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{' '.join(words)}\n{printed.getvalue()[-3000:]}") from end
    finally:
        sys.argv = before


def numbers_of(run_directory: Path) -> dict[str, np.ndarray]:
    """Every number in the files of a run directory, by file and key."""
    import pyarrow.parquet as pq
    from safetensors import safe_open

    found: dict[str, np.ndarray] = {}
    for file in sorted(run_directory.rglob("*")):
        name = file.relative_to(run_directory).as_posix()
        top = name.split("/")[0]
        if top in ("checkpoints", "figures", "wandb", ".hydra") or file.name in SKIPPED_FILES:
            continue
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    found[f"{name}/{key}"] = tensors.get_tensor(key).astype(np.float64)
        elif file.suffix == ".parquet":
            table = pq.read_table(file)
            for key, column in zip(table.column_names, table.columns, strict=True):
                values = column.to_pylist()
                if all(isinstance(value, int | float) or value is None for value in values):
                    kept = [np.nan if value is None else value for value in values]
                    found[f"{name}/{key}"] = np.array(kept, dtype=np.float64)
        elif file.name == "metrics.csv":
            for line in file.read_text().splitlines()[1:]:
                step, key, value = line.rsplit(",", 2)
                found[f"{name}/{key}/{step}"] = np.array(float(value))
        elif file.suffix == ".json":
            for key, value in _leaves(json.loads(file.read_text())):
                found[f"{name}/{key}"] = value
    groups: dict[str, list[np.ndarray]] = {}
    for key, value in found.items():
        if not PASSING.search(key):
            groups.setdefault(_group(key), []).append(value.ravel())
    return {name: np.concatenate(parts) for name, parts in groups.items()}


def _group(key: str) -> str:
    """The file and the first levels of a key: rows, steps and list entries are taken together."""
    file, *levels = re.split(r"(?<=\.json)/|(?<=\.csv)/|(?<=\.parquet)/|(?<=\.safetensors)/", key)
    names = [name for name in "/".join(levels).split("/") if not name.isdigit()]
    return "/".join([file, *names[: DEPTH.get(file, 1)]])


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}/{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(x, int | float) for x in value):
        yield prefix, np.array(value, dtype=np.float64)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, f"{prefix}/{number}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield prefix, np.array(value, dtype=np.float64)


def reduced(values: np.ndarray) -> list[float]:
    """Count, count of values that are not finite, sums of x, w x and |x|, and of w asinh(x / 1e-6).

    The weights w are fixed. The last sum moves with the relative error of every value, however
    small it is beside the others.
    """
    finite = np.isfinite(values)
    kept = np.where(finite, values, 0.0)
    weights = np.cos(np.arange(1, len(values) + 1) * 0.7)
    sums = [kept.sum(), kept @ weights, np.abs(kept).sum(), np.arcsinh(1e6 * kept) @ weights]
    return [len(values), int((~finite).sum()), *map(float, sums)]


def differs(one: list[float], other: list[float]) -> bool:
    """Whether two reduced arrays differ by more than rounding."""
    if one[:2] != other[:2]:
        return True
    scale = max(one[4], other[4], 1e-3)
    changes = [abs(a - b) for a, b in zip(one[2:], other[2:], strict=True)]
    return max(changes[:3]) > TOLERANCE * scale or changes[3] > 10 * TOLERANCE * max(one[0], 10)


def all_values(families: tuple[str, ...] = ARCHITECTURES) -> dict[str, list[float]]:
    """Run every command and reduce every number that it wrote."""
    found: dict[str, list[float]] = {}
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="sumcirc-golden-") as name, double_precision():
        folder = Path(name)
        os.environ["SUMCIRC_CACHE"] = str(folder / "cache")
        os.environ["HF_HUB_OFFLINE"] = "1"
        write_models(folder)
        os.chdir(folder)
        try:
            for family in families:
                for label, words in commands(folder, family):
                    run_name = f"{family}-{label.replace('=', '-')}"
                    print(run_name, file=sys.stderr, flush=True)
                    try:
                        run((*words, f"run.name={run_name}"))
                    except RuntimeError as error:
                        # random models may have no circuit, or a ranking of chance
                        if " chance (p = " not in str(error) and "to rank" not in str(error):
                            raise
                        found[f"{run_name}/refused"] = reduced(np.ones(1))
                        continue
                    directory = folder / "runs" / "golden" / run_name
                    for key, values in numbers_of(directory).items():
                        found[f"{run_name}/{key}"] = reduced(values)
        finally:
            os.chdir(before)
    return found


def main() -> int:
    """Write or check the values."""
    mode, file, *families = sys.argv[1:]
    chosen = tuple(families) or ARCHITECTURES
    found = all_values(chosen)
    if mode == "write":
        rows = [f"{json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found)]
        Path(file).write_text("{\n" + ",\n".join(rows) + "\n}\n")
        print(f"{len(found)} values of {len(chosen)} families")
        return 0
    stored = json.loads(Path(file).read_text())
    stored = {key: row for key, row in stored.items() if key.split("-")[0] in chosen}
    missing = sorted(stored.keys() - found.keys())
    changed = [key for key in stored if key in found and differs(stored[key], found[key])]
    for key in missing:
        print(f"missing  {key}")
    for key in changed:
        print(f"changed  {key}: {stored[key]} -> {found[key]}")
    new = len(found.keys() - stored.keys())
    print(f"{len(stored)} stored, {len(missing)} missing, {len(changed)} changed, {new} new")
    return 1 if missing or changed else 0


if __name__ == "__main__":
    sys.exit(main())
