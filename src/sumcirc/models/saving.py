"""Saves what was trained as a plain PEFT adapter or model folder that other tools can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import AdaLoraConfig, PeftConfig, PeftModel
from torch import nn
from transformers import PretrainedConfig

from sumcirc import __version__
from sumcirc.models.activations.hooked_model import base_model
from sumcirc.models.architectures import architecture
from sumcirc.models.dropout import dropout_probabilities
from sumcirc.models.loading import resolve_path, without_bars
from sumcirc.models.variants import rewrites
from sumcirc.runtime.quoting import code, markdown, visible
from sumcirc.schema import TrainConfig, Variant
from sumcirc.storage.writing import write_folder
from sumcirc.tracking.run_directory import RunDirectory

CARD = """\
---
library_name: {library}
base_model: {base}
tags: [summarization, sumcirc]
---
# {name}

{base_name} fine-tuned to summarize {data} with sumcirc {version} ({what}). {trainable:,} parameters
were trained, with model dropout {dropout}.

The prompt template is {prompt}. The summary follows as {summary}, and then the end-of-text token.

```python
{example}
```
{notes}
The files `config.yaml` and `summary.json` next to this folder contain the run's configuration,
seeds, versions and scores.
"""

ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
model = AutoPeftModelForCausalLM.from_pretrained("adapter")"""

TITLES = {
    Variant.lora: "LoRA",
    Variant.rslora: "rsLoRA",
    Variant.dora: "DoRA",
    Variant.pissa: "LoRA (started by PiSSA)",
    Variant.olora: "LoRA (started by OLoRA)",
    Variant.eva: "LoRA (started by EVA)",
    Variant.loraga: "LoRA (started by LoRA-GA)",
    Variant.adalora: "AdaLoRA",
    Variant.vera: "VeRA",
    Variant.ia3: "IA3",
}

MODEL_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained("model")
tokenizer = AutoTokenizer.from_pretrained("model")"""


def card(
    *,
    base: str,
    name: str,
    data: str,
    prompt: str,
    summary: str,
    notes: Sequence[str] = (),
    **facts: Any,
) -> str:
    """Return the text of the model card (README.md) of a trained adapter or model.

    Args:
        base: path or hub id of the base model.
        name: name of the run.
        data: name of the training data.
        prompt, summary: templates of the prompt and of the summary.
        notes: sentences about the training data.
        facts: values of the other fields of the template `CARD` (`library`, `what`, `trainable`,
            `dropout` and `example`), which are inserted without escaping; all other arguments are
            escaped.
    """
    lines: list[str] = []
    if notes:
        lines = ["\nNotes on the data:\n", *(f"- {markdown(note)}" for note in notes), ""]
    return CARD.format(
        base=json.dumps(visible(base)),  # a string in YAML
        base_name=code(base),
        name=markdown(name),
        data=code(data),
        prompt=code(repr(prompt)),
        summary=code(repr(summary)),
        version=__version__,
        notes="\n".join(lines),
        **facts,
    )


def described(adapter: PeftConfig, model_config: PretrainedConfig, variant: str = "LoRA") -> str:
    """Return a description such as `LoRA of rank 8 on layers 2, 3: qkv+attn_out`.

    Args:
        adapter: PEFT's configuration of the adapter.
        model_config: configuration of the model.
        variant: name of the kind of adapter.
    """
    names = architecture(model_config)
    targets = set(getattr(adapter, "target_modules", None) or ())
    by_modules: dict[str, list[str]] = {}
    for layer in range(model_config.num_hidden_layers):
        found = [name for name in names.modules if set(names.linears(layer, name)) <= targets]
        whole = {name for module in found for name in names.linears(layer, module)}
        every = {name for module in names.modules for name in names.linears(layer, module)}
        found += sorted(name.rpartition(".")[2] for name in every & targets - whole)
        if found:
            by_modules.setdefault("+".join(found), []).append(str(layer))
    where = "; ".join(f"layers {', '.join(at)}: {what}" for what, at in by_modules.items())
    return f"{variant}{_rank(adapter)} on {where}"


def _rank(adapter: PeftConfig) -> str:
    if isinstance(adapter, AdaLoraConfig):
        return f" of rank {adapter.init_r}, reduced to {adapter.target_r} on average,"
    rank: int | None = getattr(adapter, "r", None)
    if rank is None:
        return ""
    others = {rank, *(getattr(adapter, "rank_pattern", None) or {}).values()}
    low, high = min(others), max(others)
    return f" of rank {low}" + (
        "" if low == high else f" {'or' if high == low + 1 else 'to'} {high}"
    )


def save_trained(
    model: nn.Module,
    tokenizer: Any,
    config: TrainConfig,
    directory: RunDirectory,
    notes: Sequence[str] = (),
) -> Path:
    """Write the trained adapter or model with a model card, and return the path of its folder.

    Args:
        model: the trained model; an adapter is saved without its base.
        tokenizer: the tokenizer, saved in the same folder.
        config: configuration of the run, for the model card.
        directory: the run directory, in which `adapter/` or `model/` is written.
        notes: sentences about the training data, for the model card.
    """
    is_adapter = isinstance(model, PeftModel)
    base = resolve_path(config.model.path, "model.path")
    if Path(base).is_dir():
        base = str(Path(base).absolute())
    what = "full fine-tuning"
    if is_adapter:
        # the absolute path, so that PEFT finds it; only sumcirc knows the name `tiny`
        adapter: Any = model.peft_config["default"]
        adapter.base_model_name_or_path = base
        what = described(adapter, base_model(model).config, TITLES[config.adaptation.variant])
    body = card(
        library="peft" if is_adapter else "transformers",
        base=config.model.path,
        name=config.run.name,
        data=config.data.name,
        what=what,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        dropout=", ".join(f"{p:g}" for p in dropout_probabilities(model)),
        prompt=config.encoding.prompt,
        summary=config.encoding.summary,
        example=ADAPTER_CODE if is_adapter else MODEL_CODE,
        notes=notes,
    )

    def write(folder: Path) -> None:
        # otherwise PEFT asks the hub whether the vocabulary was changed, which never happens here
        options: dict[str, Any] = {"save_embedding_layers": False} if is_adapter else {}
        if isinstance(model, PeftModel) and rewrites(model.peft_config["default"]):
            # as LoRA on the unchanged base, which has the ranks of both
            options["path_initial_model_for_weight_conversion"] = str(directory.initial_adapter)
        with without_bars():
            model.save_pretrained(str(folder), **options)  # type: ignore[operator]
        tokenizer.save_pretrained(str(folder))
        (folder / "README.md").write_text(body, encoding="utf-8")

    target = directory.adapter if is_adapter else directory.model
    write_folder(target, write)
    return target
