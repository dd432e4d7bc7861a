"""Selections from start to end: a planted layer, every selector's budget, the cache, refusals."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config

from sumcirc.errors import UserError
from sumcirc.models.adapters import adapt, resolve_targets
from sumcirc.schema import (
    MODULES,
    Adaptation,
    AdaptationConfig,
    Granularity,
    ModelConfig,
    Preset,
    SelectorConfig,
    SelectorName,
    TrainConfig,
)
from sumcirc.selection.choosing import adapter_facts, check_selection, how_many, select
from sumcirc.selection.context import SelectionContext
from sumcirc.selection.ranking import rank
from sumcirc.selection.registry import SELECTORS
from sumcirc.selection.scores import Scores
from tests.support.small_evidence import evidence, selecting
from tests.support.small_models import small_config, write_model

GPT2_SMALL = GPT2Config()
RULES = [name for name, selector in SELECTORS.items() if not selector.measures]
PLANTED = 2


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A GPT-2 of 4 layers of which only layer 2 reads anything, so only it can reduce the loss.

    The norms of the others give zeros: their linears get no input, write nothing and learn nothing.
    """
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("planted")
    write_model(folder, small_config("gpt2", layers=4), tokenizer)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for layer, block in enumerate(model.transformer.h):
            if layer != PLANTED:
                for norm in (block.ln_1, block.ln_2):
                    norm.weight.zero_()
                    norm.bias.zero_()
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("circuit", "circuit_delta", "page", "fisher", "gradient_norm", "loraga"),
        *("extrapolated", "attention_kl", "entropy", "cka_redundancy"),
    ],
)
def test_the_only_layer_that_can_learn_is_found(
    name: str, planted: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    found = select(evidence(selecting(planted, news_files, tmp_path, name, count=1, batch_size=1)))
    assert found.layers == [PLANTED]
    assert found.stability == 1
    scores = {one.layer: one.score for one in found.ranking}
    others = max(abs(scores[layer]) for layer in scores if layer != PLANTED)
    assert scores[PLANTED] > 0
    assert others < 1e-3 * scores[PLANTED]


@pytest.mark.parametrize(
    "name", ["circuit", "page", "fisher", "gradient_norm", "loraga", "extrapolated"]
)
def test_modules_of_that_layer_come_first(
    name: str, planted: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    module = {"granularity": Granularity.module}
    config = selecting(planted, news_files, tmp_path, name, module, count=4)
    found = select(evidence(config))
    assert {layer for layer, _ in found.targets} == {PLANTED}
    assert {name for _, name in found.targets} == set(MODULES)


# ---- rules


def of_twelve(name: SelectorName, seed: int = 1, **options: Any) -> Any:
    """The selection of a rule on 12 layers: rules look at nothing else."""
    whole = options.pop("granularity", Granularity.layer)
    options["seed"] = options.pop("own_seed", None)
    adaptation = AdaptationConfig(
        kind=Adaptation.lora, layers="auto", budget=294_912, granularity=whole
    )
    options.setdefault("preset", Preset.hybrid if name is SelectorName.fixed else None)
    selector = SelectorConfig(name=name, **options)
    config: Any = SimpleNamespace(adaptation=adaptation, selector=selector, seed=seed)
    stub: Any = SimpleNamespace(
        config=config,
        layers=12,
        granularity=whole,
        seed=SelectionContext.seed.fget(SimpleNamespace(config=config)),  # type: ignore[attr-defined]
    )
    return select(stub)


@pytest.mark.parametrize(
    ("name", "count", "layers"),
    [
        (SelectorName.all, None, list(range(12))),
        (SelectorName.first, None, [0, 1, 2]),
        (SelectorName.last, 2, [10, 11]),
        (SelectorName.middle, 4, [4, 5, 6, 7]),
        (SelectorName.fixed, None, [5, 10, 11]),
    ],
)
def test_rules(name: SelectorName, count: int | None, layers: list[int]) -> None:
    assert of_twelve(name, count=count).layers == layers
    assert len(of_twelve(name, granularity=Granularity.module, count=count).targets) == (
        4 * len(layers) if count is None and name is not SelectorName.first else count or 12
    )


def test_random_is_the_same_for_a_seed_and_differs_between_seeds() -> None:
    name = SelectorName.random
    assert of_twelve(name, seed=3) == of_twelve(name, seed=3)
    assert len({tuple(of_twelve(name, seed=seed).layers) for seed in range(20)}) > 15
    # its own seed wins over the run's
    own = [of_twelve(name, seed=run, own_seed=9) for run in (1, 2)]
    assert own[0] == own[1] == of_twelve(name, seed=9)
    drawn = [layer for seed in range(400) for layer in of_twelve(name, seed=seed).layers]
    counts = np.bincount(drawn, minlength=12)
    # 100 expected, standard deviation 8.7
    assert (abs(counts - 100) < 40).all()


def test_random_modules_are_spread() -> None:
    found = of_twelve(SelectorName.random, granularity=Granularity.module)
    assert len(found.targets) == 12
    assert len({layer for layer, _ in found.targets}) > 3


@pytest.mark.parametrize("granularity", list(Granularity))
@pytest.mark.parametrize("name", list(SelectorName))
@pytest.mark.parametrize("budget", [147_456, 294_912, 500_000])
def test_every_selector_uses_the_budget(
    name: SelectorName, granularity: Granularity, budget: int
) -> None:
    """On GPT-2 small's shapes; scores of selectors that measure are drawn here."""
    if name in RULES:
        found = of_twelve(name, granularity=granularity)
    else:
        random = np.random.default_rng(list(SelectorName).index(name))
        parts = 4 if SELECTORS[name].modules else 1
        if parts == 1 and granularity is Granularity.module:
            return
        scores = Scores(random.random((12, parts, 5)), "", "", "documents")
        found = rank(scores, name.value, granularity, list(MODULES), 3, 10)
    config = AdaptationConfig(kind=Adaptation.lora, layers="auto", budget=budget)
    targets = resolve_targets(config, GPT2_SMALL, found.targets)
    assert 0.97 * budget <= targets.parameters <= budget


# ---- scores are kept


@pytest.mark.parametrize("name", ["circuit", "page", "attention_kl"])
def test_a_second_job_computes_nothing(
    name: str,
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # too few documents to refuse a ranking of this random model, which is one of chance
    few = {"documents": 7}
    config = selecting(gpt2_folder, news_files, tmp_path, name, **few)
    first = select(evidence(config))
    selector = SELECTORS[SelectorName(name)]

    def refuse(looked_at: SelectionContext) -> Scores:
        raise AssertionError("computed again")

    monkeypatch.setitem(SELECTORS, SelectorName(name), replace(selector, score=refuse))
    assert select(evidence(replace(config, seed=7))) == first
    # scores are the same, more are chosen; 5 % of so few edges lie in one layer
    count = 1 if name == "circuit" else 2
    other = selecting(gpt2_folder, news_files, tmp_path, name, count=count, **few)
    assert len(select(evidence(other)).layers) == count
    for change in ({"documents": 5}, {"metric": config.selector.metric.nll, **few}):
        with pytest.raises(AssertionError, match="computed again"):
            select(evidence(selecting(gpt2_folder, news_files, tmp_path, name, **change)))


def test_selectors_share_one_probe_run(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("attention_kl", "entropy", "drift", "circuit_delta"):
        SELECTORS[SelectorName(name)].score(
            evidence(selecting(gpt2_folder, news_files, tmp_path, name))
        )
    runs = [one for one in (tmp_path / "cache" / "probe_runs").iterdir() if one.is_dir()]
    assert len(runs) == 1


def test_the_probe_run_trains_with_the_dropout_that_runs_do(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    """The model's own is 0.1."""
    weights = {}
    for dropout in (None, 0.1, 0.0):
        config = selecting(gpt2_folder, news_files, tmp_path / str(dropout), "drift")
        config.model.dropout = dropout
        assert evidence(config).tuned.active_adapter == "default"
        (file,) = tmp_path.glob(f"{dropout}/cache/probe_runs/*/adapter_model.safetensors")
        weights[dropout] = (file.read_bytes(), file.parent.name)
    assert weights[None][0] == weights[0.1][0] != weights[0.0][0]
    assert len({folder for _, folder in weights.values()}) == 3


def test_jobs_at_the_same_time_compute_once(
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    selector = SELECTORS[SelectorName.fisher]

    def counted(looked_at: SelectionContext) -> Scores:
        calls.append(looked_at)
        return selector.score(looked_at)

    monkeypatch.setitem(SELECTORS, SelectorName.fisher, replace(selector, score=counted))
    config = selecting(gpt2_folder, news_files, tmp_path, "fisher")
    jobs = [evidence(config) for _ in range(3)]
    threads = [threading.Thread(target=select, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_selecting_draws_nothing_from_the_runs_generators(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    found = evidence(selecting(gpt2_folder, news_files, tmp_path, "entropy", documents=7))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    weights = {name: p.clone() for name, p in found.model.named_parameters()}
    select(found)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert {n for n, _ in found.model.named_parameters()} == set(weights)
    assert all(torch.equal(p, weights[name]) for name, p in found.model.named_parameters())


def test_the_choice_is_what_is_adapted(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    budget = {"rank": None, "budget": 30_000, "granularity": Granularity.module}
    config = selecting(gpt2_folder, news_files, tmp_path, "page", budget, count=3)
    found = evidence(config)
    ranking = select(found)
    facts = adapter_facts(config.adaptation, found.model.config, ranking)["adapter"]
    adapted = adapt(found.model, config.adaptation, ranking.targets)
    trained = {
        name.removeprefix("base_model.model.").split(".lora_")[0]
        for name, p in adapted.named_parameters()
        if p.requires_grad
    }
    assert trained == set(facts["targets"])
    assert facts["parameters"] == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert 0.97 <= facts["used"] <= 1
    assert facts["selector"] == "page"
    assert facts["scale"] == 2


# ---- refusals


def test_every_selector_has_a_name_and_a_file() -> None:
    from sumcirc.cli.command import CONF

    assert set(SELECTORS) == set(SelectorName)
    files = {path.stem for path in (CONF / "selector").glob("*.yaml")}
    assert files == {name.value for name in SelectorName} | {one.value for one in Preset}


@pytest.mark.parametrize(
    ("name", "adaptation", "selector", "parts"),
    [
        ("fixed", {}, {"preset": Preset.observed}, ["selector=observed", "layer 9", "2 layers"]),
        ("fixed", {}, {}, ["selector=fixed", "selector.layers="]),
        ("fixed", {}, {"layers": [5]}, ["selector.layers=[5]", "layer 5 is out of range"]),
        ("page", {"layers": [1]}, {}, ["adaptation.layers=[1]", "selector=page", "leave one"]),
        ("page", {"layers": "all"}, {}, ["adaptation.layers=all", "selector=page"]),
        ("drift", {"granularity": Granularity.module}, {}, ["selector=drift", "circuit", "page"]),
        ("page", {}, {"count": 3}, ["selector.count=3", "2 layers"]),
        (
            "entropy",
            {},
            {"probe_steps": 0},
            ["selector=entropy", "sumcirc train", "selector.after"],
        ),
        ("page", {"rank": None, "budget": 200}, {"count": 2}, ["adaptation.budget=200", "raise"]),
    ],
)
def test_refusals(
    name: str,
    adaptation: dict[str, Any],
    selector: dict[str, Any],
    parts: list[str],
    gpt2_folder: Path,
    news_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    config = selecting(gpt2_folder, news_files, tmp_path, name, adaptation, **selector)
    with pytest.raises(UserError) as refused:
        check_selection(config, small_config("gpt2"))
    for part in parts:
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_budget_for_modules_must_do_for_the_dearest() -> None:
    adaptation = AdaptationConfig(
        kind=Adaptation.lora, layers="auto", budget=3_840 * 2 - 1, granularity=Granularity.module
    )
    selector = SelectorConfig(name=SelectorName.page, count=2)
    model = ModelConfig(name="gpt2", path="gpt2")
    config: Any = SimpleNamespace(adaptation=adaptation, selector=selector, model=model)
    with pytest.raises(UserError, match=r"takes 7680 parameters"):
        check_selection(config, GPT2_SMALL)
    adaptation.budget = 7_680
    check_selection(config, GPT2_SMALL)
    assert how_many(config, 12) == 2


def test_full_fine_tuning_has_nothing_to_choose(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config = selecting(gpt2_folder, news_files, tmp_path, "page")
    full = replace(config, adaptation=AdaptationConfig(kind=Adaptation.full))
    with pytest.raises(UserError, match=r"selector=page: full fine-tuning .* adaptation=lora"):
        check_selection(full, small_config("gpt2"))


def test_without_a_selector_the_named_layers_are_checked(
    gpt2_folder: Path, news_files: dict[str, Path], tmp_path: Path
) -> None:
    config: TrainConfig = selecting(gpt2_folder, news_files, tmp_path, "page")
    plain = replace(config, selector=SelectorConfig())
    with pytest.raises(UserError, match=r"adaptation\.layers=auto"):
        check_selection(plain, small_config("gpt2"))
