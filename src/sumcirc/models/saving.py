"""Saves what was trained as a plain PEFT adapter or model folder that other tools can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from torch import nn
from transformers import PretrainedConfig

from sumcirc import __version__
from sumcirc.models.activations.hooked_model import base_model
from sumcirc.models.architectures import architecture
from sumcirc.models.dropout import dropout_probabilities
from sumcirc.models.loading import resolve_path, without_bars
from sumcirc.runtime.quoting import code, markdown, visible
from sumcirc.schema import TrainConfig
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


def described(lora: LoraConfig, model_config: PretrainedConfig) -> str:
    """Describe an adapter in words, such as `LoRA of rank 8 on layers 2, 3: qkv+attn_out`.

    Args:
        lora: PEFT's configuration of the adapter.
        model_config: transformers' configuration of the model.
    """
    names = architecture(model_config)
    modules: dict[int, list[str]] = {}
    for layer in range(model_config.num_hidden_layers):
        found = [
            name
            for name in names.modules
            if set(names.linears(layer, name)) <= set(lora.target_modules or ())
        ]
        if found:
            modules[layer] = found
    by_modules: dict[str, list[str]] = {}
    for layer, found in modules.items():
        by_modules.setdefault("+".join(found), []).append(str(layer))
    where = "; ".join(f"layers {', '.join(at)}: {what}" for what, at in by_modules.items())
    rank = f"{lora.r} or {lora.r + 1}" if lora.rank_pattern else f"{lora.r}"
    return f"LoRA of rank {rank} on {where}"


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
        lora: Any = model.peft_config["default"]
        lora.base_model_name_or_path = base
        what = described(lora, base_model(model).config)
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
        options = {"save_embedding_layers": False} if is_adapter else {}
        with without_bars():
            model.save_pretrained(str(folder), **options)  # type: ignore[operator]
        tokenizer.save_pretrained(str(folder))
        (folder / "README.md").write_text(body, encoding="utf-8")

    target = directory.adapter if is_adapter else directory.model
    write_folder(target, write)
    return target
