"""Measures any model, compared with its base: models in memory, on disk, or under an adapter.

The base's activations are computed once for given documents and cached. The key contains everything
that determines them: the model's weights, the documents and how they are encoded and batched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from sumcirc.errors import UserError
from sumcirc.measures.base_records import UNEMBEDDING, BaseStore, batch_name
from sumcirc.measures.measure_batches import (
    CONCERNS,
    IN_STORE,
    about,
    assemble,
    check_comparable,
    measure_batches,
)
from sumcirc.measures.measure_documents import ProbeSet
from sumcirc.models.activations.effective_weights import effective_weight
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.fingerprint import model_fingerprint
from sumcirc.models.peft_adapters import changes_base
from sumcirc.storage.cache import Cache
from sumcirc.tracking.measure_records import ProbeRecord, record_file

BASES = Cache("bases", format=3)


def measure(
    model: PreTrainedModel | PeftModel,
    probes: ProbeSet,
    base: BaseStore | PreTrainedModel | None = None,
    step: int = 0,
    concerns: Sequence[str] = CONCERNS,
    decode: Callable[[int], str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> ProbeRecord:
    """Measure a model on documents, compared with its base, and return the record of its measures.

    Args:
        model: the model, with or without an adapter.
        probes: the documents.
        base: the base model, or its store from `prepare_base`. If None, the base is the model with
            its adapter switched off; without an adapter, nothing is compared.
        step: optimizer step of the model, which is written to the record.
        concerns: groups of measures to compute, one or more of `measure_batches.CONCERNS`;
            `divergence` and most of `drift` need a base, `spans` needs spans of the documents.
        decode: converts a token id to text, for the lens (`measures.lens`); None omits the lens.
        progress: called after each batch with its number of documents.

    Raises:
        UserError: the base has another architecture or size, the model's attention can't be
            observed or its streams have no logit lens, or no base is given and switching off the
            adapter doesn't give the base.
    """
    with TemporaryDirectory(prefix="sumcirc-base-") as folder:
        if base is None and isinstance(model, PeftModel):
            _require_base(model)
            base = prepare_base(model, probes, Path(folder))
        elif base is not None and not isinstance(base, BaseStore):
            check_comparable(HookedModel(model), *about(HookedModel(base)))
            base = prepare_base(base, probes, Path(folder))
        hooked = HookedModel(model)
        results = measure_batches(hooked, probes, base, concerns, progress=progress)
        return assemble(results, probes, step, hooked, decode)


def _require_base(model: PeftModel) -> None:
    for name in model.active_adapters:
        if reason := changes_base(model.peft_config[name]):
            raise UserError(
                f"model: {reason}, so with the adapter switched off it is not its base; give the"
                " base too (`base=`), loaded separately"
            )


def base_parts(
    model: PreTrainedModel | PeftModel, probes: ProbeSet, as_it_is: bool = False
) -> list[Any]:
    """Return the values from which the cache key of a base's store is made.

    Args:
        model, probes, as_it_is: as in `prepare_base`.
    """
    return [model_fingerprint(model, as_it_is), probes.fingerprint, probes.ids]


def prepare_base(
    model: PreTrainedModel | PeftModel,
    probes: ProbeSet,
    cache: Path,
    progress: Callable[[int], None] | None = None,
    as_it_is: bool = False,
) -> BaseStore:
    """Return the activations and measures of a base model, from the cache if it contains them.

    Args:
        model: the base model, or an adapted model, whose adapter is switched off during the
            measurement.
        probes: the documents.
        cache: folder `cache_dir`.
        progress: called after each batch with its number of documents.
        as_it_is: whether to keep the adapter switched on, so that a fine-tuned model can serve as
            the base.

    Raises:
        UserError: the architecture is unknown, or the cache folder can't be written.
    """
    hooked = HookedModel(model)
    without = nullcontext()
    if isinstance(model, PeftModel) and not as_it_is:
        without = model.disable_adapter()

    def write(temporary: Path) -> None:
        def keep(number: int, tensors: dict[str, Tensor]) -> None:
            save_file(
                {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
                temporary / batch_name(number),
            )

        with without:
            results = measure_batches(
                hooked, probes, concerns=IN_STORE, keep=keep, progress=progress
            )
            save_file(_unembedding(hooked), temporary / UNEMBEDDING)
        record = assemble(results, probes, -1, hooked)
        record.save(record_file(temporary, -1))
        about = {
            "shape": vars(hooked.shape),
            "family": hooked.model.config.model_type,
            "logits_scaling": hooked.multipliers.logits_scaling,
            "logit_cap": hooked.multipliers.logit_cap,
        }
        (temporary / "about.json").write_text(json.dumps(about), encoding="utf-8")

    def read(folder: Path) -> BaseStore:
        store = BaseStore(folder)
        store.check(hooked.shape, probes)
        return store

    store, found = BASES.get(cache, base_parts(model, probes, as_it_is), write, read)
    if found and progress is not None:
        progress(len(probes))
    return store


def _unembedding(hooked: HookedModel) -> dict[str, Tensor]:
    """Return weight [vocabulary, width] and bias, if any; effective ones of an adapted module."""
    linear = hooked.model.get_output_embeddings()
    assert isinstance(linear, nn.Module)
    if isinstance(linear, nn.Linear):
        found = dict(linear.named_parameters())
    else:
        weight, bias = effective_weight(linear)
        found = {"weight": weight.T, "bias": bias}
    return {name: value.detach().cpu().contiguous() for name, value in found.items()}
