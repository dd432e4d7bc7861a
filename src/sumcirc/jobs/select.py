"""`sumcirc select`: ranks layers or modules for LoRA and writes a PEFT configuration.

Other training code can use the results without this package: `lora/adapter_config.json` and
`lora_config.py` name the base model's own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say
from sumcirc.schema import SelectConfig

if TYPE_CHECKING:
    from peft import LoraConfig

    from sumcirc.selection.ranking import Ranking
    from sumcirc.tracking.run_directory import RunDirectory

PYTHON = '''\
"""LoRA targets in BASE, selected by sumcirc {version}."""

from peft import LoraConfig

BASE = {base}
CHOSEN = {chosen}

config = LoraConfig(
{arguments}
)

# from peft import get_peft_model
# from transformers import AutoModelForCausalLM
# model = get_peft_model(AutoModelForCausalLM.from_pretrained(BASE), config)
'''


def check(config: SelectConfig) -> None:
    """Check the settings before the job starts, so that it doesn't fail later.

    Args:
        config: configuration of the job.

    Raises:
        UserError: a setting can't work; the message names it, its value and the remedy.
    """
    from sumcirc.data.documents import check_files
    from sumcirc.errors import UserError
    from sumcirc.jobs._encoding import check_encoding
    from sumcirc.models.adapters import require_lora_config
    from sumcirc.models.architectures import architecture
    from sumcirc.models.loading import check_model, read_model_config
    from sumcirc.selection.choosing import check_selection
    from sumcirc.storage.writing import check_writable
    from sumcirc.training.machine import check_machine

    check_writable("cache_dir", config.cache_dir)
    if config.selector.name is None:
        raise UserError("selector: none is given, so there is nothing to do; give selector=NAME")
    require_lora_config(config.adaptation)
    check_machine(config.trainer)
    check_files(config.data, ["train"])
    check_model(config.model)
    check_encoding(config.model, config.encoding)
    model_config = read_model_config(config.model)
    architecture(model_config)
    check_selection(config, model_config)


def run(config: SelectConfig, folder: Path) -> None:
    """Select the layers or modules that get adapters, and write the choice to the run directory.

    Args:
        config: configuration of the job.
        folder: the run directory.
    """
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "select", check, _select)


def _select(config: SelectConfig, directory: RunDirectory) -> None:
    from sumcirc.data.datamodule import SummarizationData
    from sumcirc.data.encoding import Encoder
    from sumcirc.figures.views import draw
    from sumcirc.models.architectures import context_length
    from sumcirc.models.loading import load_model, load_tokenizer
    from sumcirc.reporting.views.layer_ranking import ranking as ranking_view
    from sumcirc.runtime.notices import print_lines
    from sumcirc.selection.choosing import adapter_facts, select
    from sumcirc.selection.context import SelectionContext
    from sumcirc.tracking import wandb
    from sumcirc.tracking.session import Clock
    from sumcirc.training.machine import device, set_threads

    clock = Clock()
    set_threads(config.trainer)
    model: Any = load_model(config.model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model.config))
    cache = Path(config.cache_dir)
    with clock.phase("data"):
        data = SummarizationData(config.data, config.trainer, encoder, cache, config.seed)
        data.read(["train"])
    with wandb.wandb_job(config, directory, "select", config.data.name) as wandb_logger:
        with clock.phase("select"):
            model.to(device(config.trainer))
            ranking = select(SelectionContext(config, model, encoder, data))
        facts = adapter_facts(config.adaptation, model.config, ranking)
        ranking.save(directory.ranking_file)
        draw(ranking_view(asdict(ranking)), directory.figures / "selection.png")
        lora = _write_lora(config, directory, model, ranking)
        notices = data.notices.as_json()
        summary = {"model": config.model.name, **facts, "seconds": clock.seconds}
        summary["notices"] = notices
        directory.write_summary(summary)
        if wandb_logger is not None:
            wandb.log_settings(wandb_logger, {"adapter": facts["adapter"]})
            rows = [list(asdict(one).values()) for one in ranking.ranking]
            columns = list(asdict(ranking.ranking[0]))
            wandb.log_table(wandb_logger, 0, "selection", columns, rows)
            wandb.log_figures(wandb_logger, directory.figures)
    print_lines(notices)
    _print(ranking, facts["adapter"], lora, directory)


def _write_lora(
    config: SelectConfig, directory: RunDirectory, model: Any, ranking: Ranking
) -> LoraConfig:
    """Write PEFT's adapter_config.json, and Python code that builds the same configuration."""
    from sumcirc.models.adapters import lora_config, resolve_targets
    from sumcirc.models.loading import resolve_path
    from sumcirc.models.variants import variant_fields
    from sumcirc.storage.writing import write_folder, write_text

    targets = resolve_targets(config.adaptation, model.config, ranking.targets)
    base = resolve_path(config.model.path, "model.path")
    lora = lora_config(config.adaptation, targets, base)
    write_folder(directory.path / "lora", lambda folder: lora.save_pretrained(str(folder)))
    shown = {
        "task_type": "CAUSAL_LM",
        "r": lora.r,
        "lora_alpha": lora.lora_alpha,
        "use_rslora": lora.use_rslora,
        "lora_dropout": lora.lora_dropout,
        "fan_in_fan_out": lora.fan_in_fan_out,
        "target_modules": list(targets.names),
        "rank_pattern": lora.rank_pattern,
        "alpha_pattern": lora.alpha_pattern,
        **variant_fields(config.adaptation),
    }
    chosen = {
        "selector": ranking.selector,
        "because": ranking.reason,
        "data": config.data.name,
        "trainable_parameters": targets.parameters,
    }
    write_text(directory.path / "lora_config.py", _python(base, chosen, shown))
    return lora


def _python(base: str, chosen: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    """Return the source of lora_config.py, in which all names are written as string literals."""
    from sumcirc import __version__
    from sumcirc.runtime.quoting import python

    lines = [f"    {name}={python(value)}," for name, value in arguments.items()]
    return PYTHON.format(
        version=__version__, base=python(base), chosen=python(chosen), arguments="\n".join(lines)
    )


def _print(
    ranking: Ranking, adapter: dict[str, Any], lora: LoraConfig, directory: RunDirectory
) -> None:
    from sumcirc.reporting.tables import print_tables
    from sumcirc.reporting.views.layer_ranking import ranking_table
    from sumcirc.statistics import MIN_DOCUMENTS

    print_tables(ranking_table(asdict(ranking)))
    if ranking.stability is not None:
        say(
            f"{ranking.size} {ranking.samples}; resampling the {ranking.samples} selects the same"
            f" {ranking.granularity}s {100 * ranking.stability:.0f} % of the time"
            f" (chance: {100 * ranking.chance:.0f} %)"
        )
    elif ranking.size:
        say(
            f"{ranking.size} {ranking.samples}: too few to measure the stability of the choice"
            f" (at least {MIN_DOCUMENTS}); raise selector.documents"
        )
    raised = f" ({len(lora.rank_pattern)} linears have {lora.r + 1})" if lora.rank_pattern else ""
    budget = ""
    if "budget" in adapter:
        budget = f", {100 * adapter['used']:.1f} % of the budget of {adapter['budget']:,}"
    say(
        f"rank {lora.r}{raised}, scale {adapter['scale']:.3g}:"
        f" {adapter['parameters']:,} trainable parameters{budget}"
    )
    say(f"for PEFT: {directory.path / 'lora'}/adapter_config.json, {directory.path}/lora_config.py")
    say(f"run directory: {directory.path}")
    say(f"figures: {directory.figures}")
