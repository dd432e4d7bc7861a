"""`sumcirc circuit` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sumcirc.circuits.card.lines import BARS
from sumcirc.circuits.eap_ig_format import read_circuit
from sumcirc.circuits.edge_selection import greedy, prune, threshold, top_n
from sumcirc.circuits.score_files import DocumentScores
from sumcirc.circuits.sign_filter import candidate_count, ranking_scores
from sumcirc.circuits.spans.files import read_span_scores
from sumcirc.schema import Aggregation, CircuitOptions
from sumcirc.tracking.run_records import RunRecords
from sumcirc.tracking.wandb_values import summary_values
from tests.support.command_server import CommandServer

FILTERED = ["circuit.sign_filter=0.9", "circuit.aggregation=mean"]
SMALL = [
    "circuit.documents=5",
    "circuit.sizes=[0.05,0.5,1.0]",
    "circuit.random_circuits=1",
    "circuit.resamples=20",
    "trainer.threads=1",
]


@pytest.fixture
def words(gpt2_folder: Path, news_files: dict[str, Path]) -> list[str]:
    files = [f"data.{split}={path}" for split, path in news_files.items()]
    return [f"model.path={gpt2_folder}", "data=files", *files, *SMALL, "sweep.name=s"]


def test_files_and_table(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    done = commands.run("circuit", *words, cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    assert f"run directory: {run}" in done.output
    assert "faithfulness" in done.output
    assert "CPR" in done.output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["pairs"] <= 5
    assert summary["edges"] == 110
    circuit = read_circuit(run / "circuits" / "circuit.json")
    assert circuit.kept.sum() == summary["circuit_edges"]
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    assert stored.scores.shape[0] == summary["pairs"]
    curves = json.loads((run / "circuits" / "faithfulness.json").read_text())
    assert curves["absolute"]["points"][-1]["faithfulness"]["mean"] == pytest.approx(1, abs=1e-3)
    judged = set(curves["absolute"]["documents"])
    assert summary["held_out_pairs"] == (len(judged) if "in_sample" in curves else 0)
    if summary["held_out_pairs"]:
        assert not judged & set(stored.documents)
        assert curves["in_sample"]["absolute"]["documents"] == stored.documents
        assert f"circuits judged on {len(judged)} held-out pairs" in done.output
        assert summary["in_sample"]["faithfulness"]["n"] == summary["pairs"]
    assert "faithfulness of 0.9" in done.output
    card = json.loads((run / "circuits" / "card.json").read_text())
    assert [line["name"] for line in card["lines"]] == list(BARS)
    assert {line["status"] for line in card["lines"]} == {"not tested"}  # of so few pairs
    assert summary["card"]["not_tested"] == card["not_tested"] == len(BARS)
    assert set(summary["card"]["verdicts"]) == set(BARS)
    assert f"card of the circuit: 0 passed, 0 failed, {len(BARS)} not tested" in done.output
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    names = {file.name for file in (run / "figures").glob("*.png")}
    assert {"node_scores.png", "faithfulness.png"} <= names


def test_twins_are_of_the_wire_alone(
    commands: CommandServer, words: list[str], tmp_path: Path
) -> None:
    done = commands.run("circuit", *words, "circuit.corruption=counterfactual", cwd=tmp_path)
    assert done.code == 2
    assert "circuit.corruption=counterfactual: is for data=wire" in done.output
    assert "circuit.corruption=swap or replace" in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("circuit.size=0", "circuit.size=0"),
        ("circuit.sizes=[0.5,0.1]", "circuit.sizes=[0.5,0.1]: must be rising"),
        ("circuit.steps=0", "circuit.steps=0: must be 1 or more"),
        ("circuit.held_out=1", "circuit.held_out=1: must be a share of the pairs such as 0.5"),
        ("circuit.method=acdc", "acdc"),
        (
            "circuit.by_span=true circuit.method=exact",
            "circuit.method=exact: its scores can't be divided by the span of the reading query",
        ),
    ],
)
def test_mistakes_are_one_line(
    commands: CommandServer, words: list[str], tmp_path: Path, word: str, message: str
) -> None:
    assert message in commands.run("circuit", *words, *word.split(), cwd=tmp_path).refusal


def test_wrong_facts_of_the_wire(commands: CommandServer, tmp_path: Path) -> None:
    """Its corruption takes the right fact away, so that the metric rises on nearly every pair."""
    words = ("circuit.metric=wrong_fact", *SMALL, "card.lines=none", "logger=none", "sweep.name=s")
    done = commands.run("circuit", *words, cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["metric"], summary["corruption"]) == ("wrong_fact", "counterfactual")
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    assert stored.metric == "wrong_fact"


def test_the_circuit_by_span(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    done = commands.run("circuit", *words, "circuit.by_span=true", "logger=none", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    record = json.loads((run / "circuits" / "spans.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert record["spans"] == ["salient", "document", "prompt", "summary"]
    assert summary["by_span"]["units"] == record["circuit"]["units"]
    assert record["points"][-1]["faithfulness"]["mean"] == pytest.approx(1, abs=1e-3)
    stored = read_span_scores(run / "circuits" / "span-scores.safetensors")
    plain = DocumentScores.read(run / "circuits" / "scores.safetensors")
    whole = stored.documents.sum(1).numpy()
    assert np.abs(whole - plain.scores).max() < 0.01 * np.abs(plain.scores).max()
    assert (run / "figures" / "circuit_spans.png").is_file()
    for words_ in ("largest scores by span", "cancels within edges", "by span"):
        assert words_ in done.output
    done = commands.run("report", str(run), "logger=none", cwd=tmp_path)
    assert done.code == 0, done.output
    page = (run / "report.html").read_text()
    assert "The circuit by span" in page
    assert "Where edges act: values" in page


# ---- two circuits


def test_circuits_of_two_models_and_of_their_files(
    commands: CommandServer, words: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    """`against=`, then the files that it wrote given to `sumcirc compare`."""
    other = tmp_path / "other"
    shutil.copytree(gpt2_folder, other)
    weights = load_file(other / "model.safetensors")
    name = next(key for key in weights if key.endswith("h.1.mlp.c_proj.weight"))
    weights[name] = weights[name] * -3
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    done = commands.run("circuit", *words, f"against={other}", "logger=none", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    theirs, ours = (read_circuit(run / "circuits" / f"{n}.json") for n in ("against", "circuit"))
    record = json.loads((run / "circuits" / "comparison.json").read_text())
    shared, either = (theirs.kept & ours.kept).sum(), (theirs.kept | ours.kept).sum()
    edges = record["edges"]
    assert (edges["before"], edges["after"]) == (theirs.kept.sum(), ours.kept.sum())
    assert edges["jaccard"] == pytest.approx(shared / either)
    assert 0 < edges["within"] <= 1
    assert edges["differs"] in (True, False)
    assert np.sum(record["added_by_layer"]) == (ours.kept & ~theirs.kept).sum()
    assert np.sum(record["removed_by_kind"]) == (theirs.kept & ~ours.kept).sum()
    assert "circuits of other (before) and" in done.output
    summary = json.loads((run / "summary.json").read_text())
    assert summary["against"]["model"] == "other"
    assert summary["against"]["jaccard"] == edges["jaccard"]
    card = json.loads((run / "circuits" / "against-card.json").read_text())
    assert summary["against"]["card"]["not_tested"] == card["not_tested"] == len(BARS)
    assert f"card of the circuit of {other}" in done.output
    assert (run / "figures" / "circuit_comparison.png").is_file()
    files = [str(run / "circuits" / name) for name in ("against.json", "circuit.json")]
    done = commands.run("compare", *files, "out=pair", cwd=tmp_path)
    assert done.code == 0, done.output
    again = json.loads((tmp_path / "pair" / "comparison.json").read_text())
    assert again["edges"] == edges
    shutil.copy(files[1], tmp_path / "alone.json")
    done = commands.run("compare", files[0], "alone.json", "out=pair", cwd=tmp_path)
    assert "alone.json: there are no scores by document beside it" in done.output
    alone = json.loads((tmp_path / "pair" / "comparison.json").read_text())["edges"]
    assert alone == edges | dict.fromkeys(("low", "high", "within", "differs"))


def test_mistakes_in_comparing_circuits_are_one_line(
    commands: CommandServer, words: list[str], llama_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "no.json").write_text("{}")
    for verb, given, message in (
        ("circuit", [*words, "against=base"], "against=base: model.path="),
        ("circuit", [*words, f"against={llama_folder}"], "is a `llama`, model a `gpt2`"),
        ("circuit", [*words, "against=nowhere/at/all"], "against=nowhere/at/all"),
        ("compare", ["one.json"], "1 file is given; write `sumcirc compare BEFORE.json AFTER.json"),
        ("compare", ["one.json", "two.json", "after=x"], "after=x: has no effect"),
        ("compare", ["no.json", "no.json"], "no.json"),
        ("compare", ["no.json", "not-there.json"], ".json"),
    ):
        assert message in commands.run(verb, *given, cwd=tmp_path).refusal
    assert not (tmp_path / "circuit-comparison").exists()


# ---- of the user's own pairs


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Ten prompts with an answer each, as markup and control characters may be in them."""
    names = ["Ann", "Bob", "Cat", "Dan", "Eve", "Fay", "Gus", "Hal", "Ida", "Joe"]
    lines = []
    for i, name in enumerate(names):
        other = names[(i + 1) % len(names)]
        lines.append(
            {
                "id": f"[red]{name}[/red]\x1b[31m",
                "clean": f"[b] {name} gave 7 boats to",
                "corrupted": f"[b] {name} gave 8 boats to",
                "good": f" {name}",
                "bad": f" {other}",
                "spans": [{"name": "[i]how many[/i]", "characters": [13, 14]}],
            }
        )
    file = tmp_path / "own pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def own(gpt2_folder: Path, file: Path) -> list[str]:
    return [f"model.path={gpt2_folder}", f"pairs={file}", *SMALL[1:], "sweep.name=s", "logger=none"]


def test_own_pairs_are_scored_by_their_answers(
    commands: CommandServer, gpt2_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    done = commands.run("circuit", *own(gpt2_folder, prompts), cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    assert "own_pairs" in run.name
    summary = json.loads((run / "summary.json").read_text())
    assert summary["metric"] == "logit_difference"
    judged = summary["pairs"] + summary["held_out_pairs"]
    assert judged + summary["pairs_dropped"]["unchanged"] == 10
    assert list(summary["score_share_by_span"]) == ["[i]how many[/i]"]
    assert f"{summary['pairs']} pairs, metric logit_difference" in done.output
    assert "\x1b[31m" not in done.output
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    assert set(stored.documents) <= {json.loads(x)["id"] for x in prompts.read_text().splitlines()}


def test_a_circuit_of_noise_or_without_edges_has_no_faithfulness(
    commands: CommandServer, gpt2_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    """A model with weights at random knows nothing of names; its one edge leads nowhere."""
    more = ["circuit.size=0.001", "circuit.sizes=[0.001,1.0]"]
    done = commands.run("circuit", *own(gpt2_folder, prompts), *more, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    told = " ".join(done.output.split())
    assert "faithfulness, CPR and CMD are not defined: corruption raises logit_difference" in told
    assert "the circuit holds no edge and has no faithfulness" in told
    assert "no edge" in done.output
    assert "circuit of 0 edges: faithfulness not defined, KL" in told
    assert "documents not defined (no edges are in the circuit), chance level -" in told
    assert "nan" not in done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    areas = [summary[name]["value"]["mean"] for name in ("cpr", "cmd")]
    assert [summary["faithfulness"]["mean"], summary["jaccard_chance"], *areas] == [None] * 4
    assert {"no effect", "no edge"} <= {one["reason"] for one in summary["notices"]}
    shown = commands.run("report", str(run), "out=page", cwd=tmp_path)
    assert shown.code == 0, shown.output


def test_one_size_has_no_areas(commands: CommandServer, words: list[str], tmp_path: Path) -> None:
    """An area over one size would be 0, the best CMD there is; neither is printed nor logged."""
    words = [word for word in words if not word.startswith("circuit.sizes=")]
    given = ("circuit.sizes=[0.5]", "circuit.size=0.5", "card.lines=none", "logger=none")
    done = commands.run("circuit", *words, *given, cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    assert "circuit of 55 edges: faithfulness" in done.output
    for word in ("CPR", "CMD", "nan"):
        assert word not in done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    stored = json.loads((run / "summary.json").read_text())
    areas = [stored[name]["value"]["mean"] for name in ("cpr", "cmd")]
    assert [*areas, stored["cmd"]["random"][0]["mean"]] == [None] * 3
    summary = RunRecords(run).read_all().summary
    values = summary_values("circuit", summary)
    assert "circuit/faithfulness" in values
    assert not [name for name in values if name.endswith(("cpr", "cmd")) or "/cmd/" in name]
    shown = commands.run("report", str(run), "out=page", "logger=none", cwd=tmp_path, figures=False)
    assert shown.code == 0, shown.output


def test_own_pairs_without_answers_are_scored_by_divergence(
    commands: CommandServer, gpt2_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    bare = [{key: line[key] for key in ("clean", "corrupted")} for line in lines]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in bare))
    done = commands.run("circuit", *own(gpt2_folder, prompts), cwd=tmp_path, figures=False)
    assert done.code == 0, done.output
    (file,) = (tmp_path / "runs").rglob("summary.json")
    summary = json.loads(file.read_text())
    assert (summary["metric"], summary["pairs"], summary["held_out_pairs"]) == ("kl", 5, 5)
    assert "score_share_by_span" not in summary


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data=wire", "replaces the data, so data has no effect"),
        ("circuit.corruption=swap", "so circuit.corruption has no effect"),
        ("circuit.documents=3", "so circuit.documents has no effect"),
    ],
)
def test_settings_that_a_file_of_pairs_leaves_nothing_to_say(
    commands: CommandServer,
    gpt2_folder: Path,
    prompts: Path,
    tmp_path: Path,
    word: str,
    message: str,
) -> None:
    done = commands.run("circuit", *own(gpt2_folder, prompts), word, cwd=tmp_path)
    assert message in done.refusal


def test_a_mistake_in_the_last_line_is_found_before_anything_starts(
    commands: CommandServer, gpt2_folder: Path, prompts: Path, tmp_path: Path
) -> None:
    with prompts.open("a") as file:
        file.write(json.dumps({"id": "last", "clean": "a boat", "corrupted": "boats and boats"}))
    done = commands.run("circuit", *own(gpt2_folder, prompts), cwd=tmp_path)
    assert "line 11 (`last`): clean has" in done.refusal
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("given", "select", "ablation"),
    [
        (["circuit.select=greedy", "circuit.ablation=zero"], "greedy", "zero"),
        (["circuit.select=threshold", "circuit.threshold=1e-7"], "threshold", "interchange"),
        (["circuit.ablation=mean"], "top", "mean"),
    ],
)
def test_edges_are_selected_and_ablated_as_asked(
    commands: CommandServer,
    words: list[str],
    tmp_path: Path,
    given: list[str],
    select: str,
    ablation: str,
) -> None:
    done = commands.run("circuit", *words, *given, cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs" / "s").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["select"], summary["ablation"]) == (select, ablation)
    curves = json.loads((run / "circuits" / "faithfulness.json").read_text())
    for curve in (curves["absolute"], curves["signed"]):
        assert curve["ablation"] == ablation
        assert curve["points"][-1]["faithfulness"]["mean"] == pytest.approx(1, abs=1e-3)
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    size, graph = np.abs(stored.scores.astype(np.float64)).mean(0), stored.graph
    edges = int(0.05 * graph.edges)
    chosen = {
        "top": lambda: top_n(size, graph, edges),
        "greedy": lambda: greedy(size, graph, edges),
        "threshold": lambda: threshold(size, graph, 1e-7),
    }[select]()
    kept = read_circuit(run / "circuits" / "circuit.json").kept
    assert np.array_equal(kept, prune(chosen, graph))


def test_edges_are_ranked_by_the_mean_of_their_sizes_as_asked(
    commands: CommandServer, words: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    for name in ("mean", "mean_absolute"):
        told = [f"circuit.aggregation={name}", f"sweep.name={name}", "circuit.size=0.2"]
        done = commands.run("circuit", *words, *told, f"against={gpt2_folder}", cwd=tmp_path)
        assert done.code == 0, done.output
    kept, files = {}, []
    for name, absolute in (("mean", False), ("mean_absolute", True)):
        (run,) = (tmp_path / "runs" / name).iterdir()
        summary = json.loads((run / "summary.json").read_text())
        assert summary["aggregation"].replace("-", "_") == name
        stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
        scores, graph = stored.scores.astype(np.float64), stored.graph
        score = (np.abs(scores) if absolute else scores).sum(0) / len(scores)
        chosen = prune(top_n(score, graph, int(0.2 * graph.edges)), graph)
        files.append(run / "circuits" / "circuit.json")
        written = read_circuit(files[-1])
        assert np.array_equal(written.kept, chosen)
        shown = np.copysign(score, scores.mean(0))
        assert np.allclose(written.scores, shown, atol=1e-3 * np.abs(score).max())
        kept[name] = chosen
        between = json.loads((run / "circuits" / "comparison.json").read_text())
        assert between["edges"]["before"] == chosen.sum()
        assert between["edges"]["jaccard"] == pytest.approx(1)
    done = commands.run("compare", *map(str, files), cwd=tmp_path)
    assert done.code == 0, done.output
    assert "circuit.aggregation: is mean for" in " ".join(done.output.split())
    # a file and itself: by the scores beside it, selected as its run did
    done = commands.run("compare", str(files[1]), str(files[1]), "out=same", cwd=tmp_path)
    assert "not resampled" not in done.output
    same = json.loads((tmp_path / "same" / "comparison.json").read_text())
    assert same["edges"]["before"] == same["edges"]["shared"] == kept["mean_absolute"].sum()


def test_edges_are_filtered_by_sign_as_asked(
    commands: CommandServer, words: list[str], gpt2_folder: Path, tmp_path: Path
) -> None:
    told = [
        "circuit.sign_filter=0.9",
        "circuit.aggregation=mean",
        "circuit.size=0.2",
        "circuit.resamples=30",
    ]
    done = commands.run("circuit", *words, *told, f"against={gpt2_folder}", cwd=tmp_path)
    assert done.code == 0, done.output
    (run,) = (tmp_path / "runs").glob("*/*")
    summary = json.loads((run / "summary.json").read_text())
    options = CircuitOptions(sign_filter=0.9, resamples=30, aggregation=Aggregation.mean)
    stored = DocumentScores.read(run / "circuits" / "scores.safetensors")
    count = candidate_count(stored.scores, stored.graph, options)
    assert summary["sign_filter"] == 0.9
    assert summary["sign_candidates"] == pytest.approx(count, abs=2)
    ranking = ranking_scores(stored.scores, stored.graph, options)
    chosen = prune(top_n(ranking, stored.graph, int(0.2 * stored.graph.edges)), stored.graph)
    kept = read_circuit(run / "circuits" / "circuit.json").kept
    # stored scores have three digits, so an edge at the bound may be a candidate or not
    assert (kept ^ chosen).sum() <= 2
    between = json.loads((run / "circuits" / "comparison.json").read_text())
    assert between["edges"]["jaccard"] == pytest.approx(1)
    file = str(run / "circuits" / "circuit.json")
    done = commands.run("compare", file, file, "out=same", cwd=tmp_path)
    assert "not resampled" not in done.output, done.output


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["circuit.aggregation=median"], "circuit.aggregation=median: choose from mean, mean_abs"),
        (["circuit.sign_filter=0.5"], "circuit.sign_filter=0.5: must be a share of resamples"),
        (
            ["circuit.sign_filter=0.9", "circuit.documents=1"],
            "circuit.sign_filter=0.9: circuit.documents=1 can't be resampled",
        ),
        (
            ["circuit.sign_filter=0.9"],
            "circuit.sign_filter=0.9: circuit.aggregation=mean_absolute has no sign",
        ),
        (
            [*FILTERED, "circuit.select=threshold", "circuit.threshold=0.1"],
            "circuit.sign_filter=0.9: ranks edges, which circuit.select=threshold does not use",
        ),
        (
            [*FILTERED, "circuit.by_span=true"],
            "circuit.sign_filter=0.9: filters plain edges, not edges by span",
        ),
        (["circuit.select=threshold"], "circuit.select=threshold: needs the least |score|"),
        (["circuit.threshold=0.1"], "circuit.threshold=0.1: is for circuit.select=threshold"),
        (["circuit.select=best"], "circuit.select=best: choose from top, threshold, greedy"),
        (["circuit.ablation=noise"], "circuit.ablation=noise: choose from patch, zero, mean"),
        (
            ["circuit.select=threshold", "circuit.threshold=0"],
            "circuit.threshold=0: must be a positive number",
        ),
    ],
)
def test_selections_that_do_not_go_together(
    commands: CommandServer, words: list[str], tmp_path: Path, given: list[str], message: str
) -> None:
    done = commands.run("circuit", *words, *given, cwd=tmp_path)
    assert done.code == 2
    assert message in done.output
    assert "Traceback" not in done.output
