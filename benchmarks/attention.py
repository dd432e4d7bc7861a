"""What measuring attention costs beside the forward pass that it looks into.

    python benchmarks/attention.py [--quick] [--device cuda] [--model FOLDER [--tokens T ...]]

One document of the context's length at GPT-2 small's shape, or of T tokens in a local model. Time:
the backbone alone, against the backbone with entropies, with entropies and KL both ways from a base
whose queries and keys are at hand, and with Jensen-Shannon too; with the attention to a span, and
with the logit lens of every layer, at the summary's rows. Memory: peak above the loaded model
of all of it, against the same from eager attention with `output_attentions=True`, as most code has
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from measurement import (
    Lap,
    one_figure,
    parser,
    peak,
    prepare,
    ratio,
    rounds_of,
    timed,
    write_result,
)
from subjects import GPT2_SMALL, Subject, load, subjects_of
from torch import Tensor

from sumcirc.measures.attention import Rows, attention_measures
from sumcirc.measures.logit_lens import logit_lens
from sumcirc.models.activations.activation_cache import HookPoint
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.activations.hooks import AttentionInputs
from sumcirc.models.modes import inference

CLAIM = (
    "measuring attention takes at most 0.3 (with divergences 0.5) of the forward pass more, and at"
    " most 0.4 of the memory of attention matrices; the logit lens takes at most one forward pass"
)
SUMMARY = 64  # tokens of the summary at the document's end
AT_MOST = {"entropy": 1.3, "kl": 1.5, "memory": 0.4, "span": 1.3, "lens": 2.0}
# deeper, and heads share keys; an unembedding of each layer's rows is a larger share of it
AT_MOST_LOCAL = {**AT_MOST, "entropy": 1.15, "kl": 1.3, "lens": 4.0}
MEASURES = ("entropy", "kl", "kl_js")


def rows_of(index: Tensor, length: int) -> Rows:
    """One document's measured rows."""
    places = index.tolist()
    return Rows(
        index[None],
        torch.ones_like(index[None], dtype=torch.bool),
        torch.zeros(1, length, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
        places,
        places,
    )


class Probe:
    """A model, one document, and what a base gave on it."""

    def __init__(self, subject: Subject, device: str) -> None:
        self.device = device
        self.model = load(subject, device)
        self.parts = HookedModel(self.model)
        length = subject.context
        self.ids = torch.randint(0, subject.vocabulary, (1, length), device=device)
        every = torch.arange(length)
        self.rows = {
            "all": rows_of(every, length),
            "summary": rows_of(every[-SUMMARY - 1 : -1], length),
        }
        self.rows = {name: rows.to(torch.device(device)) for name, rows in self.rows.items()}
        self.base: list[tuple[Tensor, Tensor]] = []
        with inference(self.model):
            self._run(lambda layer, seen: self.base.append((seen.query, seen.key)))

    def _run(self, see: Callable[[int, AttentionInputs], None]) -> None:
        with self.parts.hooks(self.parts.at_every_layer(HookPoint.ATTENTION, see)):
            self.plain()

    def plain(self) -> None:
        """The backbone alone."""
        self.parts.backbone(self.ids, use_cache=False)

    def probed(self, rows: str, measures: str) -> None:
        """The backbone, looked into."""

        def see(layer: int, seen: AttentionInputs) -> None:
            base = None if measures == "entropy" else self.base[layer]
            attention_measures(seen, self.rows[rows], base, js=measures == "kl_js")

        self._run(see)

    def span(self) -> None:
        """The backbone, with the attention of the summary's rows to every key."""
        rows = self.rows["summary"]

        def see(layer: int, seen: AttentionInputs) -> None:
            attention_measures(seen, rows, keys_read=True)

        self._run(see)

    def lens(self) -> None:
        """The backbone, with the logit lens of every layer at the summary's rows."""
        rows = self.rows["summary"]
        with self.parts.caching(self.parts.every(HookPoint.RESIDUAL), rows.of) as cache:
            self.plain()
        targets = rows.of(self.ids)
        logit_lens(self.parts, cache.stacked(HookPoint.RESIDUAL), targets)

    def eager(self) -> None:
        """Entropy of every head and row from attention matrices."""
        self.model.set_attn_implementation("eager")
        found = self.parts.backbone(self.ids, use_cache=False, output_attentions=True).attentions
        for matrix in found:
            -(matrix * (matrix + 1e-10).log()).sum(-1)
        self.model.set_attn_implementation("sdpa")


def times(probe: Probe, rounds: int) -> dict[str, dict[str, Any]]:
    """How many times as long as the plain pass each takes."""
    sides: dict[str, Callable[[], None]] = {"plain": probe.plain}
    for rows in probe.rows:
        for name in MEASURES:
            sides[f"{name}_{rows}"] = lambda r=rows, n=name: probe.probed(r, n)
    sides |= {"span_summary": probe.span, "lens_summary": probe.lens}
    laps: dict[str, list[Lap]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, work in sides.items():
            lap = timed(probe.device, work)[1]
            if turn:  # the first is slower
                laps[name].append(lap)
    return {name: ratio(laps[name], laps["plain"]) for name in sides if name != "plain"}


def memory(probe: Probe) -> dict[str, Any]:
    """Extra peak memory of the probe over that of attention matrices."""
    ours = max(peak(probe.device, lambda: probe.probed("all", "kl_js")) for _ in range(2))
    theirs = peak(probe.device, probe.eager)
    return one_figure(ours, theirs)


def main() -> None:
    """Measure the ratios, print them, and write them to a file."""
    options = parser(__doc__, local=True).parse_args()
    prepare(options)
    shape = replace(GPT2_SMALL, layers=2) if options.quick else GPT2_SMALL
    at_most = AT_MOST if options.model is None else AT_MOST_LOCAL
    figures: dict[str, dict[str, Any]] = {}
    for ending, subject in subjects_of(options, shape).items():
        probe = Probe(subject, options.device)
        with inference(probe.model):
            found = times(probe, rounds_of(options, 7, 2))
            found["memory_all"] = memory(probe)
        for name, case in found.items():
            limit = at_most[name.split("_")[0]]
            figures[name + ending] = {**case, "at_most": limit, "shape": subject.about()}
    write_result("attention", options, CLAIM, None, figures)


if __name__ == "__main__":
    main()
