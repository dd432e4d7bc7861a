"""Records of sweeps: they hold numbers alone, give the comparison again, and pages state them."""

from __future__ import annotations

import csv
import importlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import yaml
from scipy.stats import spearmanr

from docs.record import RECORDS, keep, not_stated
from sumcirc.errors import UserError
from sumcirc.jobs import report
from sumcirc.placement import tables as landscape_tables
from sumcirc.placement.analysis import Analysis
from sumcirc.placement.landscape_files import read_landscape
from sumcirc.placement.selectors import best_by_luck
from sumcirc.reporting.comparison import ArmComparison, ComparisonOptions, compare
from sumcirc.reporting.comparison_files import arm_rows, difference_rows, markdown
from sumcirc.reporting.runs import read_runs
from sumcirc.reporting.tables import markdown_table
from sumcirc.schema import LoggerConfig, LoggerKind, ReportConfig
from tests.support.sweeps import write_sweep

README = RECORDS.parents[2] / "README.md"
# records of sweeps; those of a page without arms are plain files
KEPT = sorted({file.parents[1] for file in RECORDS.glob("*/*/config.yaml")})


def compared(folder: Path) -> ArmComparison:
    return compare(*read_runs([folder]), ComparisonOptions())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "s"
    write_sweep(folder, {"random": 0.4, (0,): 0.5, "all": 0.6}, noise=0.01)
    for run in folder.iterdir():
        status = json.loads((run / "status.json").read_text())
        (run / "status.json").write_text(json.dumps({**status, "host": "desk", "process": 7}))
        config = yaml.safe_load((run / "config.yaml").read_text())
        own = f"{folder}/texts/own.jsonl"
        words = [f"{folder}/bin/sumcirc", "train", "seed=1", f"data.test='{own}'"]
        config["environment"]["command"] = [*words, f"hydra.run.dir='{run}'"]
        config["config"]["data"]["test"] = own
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        summary = json.loads((run / "summary.json").read_text())
        few = {"mean": 0.5, "low": None, "high": None, "n": 6}  # too few documents for an interval
        summary["systems"]["trained"]["date_precision"] = few
        (run / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def record(sweep: Path) -> Path:
    target = sweep.parent / "records/s"
    keep(sweep, target)
    return target


def test_a_record_gives_the_comparison_again(sweep: Path, record: Path) -> None:
    first, again = compared(sweep), compared(record)
    # as text, since nan (a cost that was not recorded) does not equal itself
    assert str(arm_rows(first)) == str(arm_rows(again))
    assert str(difference_rows(first)) == str(difference_rows(again))
    assert first.baselines == again.baselines


def test_a_record_makes_a_report(record: Path, tmp_path: Path) -> None:
    logger = LoggerConfig(kind=LoggerKind.none)
    comparison, page, left_out, _ = report.write(
        ReportConfig(paths=[str(record)], out=str(tmp_path / "out"), logger=logger)
    )
    assert comparison is not None
    assert page.exists()
    assert not left_out
    assert "were not recorded, so copied words are" in page.read_text(encoding="utf-8")
    assert not list(record.rglob("comparison"))


def test_a_record_holds_no_text_and_nothing_of_the_machine(sweep: Path, record: Path) -> None:
    files = [path for path in record.rglob("*") if path.is_file()]
    assert len(files) == 5 * len(list(sweep.iterdir()))
    for file in record.glob("*/documents.parquet"):
        table = pyarrow.parquet.read_table(file)
        texts = {field.name for field in table.schema if str(field.type) == "string"}
        assert texts == {"id", "system"}
        assert set(table["system"].to_pylist()) == {"trained"}
        assert set(table["prediction"].to_pylist()) == {None}
    for file in files:
        content = file.read_bytes()
        assert b"The summary by" not in content
        assert b"desk" not in content
        assert str(sweep).encode() not in content
    for file in record.glob("*/config.yaml"):
        body = yaml.safe_load(file.read_text())
        command = body["environment"]["command"]
        assert command == ["sumcirc", "train", "seed=1", "data.test=own.jsonl"]
        assert body["config"]["data"]["test"] == "own.jsonl"


def test_what_is_there_is_not_replaced(sweep: Path, record: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        keep(sweep, record)


def test_a_page_that_states_something_else_is_found(record: Path, tmp_path: Path) -> None:
    comparison = compared(record)
    page = markdown(comparison, "sumcirc report", [], tmp_path)
    assert not_stated(page, comparison) == []
    stated = f"{100 * comparison.arms[0].scores['rougeLsum_f1'].mean:.1f} ["
    assert stated in page
    assert not_stated(page.replace(stated, "99.9 ["), comparison)


def test_the_page_of_the_real_model_states_its_records() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()
    rows = {"lead-3": "lead-3", "random-3": "random-3", "oracle": "oracle"}
    systems = {
        name: json.loads((folder / f"zero-shot-dialogsum-{name}.json").read_text())["systems"]
        for name in ("prompt", "chat")
    }
    found = {title: systems["prompt"][name] for name, title in rows.items()}
    found |= {
        "prompt `TL;DR:`": systems["prompt"]["base"],
        "chat template": systems["chat"]["base"],
    }
    for title, scores in found.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
        for name in ("rouge1_f1", "rouge2_f1", "rougeL_f1", "entity_recall"):
            mean, low, high = (100 * scores[name][end] for end in ("mean", "low", "high"))
            assert f" {mean:.1f} [{low:.1f}, {high:.1f}] " in row, (title, name)
    losses = {
        (line["arm"], float(line["learning_rate"]), int(line["step"])): line["validation_nll"]
        for line in csv.DictReader((folder / "rates.csv").read_text().splitlines())
    }
    assert len(losses) == 15
    for (arm, rate, step), loss in losses.items():
        stated = f"{float(loss):.3f}"
        shown = f"{rate:.0e}".replace("e-0", "e-")
        row = next((line for line in page.splitlines() if f"| {shown} |" in line), "")
        assert stated in (page if step == 0 else row), (arm, rate, step)


def test_the_page_of_circuits_states_its_records() -> None:
    page = (RECORDS.parent / "real-circuits.md").read_text(encoding="utf-8")
    files = sorted((RECORDS / "real-model").glob("edge-choice-*.json"))
    assert files
    for file in files:
        assert f"records/real-model/{file.name}" in page
        record = json.loads(file.read_text(encoding="utf-8"))
        assert not set(record["chosen_on"]) & set(record["judged_on"])
        assert f"{record['edges']:,} edges" in page
        for name in {row["ranking"]: None for row in record["rows"]}:
            own = [row for row in record["rows"] if row["ranking"] == name]
            for measure in ("faithfulness", "minus_default"):
                if any(measure not in row or not any(row[measure].values()) for row in own):
                    continue  # the default itself, and random circuits
                cells = [
                    f"{row[measure]['mean']:.2f} [{row[measure]['low']:.2f},"
                    f" {row[measure]['high']:.2f}]"
                    for row in own
                ]
                escaped = name.replace("|", "\\|")
                assert f"| {escaped} | {' | '.join(cells)} |" in page, (file.name, name, measure)
        default = [row for row in record["rows"] if row["ranking"] == record["rows"][0]["ranking"]]
        assert ", ".join(f"{row['edges']:,}" for row in default) in page


def test_the_page_of_the_real_model_states_what_training_did() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()
    summary, second, full = (
        json.loads((folder / f"trained/main_{name}/summary.json").read_text())
        for name in ("lora1", "lora2", "full1")
    )
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "entity_precision", "entity_recall")
    shown = {
        "before": summary["systems"]["base"],
        "LoRA, seed 1": summary["systems"]["trained"],
        "LoRA, seed 2": second["systems"]["trained"],
        "full fine-tuning": full["systems"]["trained"],
    }
    for title, scores in shown.items():
        cells = [_cell(scores[name], 100) for name in names]
        cells += [_cell(scores["length"], 1), _cell(scores["unended"], 100)]
        assert f"| {title} | {' | '.join(cells)} |" in page
        short = " | ".join([*cells[:4], cells[-1]])
        assert f" | {short} |" in README.read_text(encoding="utf-8")
    control = json.loads((folder / "trained/main_permuted1/summary.json").read_text())["systems"]
    names = ("rouge1_f1", "rouge2_f1", "rougeL_f1", None, "entity_recall")
    cells = ["-" if name is None else _cell(control["trained"][name], 100) for name in names]
    cells += [_cell(control["trained"]["length"], 1), _cell(control["trained"]["unended"], 100)]
    assert f"| control, 400 steps | {' | '.join(cells)} |" in page
    assert f"| LoRA, control | {' | '.join([*cells[:4], cells[-1]])} |" in README.read_text()
    means = [
        100 * scores["rouge1_f1"]["mean"]
        for scores in (control["base"], control["trained"], summary["systems"]["trained"])
    ]
    share = f"{means[1] - means[0]:.1f} of the {means[2] - means[0]:.1f} points"
    assert share in page
    losses = [
        float(row["value"])
        for run in ("main_lora1", "main_lora2", "main_permuted1", "main_full1")
        for row in csv.DictReader((folder / f"trained/{run}/metrics.csv").read_text().splitlines())
        if row["metric"] == "validation/loss"
    ]
    assert len(losses) == 20
    for loss in losses:
        assert f"{loss:.3f}" in page
    seconds, tokens = summary["cost"]["seconds"], summary["cost"]["tokens"]
    assert f"Training seed 1 took {seconds:,.0f} seconds" in page
    assert f"({tokens / seconds:.0f} tokens a second;" in page
    seconds, tokens = full["cost"]["seconds"], full["cost"]["tokens"]
    assert f"took {seconds:,.0f} seconds beside other work" in page
    assert f"({tokens / seconds:.0f} tokens a second) and" in page
    assert f" and {full['cost']['process_memory'] / 2**30:.1f} GiB." in page
    assert f"({full['trainable_parameters']:,} parameters)" in page


def _cell(score: dict[str, float], factor: int, digits: int = 1) -> str:
    mean, low, high = (factor * score[end] for end in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def test_the_page_of_the_real_model_states_what_was_forgotten() -> None:
    page = (RECORDS.parent / "real-model.md").read_text()
    found = json.loads((RECORDS / "real-model/retention.json").read_text())["retention"]
    for corpus, title in {"cnndm_validation500": "CNN", "scitldr_a_test": "SciTLDR"}.items():
        one = found[corpus]
        cells = [_cell(one["systems"][name]["perplexity"], 1) for name in ("base", "trained")]
        cells += [_cell(one[name], 1, 3) for name in ("nll_change", "kl")]
        lines = [line for line in page.splitlines() if line.startswith(f"| 100 {title}")]
        assert any(line.endswith(f"| {' | '.join(cells)} |") for line in lines), corpus


def test_the_page_of_the_real_model_states_what_changes_inside() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()
    with (folder / "inside-changes.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "400"]
    titles = {
        "attention_kl": "attention KL, nats",
        "entropy_change": "entropy of attention, nats",
        "cka_distance": "1 - CKA",
        "drift": "drift of the residual stream",
        "act_mag_change": "change of ActMag",
    }
    for name, title in titles.items():
        ours = [row for row in rows if row["measure"] == name]
        change, control = (
            np.array([float(row[key]) for row in ours]) for key in ("change", "control")
        )
        apart = np.array([float(row["seed_distance"]) for row in ours])
        counts = np.array([row["counts"] == "True" for row in ours])
        more = np.flatnonzero(counts & (abs(change) > abs(control))).tolist()
        less = int((counts & (abs(change) < abs(control))).sum())
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:4] == [f"{one.mean():.3f}" for one in (change, apart, control)]
        assert cells[4:6] == [str(abs(change).argmax()), str(abs(control).argmax())]
        assert cells[6] == (", ".join(map(str, more)) or "none")
        assert cells[7] == f"{less} of 30"
    claims = json.loads((folder / "inside-claims.json").read_text())
    shares = [*claims["heads"], claims["heads_of_control"]]
    for share in (found["fell"] for found in shares):
        mean, low, high = (100 * share[end] for end in ("mean", "low", "high"))
        assert f"{mean:.0f} % [{low:.0f}, {high:.0f}]" in page
    for share in claims["heads"]:
        fell, rose = (100 * share[key] for key in ("clearly_fell", "clearly_rose"))
        assert re.search(rf"{fell:.0f} %( of heads fall)? and {rose:.0f} %", page)
    for name in ("drift", "cka_distance", "attention_kl"):
        last = claims["leading_layers"][name]["last_layer"]
        assert f"{last['rank']} [{last['low']:.0f}, {last['high']:.0f}]" in page


def test_the_page_on_rephrasing_states_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of the page's tables is a row that the records give."""
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    tables = importlib.import_module("rephrase_tables")
    found = tables.every_table(RECORDS / "rephrase")
    known = {line for table in found.values() for line in tables.markdown(table)}
    page = (RECORDS.parent / "rephrase.md").read_text()
    shown = [line for line in page.splitlines() if line.startswith("|")]
    assert len(shown) > 20
    assert [line for line in shown if line not in known] == []
    assert set(tables.markdown(found["logit difference"])) <= set(shown)
    sets = json.loads((RECORDS / "rephrase/head-sets.json").read_text()).values()
    readme = " ".join((RECORDS.parents[2] / "README.md").read_text().split())
    into_base = [one["sufficiency"]["heads"] for one in sets]
    for one in into_base:
        assert one["named"][:3] == ["output.23.3", "output.29.1", "output.22.4"]
        assert one["sizes"][2] == 3
    largest = [[one["largest"][end][2] for end in ("mean", "low", "high")] for one in into_base]
    for text in (page, readme):
        for mean, low, high in largest:
            assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in text
        first, second = (one["random_by_layer"]["mean"][2] for one in into_base)
        assert f"of the same layers bring {first:.2f} and {second:.2f}" in text
        first, second = (one["largest"]["mean"][-1] for one in into_base)
        assert f"{first:.2f} and {second:.2f}" in text
    taken = [one["necessity"]["heads"]["largest"]["mean"][2] for one in sets]
    assert f"three heads take {taken[0]:.2f} and {taken[1]:.2f} of the gap away" in page


@pytest.mark.parametrize("record", KEPT, ids=[folder.name for folder in KEPT])
def test_pages_state_what_records_hold(record: Path) -> None:
    page = RECORDS.parent / f"{record.name}.md"
    assert not_stated(page.read_text(encoding="utf-8"), compared(record)) == []


def test_the_page_on_placement_states_its_records() -> None:
    """Every row of the page's tables is one that the stored landscape or its records give."""
    folder, page = RECORDS / "placement", (RECORDS.parent / "placement.md").read_text()
    choices = json.loads((folder / "choices.json").read_text())["selectors"]
    landscape, stored = read_landscape(folder)
    assert {one.name: list(one.sets[0]) for one in stored} == {
        name: one["layers"] for name, one in choices.items()
    }
    analysis = Analysis(landscape.measured("facts"))
    judged = [analysis.judged(choice) for choice in stored]
    for table in landscape_tables.tables(analysis, judged):
        missing = [row for row in markdown_table(table).splitlines()[2:] if row not in page]
        assert missing == [], table.title
    words, luck = " ".join(page.split()), best_by_luck(len(stored), len(landscape.sets))
    assert f"of {len(stored)} selectors that draw at random one picks the best set in" in words
    assert f"in {100 * luck:.0f} % of landscapes" in words
    one = next(one for one in judged if one.name == "extrapolated")
    assert one.agreement is not None
    skill, rank = one.skill, one.agreement.spearman
    assert f"sixth set ({skill.skill:.2f} [{skill.low:.2f}, {skill.high:.2f}])" in words
    assert f"(rank correlation {rank:.2f})" in words
    with (folder / "rates.csv").open() as file:
        rates = {(row["layers"], row["scale"]): row for row in csv.DictReader(file)}
    for layers in ("0,1,2", "3,4,5", "0,2,4", "1,3,5"):
        found = [rates.get((layers, scale)) for scale in ("1.25", "2.5", "5", "10")]
        losses = [f"{float(row['lowest_validation_loss']):.3f}" if row else "-" for row in found]
        assert f"| {layers} | {' | '.join(losses)} |" in page


def test_the_page_of_the_real_model_compares_full_fine_tuning_inside() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()

    def last(file: str) -> list[dict[str, str]]:
        with (folder / file).open() as lines:
            return [row for row in csv.DictReader(lines) if row["step"] == "400"]

    ours, others = last("inside-changes-full.csv"), last("inside-changes.csv")
    titles = {
        "attention_kl": "attention KL (nats)",
        "entropy_change": "entropy (nats)",
        "cka_distance": "CKA distance",
        "drift": "drift",
        "act_mag_change": "ActMag",
    }
    less = []
    for name, title in titles.items():
        full, lora, control = (
            np.array([float(row[key]) for row in rows if row["measure"] == name])
            for rows, key in ((ours, "change"), (others, "change"), (others, "control"))
        )
        assert len(full) == len(lora) == 30
        largest = ", ".join(str(layer) for layer in np.argsort(-abs(full))[:3])
        pairs = ((full, lora), (full, control), (lora, control))
        numbers = [f"{one.mean():.3f}" for one in (full, lora)]
        agree = [f"{spearmanr(*pair)[0]:.2f}" for pair in pairs]
        assert f"| {title} | {' | '.join([*numbers, largest, *agree])} |" in page
        less.append(100 * (1 - full.mean() / lora.mean()))
    assert f"by {min(less):.0f} % (drift) to {max(less):.0f} % (entropy) less" in page


def test_the_page_on_placement_states_what_was_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RECORDS.parents[2] / "benchmarks"))
    script = importlib.import_module("placement_forgetting")
    folder = RECORDS / "placement/seed1"
    page = " ".join((RECORDS.parent / "placement.md").read_text().split())
    landscape, _ = read_landscape(folder)
    runs = script.curves(folder)
    loss, at = script.equal_learning(runs)
    kl = {arm: row[3] for (arm, _), row in at.items()}
    least, whole = min(kl, key=kl.__getitem__), "LoRA, all layers"
    assert f"equal loss on the references ({loss:.3f}," in page
    assert (
        f"{kl[least]:.2f} for layers {least}, {kl[whole]:.2f} for all layers,"
        f" {kl['0,1,4']:.2f} for 0,1,4 and {kl['0,1,2']:.2f} for 0,1,2."
    ) in page
    table = dict(script.correlations(landscape, at).rows)
    for layer, sign in ((0, 1), (5, -1)):
        change = sign * float(table[f"KL of sets with layer {layer} minus without"])
        assert f"{change:.2f} {'above' if sign > 0 else 'below'}" in page.replace(" those", "")
    assert (
        f"correlation of this KL with the facts is {table['rank correlation with facts']}" in page
    )
    ends = [curve[-1] for curve in runs.values()]
    after = sorted(end[2] for end in ends)
    assert f"from {next(iter(runs.values()))[0][2]:.2f} to between {after[0]:.1f} and" in page
    assert f"{after[-1]:.1f} nats" in page
    means = {name: landscape.scores[name].mean((1, 2)) for name in ("facts", "nll", "rougeLsum_f1")}
    for name, shown in (("nll", "{:.2f} (with"), ("rougeLsum_f1", "at {:.2f})")):
        assert shown.format(spearmanr(means["facts"], means[name])[0]) in page
    for place in (means["nll"].argmin(), means["nll"].argmax()):
        layers = ",".join(map(str, landscape.sets[place]))
        assert f"ayers {layers}" in page
        assert f"({means['nll'][place]:.3f}) and {100 * means['facts'][place]:.1f} %" in page
