"""Logit lens: what the residual stream at each depth predicts, read as if it were the last one.

The model's own final norm and unembedding, with its scale and soft cap, are applied to the residual
stream h_l before layer l (l = 0 is the embedding; the last is what the final norm reads):

    p_l              softmax(unembedding(norm(h_l)));  p is p_l of the last stream, the model's own
    log probability  log p_l of the reference's next token                                  (nats)
    KL(model||lens)  sum p (log p - log p_l)                                                (nats)
    top-1 agreement  1 where p_l and p have the same most likely token, else 0

Source: nostalgebraist, interpreting GPT: the logit lens, 2020. The lens of an early layer is biased
where the model writes in another basis there (Belrose et al. 2023, arXiv 2303.08112, who train a
translator for each layer): it shows what is already readable by the unembedding, not all that is
known.

Logits exist for some rows and one depth at a time, so memory doesn't grow with the depth.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sumcirc.data.examples import NONE
from sumcirc.errors import UserError
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.model_pairs import same_logits
from sumcirc.models.modes import inference

ROWS = 128  # rows unembedded at once, which bounds memory to a few times ROWS x vocabulary numbers
CHECKED = 32  # positions at which the last stream's lens is compared with the model's logits


def logit_lens(hooked: HookedModel, streams: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return what each residual stream predicts, at least in fp32.

    Args:
        hooked: the model.
        streams: [S, rows, width] residual streams; the last is the one that the final norm reads.
        targets: [rows] next token of the reference, NONE where there is none.

    Returns:
        [S, rows] values by name: `log_probability` (NaN without a target), `kl_model_lens` and
        `top1_agreement`.
    """
    pieces = []
    for part, wanted in zip(streams.split(ROWS, dim=1), targets.split(ROWS), strict=True):
        own = log_distribution(lens_logits(hooked, part[-1]))
        known = wanted != NONE
        rows = [
            _row_values(log_distribution(lens_logits(hooked, stream)), own, wanted, known)
            for stream in part[:-1]
        ]
        rows.append(_row_values(own, own, wanted, known))
        pieces.append({name: torch.stack([row[name] for row in rows]) for name in rows[0]})
    return {name: torch.cat([piece[name] for piece in pieces], 1) for name in pieces[0]}


def lens_logits(hooked: HookedModel, stream: Tensor) -> Tensor:
    """Return the logits [rows, vocabulary] of a residual stream [rows, width] under the lens."""
    return hooked.unembedding(hooked.final_norm(stream))


def log_distribution(logits: Tensor) -> Tensor:
    """Return the log-probabilities of logits, at least in fp32."""
    return torch.log_softmax(logits, -1, torch.promote_types(logits.dtype, torch.float32))


def beside_output(lens: Tensor, own: Tensor) -> dict[str, Tensor]:
    """Return how a stream's prediction differs from the model's output.

    Args:
        lens, own: [rows, vocabulary] log-probabilities of the stream and of the model's output.

    Returns:
        [rows] `kl_model_lens` in nats and `top1_agreement`, 0 or 1.
    """
    # a token to which the model gives 0 adds 0, also where the lens gives it 0
    terms = torch.where(own == -torch.inf, 0.0, own.exp() * (own - lens))
    agree = lens.argmax(-1) == own.argmax(-1)
    # Rounding alone could make a KL negative.
    return {"kl_model_lens": terms.sum(-1).clamp(min=0), "top1_agreement": agree.to(own.dtype)}


def _row_values(lens: Tensor, own: Tensor, wanted: Tensor, known: Tensor) -> dict[str, Tensor]:
    read = lens.gather(1, wanted.clamp(min=0)[:, None])[:, 0]
    read = torch.where(known, read, torch.nan)
    return {"log_probability": read, **beside_output(lens, own)}


def check_logit_lens(hooked: HookedModel, ids: Tensor, seen: bool = False) -> None:
    """Check that the lens of the last residual stream gives the model's own logits.

    Args:
        hooked: the model.
        ids: [1, length] token ids of a text.
        seen: whether attention runs as in passes that observe it, instead of by the model's own
            implementation.

    Raises:
        UserError: it doesn't, so the model computes its logits from something else as well.
    """
    last = hooked.shape.layers
    ids = ids.to(hooked.device)
    count = min(CHECKED, ids.shape[1])
    at = torch.linspace(0, ids.shape[1] - 1, count).round().long().to(ids.device)
    see = hooked.at_every_layer(HookPoint.ATTENTION, lambda layer, attention: None)
    with inference(hooked.model):
        keys = [(HookPoint.RESIDUAL, last)]
        with (
            hooked.hooks(see if seen else []),
            hooked.caching(keys, lambda stream: stream[0, at]) as cache,
        ):
            own = hooked.model(input_ids=ids, use_cache=False, logits_to_keep=at).logits[0]
        found = lens_logits(hooked, cache[HookPoint.RESIDUAL, last])
    if not same_logits(own, found):
        raise UserError(
            f"logit lens: the logits of this `{hooked.model.config.model_type}` aren't those of its"
            " last residual stream under the final norm and the unembedding, so there is no lens;"
            " leave logit_lens out of callbacks.watch and compare.analyses"
        )
