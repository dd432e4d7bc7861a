"""Reads and measures the texts of `evaluation.retention`, after training and in `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.notices import few
from sumcirc.storage.writing import write_table

if TYPE_CHECKING:
    from torch import nn

    from sumcirc.data.documents import Corpus
    from sumcirc.data.encoding import Encoder
    from sumcirc.data.plain_texts import PlainTexts
    from sumcirc.models.base_beside import BaseBeside
    from sumcirc.runtime.notices import Notices
    from sumcirc.schema import EvaluateConfig, JobConfig
    from sumcirc.tracking.run_directory import RunDirectory


def read_retention(
    config: JobConfig,
    encoder: Encoder,
    notices: Notices,
    trained_on: Mapping[str, Corpus] | None = None,
) -> dict[str, PlainTexts]:
    """Return the texts of each corpus by its name; empty if none are asked for.

    Args:
        config: the files, and how texts are drawn.
        encoder: encodes the texts, and says how many tokens a model reads.
        notices: collection to which notices about the texts are added.
        trained_on: what the model was trained on, by the name of its setting; these documents
            should not be among the texts.

    Raises:
        UserError: as in `encoded_texts`.
    """
    from sumcirc.data.plain_texts import TextFiles, encoded_texts

    files = TextFiles.of_retention(config.evaluation)
    found = encoded_texts(files, encoder, notices, config.data.seed, trained_on)
    for name, texts in found.items():
        notices.tell(few(f"{files.setting} {name}", "texts", len(texts.ids)))
    return found


def check_retention(config: EvaluateConfig) -> None:
    """Raise an error if the texts can't be measured with the job's model; reads no weights.

    Args:
        config: configuration of the job.

    Raises:
        UserError: as in `check_texts`, or the adapter does not read plain text.
    """
    from sumcirc.data.plain_texts import TextFiles, check_texts
    from sumcirc.models.peft_adapters import read_adapter, require_plain_text
    from sumcirc.models.restoring import reference_of

    if not config.evaluation.retention:
        return
    check_texts(TextFiles.of_retention(config.evaluation))
    found = reference_of(config)
    if found.adapted:
        assert found.weights is not None
        require_plain_text([read_adapter(found.weights, found.given)], found.given)


def measure_retention(
    config: JobConfig,
    directory: RunDirectory,
    texts: Mapping[str, PlainTexts],
    model: nn.Module,
    load_base: Callable[[], nn.Module] | None,
    system: str,
) -> dict[str, Any]:
    """Measure a model and its base on the texts, write retention.parquet, and return the summary.

    Args:
        config: batch size and settings of the bootstrap.
        directory: the run directory.
        texts: the texts of each corpus by its name.
        model: the model, on its device.
        load_base: loads the model that it was trained from, onto the same device; called if it
            can't be had by switching off an adapter. None if there is no base.
        system: name of the model, `base` or `trained`.

    Returns:
        The section `retention` of summary.json, or nothing if there are no texts.
    """
    from sumcirc.evaluation.retention import corpus_values, text_losses
    from sumcirc.models.base_beside import BaseBeside
    from sumcirc.runtime.progress import counted

    if not texts:
        return {}
    base: BaseBeside | None = None if load_base is None else BaseBeside(model, load_base)
    rows: list[dict[str, Any]] = []
    values = {}
    for name, one in texts.items():
        with counted(f"read {name}", len(one.ids)) as advance:
            losses = text_losses(model, base, one.ids, config.generation.batch_size, advance)
        rows += _rows(name, one.names, [asdict(loss) for loss in losses])
        measured = corpus_values(losses, config.evaluation, system)
        values[name] = {"items": one.corpus.fingerprint, **measured}
    write_table(directory.retention_file, rows)
    return {"retention": values}


def _rows(
    corpus: str, names: Sequence[str], losses: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    pairs = zip(names, losses, strict=True)
    return [{"corpus": corpus, "id": name, **loss} for name, loss in pairs]
