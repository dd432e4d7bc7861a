"""What one verb has computed, another reads: the cache under the names that users see."""

from __future__ import annotations

import json
from pathlib import Path

from sumcirc.data.documents import Document
from sumcirc.measures.measure_documents import in_drawn_order
from tests.support.command_server import CommandServer


def test_compare_reads_what_training_measured_of_the_base(
    commands: CommandServer, small_run: list[str], news_files: dict[str, Path], tmp_path: Path
) -> None:
    """On the same documents, which training takes of data.validation and compare of data.test."""
    rows = [json.loads(line) for line in news_files["validation"].read_text().splitlines()[:3]]
    items = [Document(f"d{i}", row["document"], (row["summary"],)) for i, row in enumerate(rows)]
    both = tmp_path / "both.jsonl"
    with both.open("w") as file:
        for item in in_drawn_order(items, 0):
            row = {"id": item.id, "document": item.document, "summary": item.references[0]}
            file.write(json.dumps(row) + "\n")
    training = tmp_path / "training.jsonl"
    training.write_text(
        "".join(
            json.dumps({"id": f"t{i}", **json.loads(line)}) + "\n"
            for i, line in enumerate(news_files["train"].read_text().splitlines())
        )
    )
    watched = [
        *("callbacks.watch=[attention_entropy]", "adaptation=lora", "adaptation.rank=2"),
        *(f"data.train={training}", f"data.validation={both}", f"data.test={both}"),
        *("data.id_column=id", "trainer.max_steps=2"),
    ]
    cache = tmp_path / "cache"
    shared = f"cache_dir={cache}"
    done = commands.run(
        "train",
        *small_run,
        *watched,
        shared,
        "sweep.name=t",
        "run.name=r",
        cwd=tmp_path,
        figures=False,
    )
    assert done.code == 0, done.output
    (entry,) = (one for one in (cache / "bases").iterdir() if one.is_dir())
    written = {file.name: file.stat().st_mtime_ns for file in entry.iterdir()}
    done = commands.run(
        *("compare", "after=runs/t/r", "compare.items=3", "compare.batch_size=8", shared),
        *("compare.analyses=[differences]", "trainer.threads=1", "logger=none"),
        cwd=tmp_path,
        figures=False,
    )
    assert done.code == 0, done.output
    assert {one.name for one in cache.iterdir()} == {"bases", "encoded"}
    assert [one for one in (cache / "bases").iterdir() if one.is_dir()] == [entry]
    assert {file.name: file.stat().st_mtime_ns for file in entry.iterdir()} == written
