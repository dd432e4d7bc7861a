"""`sumcirc compare` as a user types it: on runs of training, on folders, on prompts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from sumcirc.compare.items.rephrase import rephrase_prompts
from tests.support.command_server import CommandServer
from tests.support.small_models import small_config, write_model

SMALL = ["compare.items=3", "trainer.threads=1"]
FEW = ["compare.parts=[mlp]", "compare.top=0", "compare.lambdas=[0.0,1.0]", "compare.items=2"]
TABLES = {"patching", "sets", "synergy", "direct", "attention", "surgery", "text"}
TABLES |= {"path", "path_effects", "path_pairs", "logit_lens"}


@pytest.fixture(scope="module")
def runs(
    commands: CommandServer, small_run: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A full and a LoRA run of a few steps, by name."""
    here = tmp_path_factory.mktemp("trained")
    found = {}
    for name in ("full", "lora"):
        done = commands.run(
            *("train", *small_run, "callbacks=none", f"adaptation={name}"),
            *("sweep.name=t", f"run.name={name}", *(["adaptation.rank=4"] * (name == "lora"))),
            cwd=here,
            figures=False,
        )
        assert done.code == 0, done.output
        found[name] = here / "runs/t" / name
    return found


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two Llamas with grouped queries, whose tokenizer has a token for every word it reads."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = " ?[^ :]+|:"
    texts = [one.prompt + end for one in rephrase_prompts(1, 400) for end in (one.good, one.bad)]
    words = sorted({word for text in texts for word in re.findall(pieces, text)})
    numbered = {word: number for number, word in enumerate(["<s>", *words])}
    made = Tokenizer(models.WordLevel(numbered, unk_token="<s>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), "isolated")  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="<s>")
    found = {}
    for name in ("base", "instruct"):
        folder = tmp_path_factory.mktemp(name)
        found[name] = write_model(folder, small_config("llama"), tokenizer)
    file = found["instruct"] / "model.safetensors"
    generator = torch.Generator().manual_seed(1)
    changed = {
        name: value + 0.2 * torch.randn(value.shape, generator=generator)
        for name, value in load_file(file).items()
    }
    save_file(changed, file, metadata={"format": "pt"})
    return found


def compared(commands: CommandServer, cwd: Path, *words: str) -> tuple[Path, dict[str, Any], str]:
    """The run directory that a comparison left, its summary, and what was printed."""
    done = commands.run("compare", *words, "sweep.name=c", cwd=cwd)
    assert done.code == 0, done.output
    assert "Traceback" not in done.output
    (run,) = (path for path in (cwd / "runs/c").iterdir() if path.is_dir())
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    assert not list(run.glob(".states-*"))
    assert f"run directory: {run}" in done.output
    return run, json.loads((run / "summary.json").read_text()), done.output


def test_a_run_beside_what_it_was_trained_from(
    commands: CommandServer, runs: dict[str, Path], tmp_path: Path
) -> None:
    run, summary, output = compared(
        commands, tmp_path, f"after={runs['lora']}", *SMALL, "logger=wandb"
    )
    assert (summary["before"], summary["items"]) == ("small", 3)
    assert (summary["metric"], summary["unit"]) == ("log_probability", "nats")
    assert summary["positions"] == "read"
    assert {"data", "compare", "write"} <= set(summary["seconds"])
    found = summary["after"]["lora"]
    analyses = {"differences", "direct", "attention", "logit_lens", "patching", "surgery", "path"}
    assert set(found) == {"metric", *analyses}
    assert set(found["patching"]) == {"sufficiency", "necessity"}
    gap = found["metric"]["difference"]["mean"]
    assert gap > 0
    for carried in found["patching"].values():
        # 2 layers of 4 heads and values, MLP; 3 residual streams; an adapter shares the unembedding
        assert {row["kind"] for row in carried["parts"]} >= {"output", "value", "mlp", "residual"}
        streams = [row["mean"] for row in carried["parts"] if row["part"] == "residual.2"]
        assert streams == [pytest.approx(1, abs=1e-3)]
        assert {row["kind"] for row in carried["sets"]} == {"first", "random"}
    whole = {row["amount"]: row for row in found["surgery"] if row["arm"] == "whole"}
    assert whole[0.0]["mean"] == 0
    assert whole[1.0]["mean"] == pytest.approx(1)

    path = found["path"]
    assert path["converged"]
    for rows in (path["units"]["layer"], path["units"]["module"]):
        assert sum(row["mean"] for row in rows) == pytest.approx(1, abs=0.01)
    effects = path["effects"]
    assert (effects["exact"], effects["models"]) == (True, 4)
    assert sum(row["shapley"]["mean"] for row in effects["units"]) == pytest.approx(1, abs=1e-6)

    tables = {file.stem for file in (run / "compare/lora").glob("*.parquet")}
    assert tables == TABLES
    rows = pyarrow.parquet.read_table(run / "compare/lora/patching.parquet").to_pylist()
    moved = [row for row in rows if row["direction"] == "sufficiency" and row["part"] == "mlp.1"]
    score = sum(r["effect"] for r in moved) / sum(r["donor"] - r["receiver"] for r in moved)
    (told,) = [x for x in found["patching"]["sufficiency"]["parts"] if x["part"] == "mlp.1"]
    assert score == pytest.approx(told["mean"])
    assert list((run / "compare/lora").rglob("*.safetensors"))
    for name in (
        *(
            "attention_divergence",
            "entropy_difference",
            "direct",
            "span_attention",
            "residual_patching",
        ),
        *("sufficiency_output", "necessity_output_value", "surgery", "cka_by_layer", "path"),
    ):
        assert (run / f"figures/{name}.png").stat().st_size > 5000, name
    for title in (
        *("heads whose attention changed most", "direct contributions", "attention from span"),
        *("sufficiency: after's parts into before", "necessity: before's parts into after"),
        *("the whole change scaled", "the change without one part"),
        *("path attribution, share of the gain by layers", "layers by path score, together"),
    ):
        assert title in output
    (logged,) = (run / "wandb").glob("offline-run-*/*.wandb")
    content = logged.read_bytes()
    for name in (
        *("compare/lora/difference/mean", "compare/lora/sufficiency", "figures/surgery"),
        *("compare/lora/path_layer", "figures/path"),
        *("compare/lora/logit_lens", "figures/logit_lens"),
    ):
        assert name.encode() in content, name


def test_a_run_that_is_killed_keeps_what_it_finished(
    commands: CommandServer, runs: dict[str, Path], tmp_path: Path
) -> None:
    words = ["compare", f"after={runs['lora']}", *SMALL, "compare.top=0", "logger=none"]
    words += ["compare.analyses=[direct,logit_lens,patching,delta_scaling,path]", "sweep.name=k"]
    done = commands.run(*words, cwd=tmp_path, kill_at="path_attributed")
    assert done.code == -9, done.output
    (run,) = (path for path in (tmp_path / "runs/k").iterdir() if path.is_dir())
    analyses = {"direct", "logit_lens", "patching", "surgery"}
    tables = {file.name for file in (run / "compare/lora").iterdir()}
    assert tables == {f"{name}.parquet" for name in analyses | {"text"}}
    kept = json.loads((run / "summary.json").read_text())["after"]["lora"]
    assert set(kept) == {"metric"} | analyses
    assert set(kept["patching"]) == {"necessity"}  # `sufficiency` comes after the other analyses
    report = commands.run("report", str(run), cwd=tmp_path)
    assert report.code == 0, report.output

    # what is left of a run that is replaced isn't taken for results of the one that replaces it
    (run / "compare/lora/masks.parquet").write_bytes(b"")
    done = commands.run(*words, cwd=tmp_path)
    assert done.code == 0, done.output
    tables = {file.name for file in (run / "compare/lora").iterdir()}
    own = {"text", "path", "path_effects", "path_pairs"}
    assert tables == {f"{name}.parquet" for name in analyses | own}
    found = json.loads((run / "summary.json").read_text())["after"]["lora"]
    assert set(found) == {"metric", "path"} | analyses
    assert all(found[name] == kept[name] for name in ("direct", "logit_lens", "surgery"))


@pytest.mark.slow
def test_two_runs_beside_their_base_and_each_other(
    commands: CommandServer, runs: dict[str, Path], tmp_path: Path
) -> None:
    run, summary, _ = compared(
        commands, tmp_path, f"after=[{runs['full']},{runs['lora']}]", *SMALL, *FEW, "logger=none"
    )
    assert list(summary["after"]) == ["full", "lora"]
    assert summary["items"] == 2
    # the unembedding differs where all was trained; the surgery has every module of both
    assert (run / "compare/full-and-lora").is_dir()
    pairs = (run / "figures/cka_by_layer.csv").read_text()
    for name in ("small and full", "small and lora", "full and lora"):
        assert name in pairs
    for name in ("full", "lora"):
        assert (run / f"figures/{name}/surgery.png").exists()
        assert (run / f"compare/{name}/patching.parquet").exists()


def test_masks_are_learned_when_asked_for(
    commands: CommandServer, runs: dict[str, Path], news_files: dict[str, Path], tmp_path: Path
) -> None:
    run, summary, output = compared(
        commands,
        tmp_path,
        f"after={runs['full']}",
        *("compare.analyses=[masks]", "compare.items=20"),
        *(f"data.test={news_files['train']}", "logger=none"),
        *("compare.masks.steps=2", "compare.masks.seeds=2", "compare.masks.random=2"),
        *("compare.masks.grain=layer", "trainer.threads=1"),
    )
    (found,) = summary["after"].values()
    assert set(found) == {"metric", "masks"}
    masks = found["masks"]
    assert (masks["grain"], masks["trained_on"], masks["judged_on"]) == ("layer", 10, 10)
    assert [row["size"] for row in masks["rankings"]["masks"]["curve"]] == masks["sizes"]
    assert masks["rankings"]["random_weights"]["draws"] == 2
    assert {"embedding", "layer 0", "layer 1"} <= {row["unit"] for row in masks["units"]}
    assert sorted(row["ranks"][0] for row in masks["units"]) == [1, 2, 3, 4]
    (folder,) = (run / "compare").iterdir()
    assert {file.stem for file in folder.glob("*.parquet")} == {"masks", "mask_units"}
    assert (run / "figures/masks.png").exists()
    for words in (
        *("train masks: 4/4", "train grafting: 4/4", "judge rankings: "),
        *("the best units alone, share of the gain", "layers by learned masks"),
    ):
        assert words in output


def test_the_gain_along_training(
    commands: CommandServer, small_run: list[str], tmp_path: Path, runs: dict[str, Path]
) -> None:
    for name in ("full", "lora"):
        done = commands.run(
            *("train", *small_run, "callbacks=none", f"adaptation={name}", "sweep.name=t"),
            *(f"run.name={name}", "trainer.keep_checkpoints=-1"),
            *(["adaptation.rank=4"] * (name == "lora")),
            cwd=tmp_path,
            figures=False,
        )
        assert done.code == 0, done.output
    words = ("compare.analyses=[path]", "compare.path.trajectory=true", *SMALL, "logger=none")
    afters = [tmp_path / "runs/t" / name for name in ("full", "lora")]
    run, summary, output = compared(
        commands, tmp_path, f"after=[{','.join(map(str, afters))}]", *words
    )
    for name in ("full", "lora"):
        found = summary["after"][name]["path"]["trajectory"]
        assert found["converged"]
        assert len(found["segments"]) > 1
        assert sum(row["gain"]["mean"] for row in found["segments"]) == pytest.approx(1)
        for grain in ("layer", "module"):
            total = sum(row["mean"] for row in found["units"][grain])
            assert total == pytest.approx(1, abs=0.01)
        tables = {file.stem for file in (run / "compare" / name).glob("*.parquet")}
        assert {"trajectory", "trajectory_metric", "path_pairs"} <= tables
        for figure in ("path_trajectory", "path_pairs"):
            assert (run / f"figures/{name}/{figure}.png").stat().st_size > 5000
    assert "along the training trajectory, share of the gain by layers" in output
    for after, words_found in (
        (runs["lora"], "kept fewer than 2 checkpoints, which compare.path.trajectory=true needs"),
        (runs["lora"] / "adapter", "is no run of `sumcirc train`, so it has no checkpoints"),
    ):
        done = commands.run("compare", f"after={after}", *words, cwd=tmp_path)
        assert done.code == 2, done.output
        assert words_found in done.output


def test_a_model_beside_itself(commands: CommandServer, tmp_path: Path) -> None:
    _, summary, output = compared(
        commands,
        tmp_path,
        *("before=tiny", "after=tiny", *SMALL, *FEW, "logger=none", "prompts=facts"),
    )
    assert "the models give the same results on these items up to rounding" in output
    (found,) = summary["after"].values()
    numbers = [found["metric"]["difference"]["mean"]]
    numbers += [row["mean"] for row in (*found["direct"], *found["attention"])]
    shares = [row["mean"] for row in found["surgery"]]
    for carried in found["patching"].values():
        numbers += [row["effect"]["mean"] for row in carried["parts"]]
        shares += [row[key] for row in carried["parts"] for key in ("mean", "attributed")]
    # patched rows share a pass with others, which rounds differently
    assert max(map(abs, numbers)) < 1e-5
    assert set(shares) == {None}
    assert found["path"] == {
        "left_out": "path: no weight differs between the models; nothing is attributed"
    }
    assert summary["metric"] == "logit_difference"
    assert summary["positions"] == "last"


def test_wrong_facts_beside_right_ones(
    commands: CommandServer, runs: dict[str, Path], tmp_path: Path
) -> None:
    words = ("compare.metric=wrong_fact", "compare.analyses=[direct,patching,path]", *FEW)
    _, summary, output = compared(
        commands, tmp_path, f"after={runs['lora']}", *words, "trainer.threads=1", "logger=none"
    )
    assert (summary["metric"], summary["unit"], summary["items"]) == ("wrong_fact", "logits", 2)
    assert summary["positions"] == "read"
    assert "small and lora: wrong_fact of 2 items (logits): before" in output
    (found,) = summary["after"].values()
    assert set(found) == {"metric", "direct", "patching", "path"}
    done = commands.run(
        *("compare", f"after={runs['lora']}", "prompts=facts", "compare.metric=wrong_fact"),
        cwd=tmp_path,
    )
    assert done.code == 2
    assert "compare.metric=wrong_fact: is for documents, not for prompts=facts" in done.output


# ---- prompts


def test_the_post_on_rephrasing(
    commands: CommandServer, llamas: dict[str, Path], tmp_path: Path
) -> None:
    run, summary, output = compared(
        commands,
        tmp_path,
        *("experiment=rephrase", f"before={llamas['base']}", f"after={llamas['instruct']}"),
        *("compare.items=6", "compare.top=2", "compare.random_sets=1", "compare.lambdas=[0.0,1.0]"),
        *("trainer.threads=1", "logger=none"),
    )
    assert (summary["metric"], summary["positions"], summary["items"]) == (
        *("logit_difference", "last"),
        6,
    )
    (found,) = summary["after"].values()
    rows = found["patching"]["sufficiency"]["parts"]
    assert {row["kind"] for row in rows} == {
        *("output", "query", "key", "value", "pattern"),
        *("attention", "mlp", "residual", "unembedding"),
    }
    # 4 heads share 2 keys and values a layer, and the table says which
    assert {row["part"] for row in rows if row["kind"] == "value"} == {
        f"value.{layer}.{index} (heads {2 * index}-{2 * index + 1})"
        for layer in range(2)
        for index in range(2)
    }
    spans = {(row["source"], row["destination"]) for row in found["attention"]}
    assert spans == {(name, "last") for name in ("adjective", "instruction", "colon")}
    assert (run / "figures/sufficiency_output_value.png").exists()
    assert "-0.000 " not in output


def test_rephrasing_takes_the_models_of_runs(
    commands: CommandServer, runs: dict[str, Path], tmp_path: Path
) -> None:
    """The small tokenizer knows none of the answers: refused, with the model of the run."""
    done = commands.run(
        *("compare", "experiment=rephrase", f"after={runs['lora']}", "logger=none"), cwd=tmp_path
    )
    assert done.code == 2
    assert "has two answers that are single tokens of this model" in done.output
    (config,) = tmp_path.rglob("config.yaml")
    stored = yaml.safe_load(config.read_text())["config"]
    assert (stored["model"]["name"], stored["data"]["name"]) == ("small", "wire")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    lines = [
        {"prompt": f"Trains to {place} reached the", "good": " storm", "bad": " coast"}
        | {"spans": [{"name": "place", "characters": [10, 10 + len(place)]}]}
        for place in ("Porto", "Braga", "Lisbon")
    ]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.mark.slow
def test_own_prompts_at_several_positions(
    commands: CommandServer, runs: dict[str, Path], prompts: Path, tmp_path: Path
) -> None:
    words = [f"after={runs['lora']}", f"prompts={prompts}", *FEW, "trainer.threads=1"]
    swept = ["compare.positions=last,place", "compare.analyses=[patching]", "logger=none"]
    done = commands.run("compare", "-m", *words, *swept, "sweep.name=c", cwd=tmp_path)
    assert done.code == 0, done.output
    found = {
        summary["positions"]: summary
        for file in (tmp_path / "runs/c").glob("*/summary.json")
        for summary in [json.loads(file.read_text())]
    }
    assert set(found) == {"last", "place"}
    scores = [
        [row["mean"] for row in one["after"]["lora"]["patching"]["sufficiency"]["parts"]]
        for one in found.values()
    ]
    assert scores[0] != scores[1]


# ---- mistakes, each one line before weights are read


def refused(commands: CommandServer, cwd: Path, *words: str) -> str:
    line = commands.run("compare", *words, cwd=cwd).refusal
    assert line.startswith("sumcirc: ")
    assert not (cwd / "runs").exists()
    return line


def test_what_can_not_be_compared_is_one_line(
    commands: CommandServer,
    runs: dict[str, Path],
    gpt2_folder: Path,
    llama_folder: Path,
    llamas: dict[str, Path],
    tokenizer: Any,
    tmp_path: Path,
) -> None:
    lora, base = runs["lora"], gpt2_folder
    unfinished, evaluated = tmp_path / "unfinished", tmp_path / "evaluated"
    for folder, verb in ((unfinished, "train"), (evaluated, "evaluate")):
        folder.mkdir()
        for name in ("config.yaml", "status.json"):
            text = (lora / name).read_text().replace("verb: train", f"verb: {verb}")
            (folder / name).write_text(text)
    deeper = write_model(tmp_path / "deeper", small_config("gpt2", layers=3), tokenizer)
    reads_otherwise = write_model(
        tmp_path / "other", small_config("llama"), AutoTokenizer.from_pretrained(llama_folder)
    )
    vocabulary = json.loads((reads_otherwise / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    swapped = [word for word, number in words.items() if number in (300, 301)]
    words[swapped[0]], words[swapped[1]] = words[swapped[1]], words[swapped[0]]
    vocabulary["model"]["merges"] = []
    (reads_otherwise / "tokenizer.json").write_text(json.dumps(vocabulary))

    for given, parts in (
        ([], ["after=", "after=RUN_DIR"]),
        (["after=null"], ["after="]),
        (["after=[]"], ["after=", "after=RUN_DIR"]),
        (["after=nowhere/at/all", "before=tiny"], ["nowhere/at/all"]),
        (["after=tiny"], ["after=", "before=MODEL"]),
        ([f"after={unfinished}"], [str(unfinished), "training did not finish"]),
        ([f"after={evaluated}"], ["after=", "is a run of `sumcirc evaluate`"]),
        ([f"before={evaluated}", f"after={lora}"], ["before=", "is a run of `sumcirc evaluate`"]),
        ([f"before={base}", f"after={llama_folder}"], ["is a `llama`, before a `gpt2`"]),
        ([f"before={base}", f"after={deeper}"], ["layers 2 and 3"]),
        ([f"before={llama_folder}", f"after={reads_otherwise}"], ["another vocabulary"]),
        ([f"before={llama_folder}", f"after={llamas['base']}"], ["vocabulary"]),
        ([f"after=[{lora},{lora}]"], ["after=", "twice"]),
        ([f"before={base}", f"after={lora}", "model=gpt2"], ["before=", "leave model= out"]),
        ([f"after={lora}", "model=gpt2"], ["after=", "leave model= out"]),
        ([f"after={lora}", "experiment=demo"], ["after=", "experiment= has no effect"]),
        ([f"before={runs['full']}", f"after={lora}"], ["is an adapter", "merge it"]),
        ([f"before={lora}", f"after={runs['full']}"], ["is an adapter", "compare.analyses"]),
    ):
        line = refused(commands, tmp_path, *given)
        for part in parts:
            assert part in line, (given, line)


def test_settings_that_say_nothing_are_one_line(
    commands: CommandServer, runs: dict[str, Path], prompts: Path, tmp_path: Path
) -> None:
    def own(**changes: Any) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        line = json.loads(prompts.read_text().splitlines()[0]) | changes
        file.write_text(json.dumps(line) + "\n")
        return f"prompts={file}"

    beyond = [{"name": "place", "characters": [10, 99]}]
    for given, parts in (
        (["compare.parts=[mlp,heads]"], ["compare.parts", "`heads`", "output"]),
        (["compare.parts=[]"], ["compare.parts", "one at least"]),
        (["compare.sets=[[output.0]]"], ["compare.sets", "output.0"]),
        (["compare.sets=[[output.9.0]]"], ["compare.sets", "output.9.0"]),
        (["compare.positions=middle"], ["compare.positions=middle", "salient", "summary"]),
        (["compare.sources=fact"], ["compare.sources=fact", "salient"]),
        ([own(), "compare.positions=salient"], ["compare.positions=salient", "place"]),
        (["compare.lambdas=[1.0,0.5]"], ["compare.lambdas=[1.0,0.5]", "rising"]),
        (["compare.analyses=[magic]"], ["compare.analyses", "magic"]),
        (["compare.items=0"], ["compare.items=0"]),
        (["compare.items=15", "compare.analyses=[masks]"], ["15 items", "raise compare.items"]),
        (["compare.masks.grain=direction"], ["grain=direction: choose from layer, module, head"]),
        (["compare.text=none.jsonl"], ["compare.text=none.jsonl"]),
        ([f"compare.text={prompts}"], ["no column `text`", "prompt"]),
        (["prompts=facts"], ["prompts=facts", "data=wire"]),
        (["prompts=none.jsonl"], ["prompts=none.jsonl"]),
        ([own(good=" storm surge")], ["line 1", "tokens", "single token"]),
        ([own(bad=" storm")], ["line 1", "two answers"]),
        ([own(good="s")], ["line 1"]),
        ([own(spans=beyond)], ["line 1", "[start, end] within 0 and"]),
        ([own(prompt="storm " * 400)], ["line 1"]),
    ):
        line = refused(commands, tmp_path, f"after={runs['lora']}", *given)
        for part in parts:
            assert part in line, (given, line)
