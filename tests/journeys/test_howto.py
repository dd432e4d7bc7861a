"""How-to pages that extend the program: what they save is saved, what they run is run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from sumcirc.cli import command
from sumcirc.schema import configuration
from sumcirc.tracking.measure_records import read_metrics
from tests.support.command_server import CommandServer
from tests.support.processes import ROOT

HOWTO = ROOT / "docs" / "howto"


def save_modules(page: str, folder: Path) -> None:
    """Python blocks that name their file in their first line."""
    for name, body in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page, re.DOTALL):
        (folder / name).write_text(body)


def save_configurations(page: str, folder: Path) -> None:
    """YAML blocks that name their file in their first line."""
    for name, body in re.findall(r"```yaml\n# (my_conf/\S+)\n(.*?)```", page, re.DOTALL):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body)


def lines(page: str) -> list[list[str]]:
    """Words of every `sumcirc` command."""
    return [shlex.split(line) for line in re.findall(r"^    sumcirc (.*)$", page, re.MULTILINE)]


def exported(page: str) -> dict[str, str]:
    """What the page's first `export` sets."""
    line = re.search(r"^    export (.*)$", page, re.MULTILINE)
    assert line
    return dict(word.split("=", 1) for word in shlex.split(line[1]))


def test_the_callback_watches_a_run(
    commands: CommandServer, small_run: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    page = (HOWTO / "callback.md").read_text()
    save_modules(page, tmp_path)
    (words,) = [one for one in lines(page) if any("my_watchers" in word for word in one)]
    words = [word.replace("every: 50", "every: 4") for word in words]
    words = [*words, *small_run, "sweep.name=s", "run.name=r"]
    done = commands.run(*words, cwd=tmp_path, environment=exported(page), figures=False)
    assert done.code == 0, done.output
    metrics: Any = read_metrics(tmp_path / "runs/s/r/metrics.csv")
    moved = {(step, name): value for step, name, value in metrics if "adapter/moved" in name}
    assert {step for step, _ in moved} == {4, 8, 12}
    base, other = (AutoModelForCausalLM.from_pretrained(gpt2_folder) for _ in range(2))
    adapted = PeftModel.from_pretrained(other, str(tmp_path / "runs/s/r/adapter"))
    merged: Any = adapted.merge_and_unload()  # type: ignore[operator]
    linears = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    weights = [
        [model.get_submodule(f"transformer.h.1.{name}").weight for name in linears]
        for model in (base, merged)
    ]
    change = sum((two - one).square().sum().item() for one, two in zip(*weights, strict=True))
    size = sum(one.square().sum().item() for one in weights[0])
    assert moved[12, "adapter/moved/layer_01"] == pytest.approx((change / size) ** 0.5, rel=1e-4)


def test_a_watcher_of_your_own_shares_the_measurement(
    commands: CommandServer, small_run: list[str], tmp_path: Path
) -> None:
    """Alone it gets its measures too, on the schedule of the built-in watchers."""
    page = (HOWTO / "callback.md").read_text()
    save_modules(page, tmp_path)
    (typed,) = re.findall(r"^    (SUMCIRC_NAMESPACES=sharp.*) sumcirc (.*)$", page, re.MULTILINE)
    environment = dict(word.split("=", 1) for word in shlex.split(typed[0]))
    words = [*shlex.split(typed[1]), *small_run, "callbacks.watch=[]", "run.name=r"]
    words = [*words, "sweep.name=s", "callbacks.schedule.points=1"]
    done = commands.run(*words, cwd=tmp_path, environment=environment, figures=False)
    assert done.code == 0, done.output
    metrics: Any = read_metrics(tmp_path / "runs/s/r/metrics.csv")
    found = {step: value for step, name, value in metrics if name == "heads/sharp"}
    base = {value for _, name, value in metrics if name == "heads/sharp_base"}
    assert list(found) == [0, 3, 12]
    assert base == {found[0]}
    assert 0 <= found[12] <= 1


def test_the_selector_ranks(commands: CommandServer, small_run: list[str], tmp_path: Path) -> None:
    page = (HOWTO / "selector.md").read_text()
    save_modules(page, tmp_path)
    words = lines(page)[0]
    assert words[0] == "select"
    kept = [word for word in words if "budget" not in word]
    read = ("model.", "data", "logger=", "trainer.threads=")
    words = [*kept, *(word for word in small_run if word.startswith(read))]
    words += ["adaptation.budget=5000", "selector.documents=6"]
    done = commands.run(*words, cwd=tmp_path, environment=exported(page), figures=False)
    assert done.code == 0, done.output
    assert "selector=my_selectors.growth" in done.output
    (file,) = tmp_path.glob("runs/*/*/ranking.json")
    ranking = json.loads(file.read_text())
    assert ranking["selector"] == "my_selectors.growth"
    assert ranking["size"] == 6
    assert all(one["score"] > 0 for one in ranking["ranking"])


@pytest.mark.parametrize("name", ["own-data", "own-model", "callback", "selector"])
def test_choices_of_a_folder_of_your_own_compose(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (HOWTO / f"{name}.md").read_text()
    save_configurations(page, tmp_path)
    (file,) = (tmp_path / "my_conf").glob("*/*.yaml")
    monkeypatch.chdir(tmp_path)
    configuration.register()
    words = next(one for one in lines(page) if "--config-dir" in one)
    # of a sweep its first run
    words = [re.sub(r"=([^,\[]*),.*", r"=\1", word) for word in words if word != "-m"]
    assert f"{file.parent.name}={file.stem}" in words
    config = command.compose(command.read(words[0], words[1:]))[0]
    section = getattr(config, file.parent.name)
    if name == "callback":
        assert section.extra["norm"]["every"] == 50
        assert section.watch
    elif name == "selector":
        assert section.score == "my_selectors.growth"
    else:
        assert section.name == ("abstracts" if name == "own-data" else "mine")
