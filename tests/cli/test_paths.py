"""Values that are paths, and what a run brings to another command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sumcirc.cli import command
from sumcirc.cli import main as cli
from sumcirc.errors import UserError
from sumcirc.schema import EncodingConfig, Template

Main = Callable[..., str]


def test_pairs_take_model_and_data_of_a_run(finished_run: Path) -> None:
    """Decoding, which a run has and the verb has not, stays behind."""
    given = command.read("pairs", [f"checkpoint={finished_run}", "out=~/a b.jsonl", "data.seed=7"])
    (config,) = command.compose(given)
    assert config.checkpoint == str(finished_run)
    assert (config.model.name, config.data.name, config.data.seed) == ("tiny", "wire", 7)
    assert config.out == str(Path("~/a b.jsonl").expanduser())


@pytest.mark.parametrize(
    ("own", "typed"),
    [
        ({"prompt": "{document} In short:"}, "chat"),
        ({"template": "chat", "instruction": "Shorten {document}", "system": "Be brief."}, "text"),
    ],
)
def test_another_template_leaves_the_texts_of_the_runs_own_behind(
    finished_run: Path, own: dict[str, str], typed: str
) -> None:
    file = finished_run / "config.yaml"
    body = yaml.safe_load(file.read_text())
    body["config"]["encoding"] |= {**own, "max_length": 99}
    file.write_text(yaml.safe_dump(body))
    at = [f"checkpoint={finished_run}"]
    (config,) = command.compose(command.read("evaluate", at))
    assert config.encoding == EncodingConfig(**own, max_length=99)  # type: ignore[arg-type]
    (config,) = command.compose(command.read("evaluate", [*at, f"encoding.template={typed}"]))
    assert config.encoding == EncodingConfig(template=Template.of(typed, "x"), max_length=99)
    # what is typed is refused, where it is not used
    given = command.read("evaluate", [*at, f"encoding.template={typed}", "encoding.system=A."])
    if typed == "text":
        with pytest.raises(UserError, match=r"^encoding\.system='A\.': is not used"):
            command.compose(given)
    else:
        assert command.compose(given)[0].encoding.system == "A."


# ---- values that are paths


@pytest.mark.parametrize(
    "name", ["a,b", "x=1", "with space", "[z]", "ünï", "q'uote", "{b}", "$(c)"]
)
def test_a_path_needs_no_quotes_for_hydra(jobs: list[tuple[Any, Path]], name: str) -> None:
    Path(name).mkdir()
    cli.main(["train", f"model.path={name}", f"runs_dir={name}/runs"])
    config, folder = jobs[0]
    assert config.model.path == name
    assert folder.parents[1] == Path.cwd() / name / "runs"


def test_a_home_folder_is_found(jobs: list[tuple[Any, Path]], tmp_path: Path) -> None:
    os.environ["HOME"], before = str(tmp_path / "home"), os.environ["HOME"]
    try:
        cli.main(["train", "runs_dir=~/runs"])
    finally:
        os.environ["HOME"] = before
    assert jobs[0][1].is_relative_to(tmp_path / "home/runs")


def test_an_interpolation_in_a_path_is_resolved(jobs: list[tuple[Any, Path]]) -> None:
    cli.main(["train", "runs_dir=${data.name}/runs"])
    assert jobs[0][1].parents[1] == Path.cwd() / "wire/runs"


def test_a_folder_named_like_a_choice_changes_nothing(jobs: list[tuple[Any, Path]]) -> None:
    for name in ("tiny", "1", "null", "full"):
        Path(name).mkdir()
    cli.main(["train", "model=tiny", "seed=1", "adaptation=full", "trainer.max_steps=null"])
    config, _ = jobs[0]
    assert (config.model.path, config.seed, config.trainer.max_steps) == ("tiny", 1, None)


def test_a_model_path_alone_is_not_the_built_in_model(jobs: list[tuple[Any, Path]]) -> None:
    cli.main(["train", "model.path=some/folder"])
    cli.main(["train", "model.path=some/folder", "model.name=x", "model.learning_rate=1e-4"])
    cli.main(["train", "model=gpt2-xl", "model.path=some/folder"])
    found = [(config.model.name, config.model.learning_rate) for config, _ in jobs]
    assert found == [("folder", 5e-5), ("x", 1e-4), ("gpt2-xl", 2e-5)]
    assert {config.model.path for config, _ in jobs} == {"some/folder"}
