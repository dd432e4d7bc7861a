"""`sumcirc pairs` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_server import CommandServer

QUICK = ["documents=4", "trainer.threads=1"]


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def words(gpt2_folder: Path, news_files: dict[str, Path]) -> list[str]:
    files = [f"data.{split}={path}" for split, path in news_files.items()]
    return [f"model.path={gpt2_folder}", "data=files", *files, "trainer.threads=1"]


def test_pairs_of_the_wire_then_their_circuit(commands: CommandServer, tmp_path: Path) -> None:
    """The file gives the circuit that the data gives, score by score."""
    done = commands.run("pairs", "out=a b/pairs.jsonl", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.output
    lines = read(tmp_path / "a b" / "pairs.jsonl")
    assert f"counterfactual: {len(lines)} pairs from 4 documents" in done.output
    for line in lines:
        assert line["loss"]["corrupted"] > line["loss"]["clean"]
        assert line["corruption"] == "counterfactual"
        assert len(line["clean_ids"]) == len(line["corrupted_ids"])
    assert list(tmp_path.iterdir()) == [tmp_path / "a b"]

    short = [
        *("circuit.sizes=[1.0]", "circuit.random_circuits=1", "circuit.resamples=2"),
        *("logger=none", "circuit.metric=kl", "circuit.steps=1", "trainer.threads=1"),
    ]
    scores = []
    for source in (["pairs=a b/pairs.jsonl"], ["data=wire", "circuit.documents=4"]):
        done = commands.run(
            "circuit", *source, *short, f"sweep.name=s{len(scores)}", cwd=tmp_path, figures=False
        )
        assert done.code == 0, done.output
        (run,) = (tmp_path / "runs" / f"s{len(scores)}").iterdir()
        scores.append((run / "circuits" / "circuit.json").read_text())
    assert scores[0] == scores[1]


def test_what_is_left_out_is_counted(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    filtered = commands.run("pairs", "out=a.jsonl", "corruption=replace", *words, cwd=tmp_path)
    everything = commands.run(
        "pairs", "out=b.jsonl", "corruption=replace", "filter=false", *words, cwd=tmp_path
    )
    assert filtered.code == everything.code == 0, filtered.output
    kept, made = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    # weights are random: corruption raises the loss of some
    assert 0 < len(kept) < len(made)
    told = f"{len(made) - len(kept)} of {len(made)} pairs are left out: nll does not rise"
    assert told in filtered.output
    assert "left out" not in everything.output
    assert not any("loss" in line for line in made)
    assert {line["id"] for line in kept} < {line["id"] for line in made}


def test_several_corruptions_by_a_sweep(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    sweep = ["-m", "corruption=replace,shuffled", "out=p-${corruption}.jsonl"]
    done = commands.run("pairs", *sweep, "filter=false", *words, cwd=tmp_path)
    assert done.code == 0, done.output
    for corruption in ("replace", "shuffled"):
        assert {x["corruption"] for x in read(tmp_path / f"p-{corruption}.jsonl")} == {corruption}
    # Hydra's own record of a sweep
    assert {file.name for file in tmp_path.iterdir()} - {"multirun.yaml"} == {
        *("p-replace.jsonl", "p-shuffled.jsonl"),
    }


def test_an_existing_file_is_kept_unless_said_otherwise(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "pairs.jsonl"
    out.write_text("mine")
    given = ["out=pairs.jsonl", "corruption=replace", "filter=false", *words]
    done = commands.run("pairs", *given, cwd=tmp_path)
    assert done.code == 2
    assert "out=pairs.jsonl: exists already; name a new file or set overwrite=true" in done.output
    assert out.read_text() == "mine"
    done = commands.run("pairs", *given, "overwrite=true", cwd=tmp_path)
    assert done.code == 0, done.output
    assert len(read(out)) == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["out=folder"], "out=folder: holds JSON lines; name it NAME.jsonl"),
        (["out=."], "out=.: is a folder"),
        (
            ["out=a.jsonl", "corruption=counterfactual"],
            "corruption=counterfactual: is for data=wire",
        ),
        (["out=a.jsonl", "split=dev"], "split=dev: choose from train, validation, test"),
        (["out=a.jsonl", "documents=0"], "documents=0: must be 1 or more"),
        (["out=a.jsonl", "metric=auto"], "metric=auto"),
        (["out=a.jsonl", "logger=none"], "logger=none: this verb has no such group; leave it out"),
        ([], "out: is not set; give out=VALUE"),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer, words: list[str], tmp_path: Path, given: list[str], message: str
) -> None:
    assert message in commands.run("pairs", *given, *words, cwd=tmp_path).refusal
    assert not list(tmp_path.iterdir())


def test_a_swap_says_what_it_exchanged(commands: CommandServer, tmp_path: Path) -> None:
    """In the file, in the counts of both commands, and in the circuit's records."""
    topics = ("The bill is due. I can wait.", "We met at noon. It was long.", "It rained all day.")
    rows = [
        {
            "document": f"#Person1#: {topic}\n#Person2#: I see what you mean.",
            "summary": f"#Person1# tells #Person2# about it. {topic}",
        }
        for topic in topics
    ]
    data = tmp_path / "talks.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["trainer.threads=1"]
    files = ["data=files", f"data.test={data}", f"data.train={data}", f"data.validation={data}"]
    done = commands.run(
        "pairs", "out=p.jsonl", "corruption=swap", "filter=false", *files, *words, cwd=tmp_path
    )
    assert done.code == 0, done.output
    told = "3 of 3 pairs exchange words (pairs by kind: speaker 3)"
    assert f"documents: {told}" in done.output
    for line in read(tmp_path / "p.jsonl"):
        assert {one["name"] for one in line["exchanged"]} == {"speaker"}
        places = [line["clean"][slice(*one["characters"])] for one in line["exchanged"]]
        assert [place.strip() for place in places] == ["#Person1#", "#Person2#"]
        for one in line["exchanged"]:
            clean, corrupted = (
                line[ids][slice(*one["tokens"])] for ids in ("clean_ids", "corrupted_ids")
            )
            assert clean != corrupted
        assert "#Person2# tells #Person1# about it." in line["bad"]

    short = ["circuit.sizes=[1.0]", "circuit.random_circuits=1", "circuit.resamples=2"]
    short += ["circuit.metric=kl", "circuit.steps=1", "logger=none"]
    done = commands.run("circuit", "pairs=p.jsonl", *short, *words, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (summary,) = tmp_path.glob("runs/*/*/summary.json")
    notices = json.loads(summary.read_text())["notices"]
    assert f"pairs: {told}" in [one["text"] for one in notices]
    assert not any(one["warning"] for one in notices if one["reason"] == "exchanged")
