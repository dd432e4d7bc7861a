"""What `checkpoint=` brings along, and that no text is changed on its way through Hydra."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from sumcirc.cli import command, words
from sumcirc.cli.overrides import overrides_of
from sumcirc.errors import UserError
from sumcirc.models.model_reference import reference
from sumcirc.schema import Source, TrainConfig, configuration
from sumcirc.schema.configuration import quoted
from sumcirc.tracking.run_directory import RunDirectory
from sumcirc.tracking.session import plain

ODD = [
    "plain",
    "",
    " spaces around ",
    "a,b,c",
    "[1,2]",
    "{document}\nTL;DR:",
    "k=v",
    "null",
    "true",
    "12",
    "1e-3",
    "it's",
    'say "no"',
    "'quoted'",
    "back\\slash",
    "ends in \\",
    "ends in \\\\",
    "\\'",
    "tab\tand\r\nlines\n",
    "${seed}",
    "\\${seed}",
    "a\\\\${seed}b",
    "${",
    "$(touch x)",
    "~/home",
    "choice(a,b)",
    "# no comment",
    "a: b",
    "???x",
    "ünï “quotes” 😀",
]


@pytest.fixture(autouse=True)
def _register() -> None:
    configuration.register()


def through_hydra(*overrides: str) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(command.CONF)):
        return configuration.typed(compose("evaluate", ["sweep.name=x", *overrides]))


@pytest.mark.parametrize("text", ODD)
def test_any_text_survives(text: str) -> None:
    parsed = OverridesParser.create().parse_override(f"key={quoted(text)}")
    assert not parsed.is_sweep_override()
    config = through_hydra(f"model.path={quoted(text)}", f"logger.tags=[{quoted(text or '-')},x]")
    assert config.model.path == text
    assert config.logger.tags == [text or "-", "x"]


def trained_run(folder: Path, *overrides: str) -> tuple[RunDirectory, TrainConfig]:
    """A run directory as training leaves it, without weights."""
    config = command.compose(command.read("train", [*overrides]))[0]
    run = RunDirectory.create(folder, "train", plain(config))
    return run, config


def test_a_run_brings_its_model_data_encoding_and_decoding(tmp_path: Path) -> None:
    run, trained = trained_run(
        tmp_path / "lora-2,3,5-r16-s1",
        "model=gpt2",
        "model.path='x,y {z} ${seed}'".replace("${", "\\${"),
        "data=xsum",
        "data.sizes.test=50",
        "data.sizes.train=null",
        "data.seed=3",
        r"encoding.prompt='It\'s, {document}"
        "\n"
        "= [so]:'",
        "encoding.max_length=99",
        "generation.num_beams=4",
        "generation.length_penalty=0.6",
        "evaluation.base=false",
        "trainer.max_steps=5",
        "logger=none",
        "seed=7",
    )
    found = through_hydra(*overrides_of(str(run.path), set()))
    for section in ("model", "data", "encoding", "generation", "evaluation"):
        assert getattr(found, section) == getattr(trained, section), section
    assert found.model.path == "x,y {z} ${seed}"
    assert found.encoding.prompt == "It's, {document}\n= [so]:"
    assert found.data.source is Source.hub
    assert found.seed == 1, "what trains is not brought"
    assert found.trainer.max_steps is None


def test_the_command_line_wins(tmp_path: Path) -> None:
    run, _ = trained_run(tmp_path / "run", "data=xsum", "generation.num_beams=4")
    given = [f"checkpoint={run.path}", "generation.num_beams=2", "data.sizes.test=9"]
    found = command.compose(command.read("evaluate", given))[0]
    assert (found.generation.num_beams, found.data.name, found.data.sizes.test) == (2, "xsum", 9)
    assert found.checkpoint == str(run.path)
    other = command.compose(command.read("evaluate", [*given, "data=samsum"]))[0]
    assert (other.data.name, other.data.document_column) == ("samsum", "dialogue")


@pytest.mark.parametrize("base", ["gpt2", "some/folder, with commas", "{tmp}/abs {x}"])
def test_an_adapter_brings_its_base(tmp_path: Path, base: str) -> None:
    base = base.replace("{tmp}", str(tmp_path))
    (tmp_path / "abs {x}").mkdir()
    folder = tmp_path / "my adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    found = through_hydra(*overrides_of(str(folder), set()))
    assert (found.model.path, found.model.name) == (base, "my adapter")
    assert (found.model.revision, found.model.tokenizer) == (None, None)
    assert reference(str(folder), "checkpoint").weights == folder


def test_an_adapter_brings_its_tokenizer_and_revision(tmp_path: Path) -> None:
    described = {"base_model_name_or_path": "owner/model", "revision": "v1"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(described))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    brought = overrides_of(str(tmp_path), set())
    found = through_hydra(*brought).model
    assert (found.path, found.revision, found.tokenizer) == ("owner/model", "v1", str(tmp_path))
    own = through_hydra(*brought, "model.revision=v2", "model.tokenizer=other").model
    assert (own.revision, own.tokenizer) == ("v2", "other")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base_model_name_or_path": null}', "\xff"])
def test_an_adapter_without_a_base(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"^checkpoint=.*adapter_config\.json"):
        overrides_of(str(tmp_path), set())


def test_a_folder_and_a_hub_id_are_the_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.yaml").write_text("a file that many a model folder has\n")
    for checkpoint, name in ((str(folder), "model"), ("openai-community/gpt2", "gpt2")):
        found = through_hydra(*overrides_of(checkpoint, set()))
        assert (found.model.path, found.model.name) == (checkpoint, name)
        assert reference(checkpoint, "checkpoint").weights is None


def test_weights_of_a_run(tmp_path: Path) -> None:
    run, _ = trained_run(tmp_path / "run")
    with pytest.raises(UserError, match="did not finish"):
        reference(str(run.path), "checkpoint")
    run.model.mkdir()
    assert reference(str(run.path), "checkpoint").weights == run.path / "model"


def test_a_run_that_trained_nothing(tmp_path: Path) -> None:
    config = command.compose(command.read("evaluate", []))[0]
    run = RunDirectory.create(tmp_path / "run", "evaluate", plain(config))
    calls = (overrides_of, set()), (reference, "checkpoint")
    for call, argument in calls:
        with pytest.raises(UserError, match="is a run of `sumcirc evaluate`"):
            call(str(run.path), argument)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model", "model: checkpoint=x provides its model; leave model= out"),
        ("model.path", "model.path: checkpoint=x provides its model; leave model.path= out"),
        ("experiment", "checkpoint=x: provides its own settings, so experiment= has no effect"),
    ],
)
def test_what_cannot_stand_beside_it(given: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        overrides_of("x", {"checkpoint", given})


def test_a_list_of_arms_is_no_path() -> None:
    """`against` is a path of `sumcirc circuit`, and a list of `sumcirc report`."""
    assert words.quoted_value("against=[all,random]") == "against=[all,random]"
    assert words.quoted_value("against=a,b") == "against=a,b"  # arms, or a sweep with -m


def test_jobs_by_seed_start_with_all_configurations_of_the_first() -> None:
    words = ["-m", "adaptation=lora", "adaptation.layers=[0,1],[2,3]", "seed=2,1", "sweep.name=s"]
    typed, ordered = [], []
    for order, names in (("typed", typed), ("seed", ordered)):
        given = command.read("train", [*words, f"sweep.order={order}"])
        given, configs = command.ordered(given, command.compose(given))
        # the order in which Hydra's sweeper will compose the jobs again
        assert [one.run.name for one in command.compose(given)] == [one.run.name for one in configs]
        names += [(one.seed, one.adaptation.layers) for one in configs]
    assert typed == [(2, [0, 1]), (1, [0, 1]), (2, [2, 3]), (1, [2, 3])]
    assert ordered == [(2, [0, 1]), (2, [2, 3]), (1, [0, 1]), (1, [2, 3])]
