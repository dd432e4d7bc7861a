"""What a training run hands on: its card with scores, the merged model, a repository on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sumcirc.runtime.terminal import say
from sumcirc.schema import TrainConfig

if TYPE_CHECKING:
    from torch import nn

    from sumcirc.evaluation.results import Scoreboard
    from sumcirc.tracking.run_directory import RunDirectory


def check_export(config: TrainConfig) -> None:
    """Raise an error if the result can't be uploaded to the hub.

    Args:
        config: configuration of the run.

    Raises:
        UserError: the hub is off or doesn't answer, or nobody is logged in.
    """
    from sumcirc.storage.hub import check_upload

    if config.export.push_to_hub is not None:
        check_upload(config.export.push_to_hub, "export.push_to_hub")


def score_rows(board: Scoreboard | None) -> list[tuple[str, ...]]:
    """Return the scores of all systems as rows of text, the first of which has the headings.

    Args:
        board: the scores; None if nothing was scored.
    """
    from sumcirc.reporting.tables import format_score
    from sumcirc.tracking.score_names import ROUGE

    if board is None:
        return []
    rows = [("system", *ROUGE.values())]
    for name, evaluation in board.systems.items():
        scores = evaluation.summary()
        rows.append((name, *(format_score(scores[f"{key}_f1"]) for key in ROUGE)))
    return rows


def export(
    model: nn.Module,
    tokenizer: Any,
    config: TrainConfig,
    directory: RunDirectory,
    notes: Sequence[str],
    scores: Sequence[Sequence[str]],
) -> None:
    """Write the merged model and upload the result, as far as `export.*` asks for it.

    Args:
        model: the trained model, which can't be used afterwards if its adapter is merged.
        tokenizer: the tokenizer.
        config: configuration of the run.
        directory: the run directory, which holds the trained adapter or model.
        notes, scores: parts of the model card.

    Raises:
        UserError: the upload fails.
    """
    from peft import PeftModel

    from sumcirc.models.saving import save_merged
    from sumcirc.storage.hub import upload

    folder, wanted = directory.trained, config.export
    if wanted.merge and isinstance(model, PeftModel):
        folder = save_merged(model, tokenizer, config, directory, notes, scores)
        say(f"merged model: {folder}")
    if wanted.push_to_hub is not None:
        place = upload(folder, wanted.push_to_hub, wanted.private, "export.push_to_hub")
        say(f"uploaded to {place}")
