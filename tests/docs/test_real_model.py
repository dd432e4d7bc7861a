"""docs/results/real-model.md and real-circuits.md state their records."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from scipy.stats import spearmanr

from docs.record import RECORDS

README = RECORDS.parents[2] / "README.md"
NEWS_SCORES = ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rougeLsum_f1", "entity_recall")
NEWS_ROWS = {
    "lead-3": ("prompt", "lead-3"),
    "random-3": ("prompt", "random-3"),
    "oracle": ("prompt", "oracle"),
    "prompt `TL;DR:`": ("prompt", "base"),
    "chat template": ("chat", "base"),
}


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


@pytest.mark.parametrize(("file", "model"), [("retention", "LoRA"), ("retention-full", "full")])
def test_the_page_of_the_real_model_states_what_was_forgotten(file: str, model: str) -> None:
    page = (RECORDS.parent / "real-model.md").read_text()
    found = json.loads((RECORDS / f"real-model/{file}.json").read_text())["retention"]
    texts = {"cnndm_validation500": "CNN/DailyMail articles", "scitldr_a_test": "SciTLDR abstracts"}
    for corpus, title in texts.items():
        one = found[corpus]
        cells = [_cell(one["systems"][name]["perplexity"], 1) for name in ("base", "trained")]
        cells += [_cell(one[name], 1, 3) for name in ("nll_change", "kl")]
        assert f"| {one['documents']} {title}, {model} | {' | '.join(cells)} |" in page, corpus
    assert _cell(found["cnndm_validation500"]["nll_change"], 1, 3) in README.read_text()


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


def test_the_page_of_the_real_model_states_the_overlap_of_circuits() -> None:
    found = json.loads((RECORDS / "real-model/circuit-overlap.json").read_text())
    page = " ".join((RECORDS.parent / "real-model.md").read_text().split())
    nodes, edges = found["overlap"]["nodes"], found["overlap"]["edges"]

    def index(one: dict[str, float]) -> str:
        return f"{one['jaccard']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"

    assert (
        f"overlap by a Jaccard index of {index(nodes)}, edges by {index(edges)}; but circuits of"
        f" one model, from two resamples of the dialogues, by {nodes['within']:.2f} and"
        f" {edges['within']:.2f}"
    ) in page
    assert not nodes["differs"]
    assert not edges["differs"]
    assert f"{edges['chance']:.3f} for edges and {nodes['chance']:.2f} for nodes" in page
    readme = " ".join(README.read_text(encoding="utf-8").split())
    assert f"overlap by a Jaccard index of {index(edges)}, but those of one model" in readme
    assert f"resamples of the dialogues, by {edges['within']:.2f}." in readme
    carried = found["faithfulness"]
    assert f"(faithfulness {_cell(carried['before'], 1)})" in page
    assert f"LoRA's carries {_cell(carried['after'], 1, 2)}" in page


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


@pytest.mark.parametrize("title", NEWS_ROWS)
def test_the_table_of_news_states_its_records(title: str) -> None:
    page = (RECORDS.parent / "real-model.md").read_text()
    file, system = NEWS_ROWS[title]
    record = json.loads((RECORDS / "real-model" / f"zero-shot-cnn-{file}.json").read_text())
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {title}, news |")]
    for name in NEWS_SCORES:
        score = record["systems"][system][name]
        mean, low, high = (100 * score[end] for end in ("mean", "low", "high"))
        assert f" {mean:.1f} [{low:.1f}, {high:.1f}] " in row, name
        assert score["n"] <= 100


def test_the_page_states_what_an_untrained_instruction_gives() -> None:
    page = (RECORDS.parent / "real-model.md").read_text()
    record = json.loads((RECORDS / "real-model/scitldr-chat.json").read_text())
    names = {"rouge1_f1": 100, "rouge2_f1": 100, "rougeL_f1": 100, "length": 1, "unended": 100}
    rows = {"before": record["systems"]["base"], "full fine-tuning": record["systems"]["full"]}
    rows |= {"LoRA": record["systems"]["lora"]}
    rows |= {name: record["systems"][name] for name in ("lead-3", "oracle")}
    for title, scores in rows.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {title}, abstracts |")]
        for name, factor in names.items():
            if name in scores:  # baselines have no limit to reach
                assert f" {_cell(scores[name], factor)} |" in row, (title, name)
    for title, change in (("full fine-tuning", "change"), ("LoRA", "change_lora")):
        start = f"| change with {title}, abstracts |"
        (row,) = [line for line in page.splitlines() if line.startswith(start)]
        for name, factor in names.items():
            mean, low, high = (
                factor * record[change][name][end] for end in ("mean", "low", "high")
            )
            assert f" {mean:+.1f} [{low:+.1f}, {high:+.1f}] |" in row, (title, name)
            assert record[change][name]["n"] == 60
    with_name = record["outputs_naming_the_model"]
    assert with_name == {"base": 0, "full": 10, "lora": 42}
    assert "42 of the 60 answers" in page
    assert "(10 after full fine-tuning, none before)" in page
    mean, low, high = (
        -100 * record["lora_minus_full"]["entity_precision"][e] for e in ("mean", "high", "low")
    )
    assert f"{mean:.1f} points less than after full fine-tuning [{low:.1f}, {high:.1f}]" in page
    kept = [record["systems"][name]["entity_precision"] for name in ("lora", "full")]
    told = [_cell(one, 100, 0).replace(" [", " % [") for one in kept]
    assert f"and {told[0]} of its names and numbers" in README.read_text()
    assert f"abstract, {told[1]} after full" in README.read_text()


def test_the_page_states_how_change_and_effect_agree() -> None:
    folder, page = RECORDS / "real-model", (RECORDS.parent / "real-model.md").read_text()
    claims = json.loads((folder / "inside-claims-full.json").read_text())
    found = claims["change_and_effect"]
    titles = {
        "attention_kl": "attention KL",
        "entropy_change": "entropy",
        "cka_distance": "CKA distance",
        "drift": "drift",
        "act_mag_change": "ActMag",
        "depth": "a layer's number (control)",
    }
    columns = [
        f"{grain}_{way}" for way in ("sufficiency", "necessity") for grain in ("heads", "layers")
    ]
    for name, title in titles.items():
        cells = [_cell(found[one][name], 1, 2) if name in found[one] else "-" for one in columns]
        assert f"| {title} | {' | '.join(cells)} |" in page
    lost, brought = found["layers_necessity"], found["layers_sufficiency"]["attention_kl"]
    assert f"correlate by {_cell(lost['attention_kl'], 1, 2)}" in page
    assert _cell(lost["depth"], 1, 2) in README.read_text()
    assert f"attention KL gives {_cell(lost['attention_kl'], 1, 2)}" in README.read_text()
    assert page.count(_cell(lost["depth"], 1, 2)) == 3  # the table, below it, and of the claims
    assert f"alone by {_cell(brought, 1, 2)}" in page
    larger = sorted(
        lost[name]["mean"] for name in titles if name not in ("entropy_change", "depth")
    )
    assert f"correlate with the loss by {larger[0]:.2f} to {larger[-1]:.2f}" in page
    fell = claims["heads"][0]["fell"]
    assert f"{_cell(fell, 100, 0).replace(' [', ' % [')} of the heads focus" in page
    with (folder / "patching-full.csv").open() as file:
        parts = list(csv.DictReader(file))
    counts = [
        sum(
            part["kind"] == kind
            and part["significant"] == "True"
            and float(part["score"]) * way > 0
            for part in parts
        )
        for way in (1, -1)
        for kind in ("output", "mlp")
    ]
    ours = "{} of 270 heads and {} of 30 MLPs reliably bring the base nearer"
    assert ours.format(*counts[:2]) in page
    assert "{} and {} take it further away".format(*counts[2:]) in page
    assert f"add up to {sum(float(part['score']) for part in parts):.1f} times the gap" in page
    with (folder / "patching-full-necessity.csv").open() as file:
        needed = {
            (part["kind"], part["layer"], part["head"]): part for part in csv.DictReader(file)
        }
    assert not any(part["significant"] == "True" for part in needed.values())
    top = sorted(needed.values(), key=lambda part: -float(part["score"]))[:3]
    assert [(part["kind"], part["layer"]) for part in top] == [
        *(("mlp", "29"), ("mlp", "28"), ("output", "17"))
    ]
    large = _cell(
        {
            key: float(top[0][end])
            for key, end in zip(("mean", "low", "high"), ("score", "low", "high"), strict=True)
        },
        1,
        2,
    )
    assert f"that of the last MLP ({large} of the gap)" in page
    assert (
        f"all add up to {sum(float(part['score']) for part in needed.values()):.2f} of it" in page
    )
    heads = [
        (float(part["score"]), float(needed["output", part["layer"], part["head"]]["score"]))
        for part in parts
        if part["kind"] == "output"
    ]
    alike = spearmanr(*np.array(heads).T).statistic
    assert f"rank the heads alike by {float(alike):.2f} only" in page
    by_size = sorted(
        (part for part in parts if part["kind"] == "mlp"),
        key=lambda part: -abs(float(part["score"])),
    )
    assert {"6", "8", "9"} <= {part["layer"] for part in by_size[:8]}
    (best,) = [part for part in parts if (part["layer"], part["head"]) == ("24", "1")]
    score, low, high = (float(best[end]) for end in ("score", "low", "high"))
    assert score == max(float(part["score"]) for part in parts)
    assert f"with {score:.2f} [{low:.2f}, {high:.2f}] of the gap" in page
