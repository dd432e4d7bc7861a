"""What a model forgets: how well it predicts other texts than those it was trained for.

A text is read as it is, without a prompt: its tokens x_1 .. x_n, after the start token if the
tokenizer has one, cut to the context. With q of the model before training and p of the model after
it, every token is predicted from those before it, and per text of n predicted tokens

    nll    -1/n sum_t log p(x_t | x_<t)          nats a token; the first token of a text has none
    kl      1/n sum_t KL(q || p)                 over the same positions, sum over the vocabulary

A corpus has the mean of these over its texts, and as its perplexity

    exp(sum over texts of n nll / sum over texts of n)

in which each token counts the same. Intervals resample texts. The differences between the two
models are paired: both read the same tokens.

The blocks run once for each model. Logits are computed for `ELEMENTS` of them at a time, so that no
two tensors of all positions and the whole vocabulary exist.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sumcirc.data.examples import by_length, padded
from sumcirc.errors import UserError
from sumcirc.measures.divergence import output_divergences
from sumcirc.models.base_beside import BaseBeside
from sumcirc.models.model_pairs import same_logits
from sumcirc.models.modes import inference
from sumcirc.models.unembedding import unembedding_of
from sumcirc.models.unwrapping import base_model
from sumcirc.statistics import bootstrap_mean, bootstrap_ratios
from sumcirc.tracking.score_names import BASE, TRAINED

if TYPE_CHECKING:
    from sumcirc.schema import EvaluationConfig

ELEMENTS = 2**22  # logits that are computed at once for each model
WITNESSED = 8  # tokens of a text on which a model's own logits are compared

# the unembedding, and the states [positions, width] to which it is applied
Predictor = tuple[Callable[[Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class TextLosses:
    """How well a model, and the one it was trained from, predict a text.

    Attributes:
        tokens: number of predicted tokens.
        nll: mean negative log-likelihood of the model, in nats a token.
        base_nll: that of its base; None if there is no base.
        kl: mean KL(base || model), in nats a token; None if there is no base.
    """

    tokens: int
    nll: float
    base_nll: float | None = None
    kl: float | None = None


def text_losses(
    model: nn.Module,
    base: BaseBeside | None,
    texts: Sequence[Sequence[int]],
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[TextLosses]:
    """Return how well a model and its base predict each text.

    Args:
        model: a transformers decoder or a PEFT model around one.
        base: the model before training; None to measure only `model`.
        texts: token ids of each text, two or more, with the start token if there is one.
        batch_size: number of texts that run at the same time.
        progress: called after each batch with its number of texts.

    Raises:
        UserError: the model computes logits in another way than by its blocks, final norm and
            unembedding, so that it can't be measured.
    """
    found: dict[int, TextLosses] = {}
    with inference(model):
        for chosen in by_length([len(text) for text in texts], batch_size):
            ids = padded([texts[i] for i in chosen], 0).to(_device(model))
            lengths = torch.tensor([len(texts[i]) for i in chosen], device=ids.device)
            if not found:
                _check_logits(model, base, ids[:1, : min(WITNESSED, int(lengths[0]))])
            found |= dict(zip(chosen, _batch_losses(model, base, ids, lengths), strict=True))
            if progress is not None:
                progress(len(chosen))
    return [found[i] for i in range(len(texts))]


class KeptBase:
    """Texts, and how a model in memory predicts them now, with which later states are compared.

    The states before the unembedding and a copy of the unembedding are kept in memory, so that a
    model that is put into many states needs no second run for each, nor a copy of its base.

    Args:
        model: a transformers decoder or a PEFT model around one, in the state of the base.
        texts: token ids of each text, two or more, with the start token if there is one.
        batch_size: number of texts that run at the same time.

    Raises:
        UserError: as for `text_losses`.
    """

    def __init__(self, model: nn.Module, texts: Sequence[Sequence[int]], batch_size: int) -> None:
        self._model, self._texts = model, len(texts)
        self._unembedding = copy.deepcopy(unembedding_of(base_model(model)))
        self._batches: list[tuple[Sequence[int], Tensor, Tensor, Tensor]] = []
        device = _device(model)
        with inference(model):
            for chosen in by_length([len(text) for text in texts], batch_size):
                ids = padded([texts[i] for i in chosen], 0).to(device)
                lengths = torch.tensor([len(texts[i]) for i in chosen], device=device)
                if not self._batches:
                    _check_logits(model, None, ids[:1, : min(WITNESSED, int(lengths[0]))])
                self._batches.append((chosen, ids, lengths, self._states(ids, lengths)))

    def losses(self) -> list[TextLosses]:
        """Return how well the model predicts each text in the state in which it is now."""
        found: dict[int, TextLosses] = {}
        with inference(self._model):
            own = unembedding_of(base_model(self._model))
            for chosen, ids, lengths, states in self._batches:
                now, base = (own, self._states(ids, lengths)), (self._unembedding, states)
                losses = _losses(ids, lengths, _chunk(self._model), now, base)
                found |= dict(zip(chosen, losses, strict=True))
        return [found[i] for i in range(self._texts)]

    def _states(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return _normed(self._model, ids)[:, :-1][_predicting(ids, lengths)]


def corpus_values(
    losses: Sequence[TextLosses], config: EvaluationConfig, system: str = TRAINED
) -> dict[str, Any]:
    """Return the values of one corpus for summary.json.

    Args:
        losses: those of its texts.
        config: settings of the bootstrap.
        system: name of the model that was measured; its base is called `base`.

    Returns:
        The number of `documents` and of predicted `tokens`; `nll` and `perplexity` of each system
        under `systems`; and with a base, the paired `nll_change` and `kl`. All but the numbers are
        intervals.
    """
    options = config.bootstrap, config.confidence
    tokens = np.array([one.tokens for one in losses], dtype=np.float64)
    values = {system: np.array([one.nll for one in losses])}
    changes: dict[str, Any] = {}
    if all(one.base_nll is not None for one in losses):
        base = np.array([one.base_nll for one in losses], dtype=np.float64)
        kl = np.array([one.kl for one in losses], dtype=np.float64)
        changes["nll_change"] = asdict(bootstrap_mean(values[system] - base, *options))
        changes["kl"] = asdict(bootstrap_mean(kl, *options))
        values = {BASE: base, **values}
    systems = {
        name: {
            "nll": asdict(bootstrap_mean(nll, *options)),
            "perplexity": _perplexity(nll, tokens, options),
        }
        for name, nll in values.items()
    }
    return {"documents": len(losses), "tokens": int(tokens.sum()), "systems": systems, **changes}


def _batch_losses(
    model: nn.Module, base: BaseBeside | None, ids: Tensor, lengths: Tensor
) -> list[TextLosses]:
    """Return the losses of texts [batch, length] that are padded on the right."""
    read = _predicting(ids, lengths)
    normed = _normed(model, ids)[:, :-1][read]
    if base is None:
        return _losses(ids, lengths, _chunk(model), (unembedding_of(base_model(model)), normed))
    with base.active() as other, inference(other):
        base_normed = _normed(other, ids)[:, :-1][read]

    def base_logits(rows: Tensor) -> Tensor:
        with base.active() as other:
            return unembedding_of(base_model(other))(rows)

    own = (unembedding_of(base_model(model)), normed)
    return _losses(ids, lengths, _chunk(model), own, (base_logits, base_normed))


def _predicting(ids: Tensor, lengths: Tensor) -> Tensor:
    """Return which positions predict a token of their text, [batch, length - 1]."""
    # causal attention: no token reads the padding after it, so no mask is needed
    return torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None]


def _losses(
    ids: Tensor, lengths: Tensor, size: int, own: Predictor, base: Predictor | None = None
) -> list[TextLosses]:
    """Return the losses of texts [batch, length] from the states of all positions that predict.

    Args:
        ids, lengths: the texts, padded on the right.
        size: number of positions whose logits are computed at once.
        own: unembedding of the model, and its last states [positions, width].
        base: those of its base; None if there is none.
    """
    read = _predicting(ids, lengths)
    labels, rows = ids[:, 1:][read], read.nonzero()[:, 0]
    sums = torch.zeros(3, len(ids), dtype=torch.float64, device=ids.device)
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        logits = own[0](own[1][part])
        values = [F.cross_entropy(logits.float(), labels[part], reduction="none")]
        if base is not None:
            others = base[0](base[1][part])
            values.append(F.cross_entropy(others.float(), labels[part], reduction="none"))
            values.append(output_divergences(logits, others)["kl_base_tuned"])
        for into, one in zip(sums, values, strict=False):
            into.index_add_(0, rows[part], one.double())
    counts = (lengths - 1).tolist()
    means = (sums / (lengths - 1)).tolist()
    if base is None:
        return [TextLosses(count, nll) for count, nll in zip(counts, means[0], strict=True)]
    return [TextLosses(*values) for values in zip(counts, *means, strict=True)]


def _chunk(model: nn.Module) -> int:
    """Return the number of positions whose logits are computed at once."""
    return max(1, ELEMENTS // base_model(model).config.get_text_config().vocab_size)


def _normed(model: nn.Module, ids: Tensor) -> Tensor:
    return base_model(model).base_model(ids, use_cache=False).last_hidden_state


def _device(model: nn.Module) -> torch.device:
    return next(unembedding_of(base_model(model)).parameters()).device


def _check_logits(model: nn.Module, base: BaseBeside | None, ids: Tensor) -> None:
    own = model(input_ids=ids, use_cache=False).logits
    found = unembedding_of(base_model(model))(_normed(model, ids))
    if not same_logits(own, found):
        raise UserError(
            "evaluation.retention: the model's own logits differ from those of its blocks, final"
            " norm and unembedding, so it can't be measured; leave evaluation.retention out"
        )
    if base is not None:
        with base.active() as other, inference(other):
            theirs = unembedding_of(base_model(other))(_normed(other, ids))
        if theirs.shape != found.shape:
            raise UserError(
                f"evaluation.retention: the model has a vocabulary of {found.shape[-1]} tokens and"
                f" its base one of {theirs.shape[-1]}, so the two can't be compared; leave"
                " evaluation.retention out"
            )


def _perplexity(
    nll: np.ndarray, tokens: np.ndarray, options: tuple[int, float]
) -> Mapping[str, Any]:
    ratio, low, high = bootstrap_ratios((nll * tokens)[None], tokens, *options)
    mean, low, high = (float(np.exp(one[0])) for one in (ratio, low, high))
    return {"mean": mean, "low": low, "high": high, "n": len(nll)}
