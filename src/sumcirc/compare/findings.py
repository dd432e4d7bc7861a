"""The results of comparing two models, with a value for each item, and the files that hold them.

In `compare/NAME/` of a run directory, as Parquet tables with one row per item:

    patching    direction, part, kind, layer, index, item; receiver, donor, effect, attributed
    sets        direction, kind (first, random, own), draw, size, parts, item; effect
    synergy     direction, parts, item; synergy
    direct      model, part, layer, head, item; value
    attention   model, source, destination, layer, head, item; value
    logit_lens  model, measure, stream, item; value
    surgery     arm, layer, module, amount, item; metric
    text        arm, layer, module, amount, text; loss
    path        grain, unit, layer, part, index, item; score
    path_effects    kind (add, remove, shapley, keep, drop, random), grain, unit, size, item; value
    path_pairs  kind (add, remove, shapley), grain, unit, other, item; value
    trajectory  grain, unit, layer, part, index, start, end (steps), item; score
    trajectory_metric  step, item; metric
    masks       ranking, draw, size, kind (kept, left), item; value
    mask_units  ranking, draw, unit; score, rank
    mask_texts  ranking, draw, size, text; nll, kl (nats a token)

receiver, donor, effect, attributed, synergy, metric, score in `path` and `trajectory`, and value in
`direct`, `path_effects`, `path_pairs` and `masks` have the unit of the metric. What the
change wrote along edges, if it was requested, is in `path_edges.safetensors`
(`compare.path.edge_summary`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sumcirc.compare.deltas.delta_scaling import DeltaScaling
from sumcirc.compare.direct_attribution import DirectAttribution
from sumcirc.compare.item_lens import ItemLens
from sumcirc.compare.masks.learned_masks import LearnedMasks
from sumcirc.compare.masks.mask_summary import mask_rows, text_rows, unit_rows
from sumcirc.compare.patching.patching_runs import Carried
from sumcirc.compare.path.edge_summary import FILE, write_edges
from sumcirc.compare.path.path_attribution import PathAttribution
from sumcirc.compare.path.path_summary import effect_rows, pair_rows, path_rows
from sumcirc.compare.path.trajectory import Trajectory
from sumcirc.compare.path.trajectory_summary import metric_rows, trajectory_rows
from sumcirc.compare.span_attention import SpanAttention
from sumcirc.schema import Analysis
from sumcirc.storage.writing import write_table
from sumcirc.tracking.measure_records import ProbeRecord, record_file

BEFORE, AFTER = "before", "after"


@dataclass
class Findings:
    """The results of comparing one fine-tuned model with the model before fine-tuning.

    Results of analyses that were not requested are None or empty.

    Attributes:
        name: name of the fine-tuned model.
        items: ids of the items.
        metric: [items] metric of each item, for each model (BEFORE or AFTER).
        record: measures of the fine-tuned model, compared with the model before.
        base_record: measures of the model before.
        direct: direct attribution, for each model (BEFORE or AFTER).
        attention: attention between spans, for each model (BEFORE or AFTER).
        logit_lens: what residual streams predict, for each model (BEFORE or AFTER).
        carried: patching results for each direction, `sufficiency` or `necessity`.
        delta_scaling: results of scaling the change from the model before to the fine-tuned model.
        path: the gain attributed along the change; a text says why there is none.
        masks: learned masks over the change; a text says why there are none.
        trajectory: the gain attributed along the training trajectory.
    """

    name: str
    items: list[str]
    metric: dict[str, np.ndarray]
    record: ProbeRecord | None = None
    base_record: ProbeRecord | None = None
    direct: dict[str, DirectAttribution] = field(default_factory=dict)
    attention: dict[str, SpanAttention] = field(default_factory=dict)
    carried: dict[str, Carried] = field(default_factory=dict)
    delta_scaling: DeltaScaling | None = None
    path: PathAttribution | str | None = None
    masks: LearnedMasks | str | None = None
    logit_lens: dict[str, ItemLens] = field(default_factory=dict)
    trajectory: Trajectory | None = None

    def save(self, folder: Path, analysis: Analysis) -> None:
        """Write the tables of an analysis that have rows, or its measure records, to a folder.

        Args:
            folder: the folder, which is created if it doesn't exist.
            analysis: the analysis.
        """
        for name, rows in self._tables(analysis).items():
            found = list(rows)
            if found:
                write_table(folder / f"{name}.parquet", found)
        divided = self.path.edges if isinstance(self.path, PathAttribution) else None
        if analysis is Analysis.path and divided is not None:
            write_edges(folder / FILE, divided, self.items)
        wanted = analysis is Analysis.differences
        if wanted and self.record is not None and self.base_record is not None:
            self.record.save(record_file(folder, self.record.step))
            self.base_record.save(record_file(folder, -1))

    def _tables(self, analysis: Analysis) -> dict[str, Iterator[Mapping[str, Any]]]:
        """Return the rows of an analysis' tables, by the table's name."""
        match analysis:
            case Analysis.patching:
                one, sets, pairs = self._patching(), self._sets(), self._synergy()
                return {"patching": one, "sets": sets, "synergy": pairs}
            case Analysis.direct:
                return {"direct": self._direct()}
            case Analysis.attention:
                return {"attention": self._attention()}
            case Analysis.logit_lens:
                return {"logit_lens": self._logit_lens()}
            case Analysis.delta_scaling:
                return {"surgery": self._delta_scaling(), "text": self._text()}
            case Analysis.path if isinstance(self.path, PathAttribution):
                return {
                    "path": path_rows(self.path),
                    "path_effects": effect_rows(self.path),
                    "path_pairs": pair_rows(self.path),
                    **self._trajectory(),
                }
            case Analysis.masks if isinstance(self.masks, LearnedMasks):
                rows = {"masks": mask_rows(self.masks), "mask_units": unit_rows(self.masks)}
                return rows | {"mask_texts": text_rows(self.masks)}
        return {}

    def _trajectory(self) -> dict[str, Iterator[Mapping[str, Any]]]:
        found = self.trajectory
        if found is None:
            return {}
        return {"trajectory": trajectory_rows(found), "trajectory_metric": metric_rows(found)}

    def _patching(self) -> Iterator[Mapping[str, Any]]:
        for direction, one in self.carried.items():
            moved = one.moved
            for i, part in enumerate(moved.parts):
                about = {"direction": direction, "part": str(part), "kind": part.kind}
                about |= {"layer": part.layer, "index": part.index}
                for j, item in enumerate(self.items):
                    yield about | {
                        "item": item,
                        "receiver": moved.receiver[j],
                        "donor": moved.donor[j],
                        "effect": moved.effects[i, j],
                        "attributed": moved.attributed[i, j],
                    }

    def _sets(self) -> Iterator[Mapping[str, Any]]:
        for direction, one in self.carried.items():
            for named, effects in zip(one.sets, one.set_effects, strict=True):
                about = {"direction": direction, "kind": named.kind, "draw": named.draw}
                about |= {"size": len(named.parts), "parts": " ".join(map(str, named.parts))}
                for item, effect in zip(self.items, effects, strict=True):
                    yield about | {"item": item, "effect": effect}

    def _synergy(self) -> Iterator[Mapping[str, Any]]:
        for direction, one in self.carried.items():
            for pair, values in zip(one.pairs, one.synergies, strict=True):
                about = {"direction": direction, "parts": " ".join(map(str, pair))}
                for item, value in zip(self.items, values, strict=True):
                    yield about | {"item": item, "synergy": value}

    def _direct(self) -> Iterator[Mapping[str, Any]]:
        for model, one in self.direct.items():
            by_layer = {"attention_bias": one.attention_bias, "mlp": one.mlps}
            whole = {"embedding": one.embedding, "bias": one.bias, "entropy": one.entropy}
            for j, item in enumerate(self.items):
                for part, values in whole.items():
                    yield _direct_row(model, item, part, None, None, values[j])
                for part, values in by_layer.items():
                    for layer, value in enumerate(values[:, j]):
                        yield _direct_row(model, item, part, layer, None, value)
                for (layer, head), value in np.ndenumerate(one.heads[:, :, j]):
                    yield _direct_row(model, item, "head", layer, head, value)

    def _attention(self) -> Iterator[Mapping[str, Any]]:
        for model, one in self.attention.items():
            for (source, destination), values in zip(one.pairs, one.values, strict=True):
                about = {"model": model, "source": source, "destination": destination}
                for (layer, head, j), value in np.ndenumerate(values):
                    place = {"layer": layer, "head": head, "item": self.items[j]}
                    yield about | place | {"value": None if np.isnan(value) else value}

    def _logit_lens(self) -> Iterator[Mapping[str, Any]]:
        for model, one in self.logit_lens.items():
            for measure, values in one.values.items():
                for (stream, j), value in np.ndenumerate(values):
                    place = {"measure": measure, "stream": stream, "item": self.items[j]}
                    yield {"model": model} | place | {"value": float(value)}

    def _arms(self) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
        if self.delta_scaling is None:
            return
        found = self.delta_scaling
        for arm, metric, losses in zip(found.arms, found.metric, found.losses, strict=True):
            about = {"arm": arm.kind, "layer": arm.layer, "module": arm.module}
            yield about | {"amount": arm.amount}, metric, losses

    def _delta_scaling(self) -> Iterator[Mapping[str, Any]]:
        for about, metric, _ in self._arms():
            for item, value in zip(self.items, metric, strict=True):
                yield about | {"item": item, "metric": value}

    def _text(self) -> Iterator[Mapping[str, Any]]:
        for about, _, losses in self._arms():
            for number, loss in enumerate(losses):
                yield about | {"text": number, "loss": loss}


def _direct_row(
    model: str, item: str, part: str, layer: int | None, head: int | None, value: float
) -> Mapping[str, Any]:
    place = {"part": part, "layer": layer, "head": head, "item": item}
    return {"model": model, **place, "value": float(value)}
