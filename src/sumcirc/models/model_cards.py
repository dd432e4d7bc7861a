"""Model cards: what a trained adapter or model is, how it scored, and how to load it.

A card (README.md) stands alone: it names the data, the base, the prompt, the settings of the
adapter and the scores with their intervals, since the folder may be copied or uploaded without the
run directory around it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import AdaLoraConfig, PeftConfig, PeftModel
from torch import nn
from transformers import PretrainedConfig

from sumcirc import __version__
from sumcirc.models.architectures import architecture
from sumcirc.models.dropout import dropout_probabilities
from sumcirc.models.gguf_files import DEQUANTIZED, dequantization
from sumcirc.models.loading import BUILT_IN
from sumcirc.models.quantization import SETTINGS
from sumcirc.models.unwrapping import base_model
from sumcirc.runtime.quoting import code, markdown, visible
from sumcirc.schema import EncodingConfig, Quantization, Template, TrainConfig, Variant
from sumcirc.schema.adapting import VARIANT_NAMES

FILE = "README.md"
HUB_ID = re.compile(r"([\w.-]+/)?[\w.-]+", re.ASCII)

CARD = """\
---
library_name: {library}
{base}tags: [summarization, sumcirc]
---
# {name}

{base_name} fine-tuned to summarize {data} with sumcirc {version} ({what}). {trainable:,} parameters
were trained, with model dropout {dropout}.

{prompt}

```python
{example}
```
{settings}{scores}{notes}
"""

ADAPTER_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)"""

QUANTIZED_CODE = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, BitsAndBytesConfig
model = AutoPeftModelForCausalLM.from_pretrained(
    FOLDER,
    quantization_config=BitsAndBytesConfig(SETTINGS),
)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)"""

MODEL_CODE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)"""

# variants that are LoRA after their start
STARTED = (Variant.pissa, Variant.olora, Variant.eva, Variant.loraga)


def _title(variant: Variant) -> str:
    name = VARIANT_NAMES[variant.value]
    return f"LoRA (started by {name})" if variant in STARTED else name


def card(
    *,
    base: str,
    name: str,
    data: str,
    encoding: EncodingConfig,
    settings: Mapping[str, Any] | None = None,
    scores: Sequence[Sequence[str]] = (),
    notes: Sequence[str] = (),
    **facts: Any,
) -> str:
    """Return the text of the model card (README.md) of a trained adapter or model.

    Args:
        base: path or hub id of the base model.
        name: name of the run.
        data: name of the training data.
        encoding: the prompt and how the summary follows.
        settings: further settings by name.
        scores: rows of a table of scores, the first of which has the headings.
        notes: sentences about the training data.
        facts: values of the other fields of the template `CARD` (`library`, `what`, `trainable`,
            `dropout` and `example`), which are inserted without escaping; all other arguments are
            escaped.
    """
    items = [f"- {name}: {code(str(value))}" for name, value in (settings or {}).items()]
    return CARD.format(
        base=_base_line(base),
        base_name=code(base),
        name=markdown(name),
        data=code(data),
        prompt=_prompt(encoding),
        version=__version__,
        settings=_section("Settings", items),
        scores=_section("Scores on the test set", _table(scores)),
        notes=_section("Notes on the data", [f"- {markdown(note)}" for note in notes]),
        **facts,
    )


def _base_line(base: str) -> str:
    """Return the line of the header that names the base; the hub accepts only ids of its own."""
    if base == BUILT_IN or os.path.exists(os.path.expanduser(base)) or not HUB_ID.fullmatch(base):
        return ""
    return f"base_model: {json.dumps(visible(base))}\n"  # a string in YAML


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join(["", f"## {title}", "", *lines, ""]) if lines else ""


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(markdown, row))} |" for row in rows]
    if not lines:
        return []
    rule = f"|---|{'---:|' * (len(rows[0]) - 1)}"
    return [
        "F1 x 100 with 95 % bootstrap intervals over documents.",
        *("", lines[0], rule, *lines[1:]),
    ]


def _prompt(encoding: EncodingConfig) -> str:
    if encoding.template is Template.text:
        return (
            f"The prompt template is {code(repr(encoding.prompt))}. The summary follows as"
            f" {code(repr(encoding.summary))}, and then the end-of-text token."
        )
    system = "" if encoding.system is None else f" The system message is {code(encoding.system)}."
    return (
        "The prompt is the tokenizer's chat template (`apply_chat_template` with"
        " `add_generation_prompt=True, enable_thinking=False`) with the user's message"
        f" {code(repr(encoding.instruction))}.{system} The summary is the assistant's reply."
    )


def write_card(
    model: nn.Module,
    config: TrainConfig,
    folder: Path,
    notes: Sequence[str] = (),
    scores: Sequence[Sequence[str]] = (),
    name: str = "adapter",
) -> None:
    """Write the model card of a trained adapter or model.

    Args:
        model: the trained model; what an adapter is described from.
        config: configuration of the run.
        folder: folder in which the card is written.
        notes: sentences about the training data.
        scores: rows of a table of scores, the first of which has the headings.
        name: name that the folder will have: `adapter`, `model`, or `merged` for a whole model
            with the adapter merged into it.
    """
    merged = name == "merged"
    what, settings = "full fine-tuning", _settings(config)
    model_config = base_model(model).config
    if isinstance(model, PeftModel):
        adapter = model.peft_config["default"]
        what = described(adapter, model_config, _title(config.adaptation.variant))
        if merged:
            what = f"{what}, merged into the base"
        settings |= {
            title: getattr(adapter, key)
            for title, key in ADAPTER_SETTINGS.items()
            if getattr(adapter, key, None) is not None
        }
    alone = isinstance(model, PeftModel) and not merged
    kind = dequantization(model_config)[DEQUANTIZED]
    weights = [] if kind is None else [f"de-quantized from {kind}"]
    if config.model.quantize is not None:
        weights.append(f"quantized to {config.model.quantize.value} on loading")
    if weights:
        settings["base weights"] = ", then ".join(weights)
    body = card(
        library="peft" if alone else "transformers",
        base=config.model.path,
        name=config.run.name,
        data=config.data.name,
        encoding=config.encoding,
        what=what,
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        dropout=", ".join(f"{p:g}" for p in dropout_probabilities(model)),
        example=_example(alone, config.model.quantize).replace("FOLDER", f'"{name}"'),
        settings=settings,
        scores=scores,
        notes=notes,
    )
    (folder / FILE).write_text(body, encoding="utf-8")


def _example(adapter: bool, quantize: Quantization | None) -> str:
    if quantize is None:
        return ADAPTER_CODE if adapter else MODEL_CODE
    shown = ", ".join(f"{name}={value!r}" for name, value in SETTINGS[quantize].items())
    return QUANTIZED_CODE.replace("SETTINGS", shown)


# name in the card: field of PEFT's configuration
ADAPTER_SETTINGS = {"LoRA alpha": "lora_alpha", "adapter dropout": "lora_dropout"}


def _settings(config: TrainConfig) -> dict[str, Any]:
    data, trainer = config.data, config.trainer
    sizes = {name: size for name, size in vars(data.sizes).items() if size is not None}
    found: dict[str, Any] = {
        "data source": data.source.name if data.path is None else data.path,
        "event summarized": None if data.event is None else data.event.value,
        "items": ", ".join(f"{name} {size}" for name, size in sizes.items()) or "all",
        "optimizer steps": trainer.max_steps,
        "batch size": trainer.batch_size * trainer.accumulate,
        "learning rate": config.optimizer.learning_rate,
        "seed": config.seed,
    }
    if config.kl_penalty.is_on:
        names = ", ".join(Path(pattern).name for pattern in config.kl_penalty.texts)
        found["KL penalty"] = f"weight {config.kl_penalty.weight:g} on {names}"
    if config.model.revision is not None:
        found["base revision"] = config.model.revision
    return {name: value for name, value in found.items() if value is not None}


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
