"""Runs all analyses of a comparison, in an order that loads each model as rarely as possible.

First `before` is run, then every `after`, then `before` again to patch other models' activations
into it, and then every pair of models after. Activations and weights that later steps need are
stored on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sumcirc.compare.config_check import scales
from sumcirc.compare.deltas.adapter_deltas import LEAVE_OUT
from sumcirc.compare.deltas.delta_scaling import DeltaScaling, arms_of, runs, scale_deltas
from sumcirc.compare.deltas.deltas import Target, scaled, targets_of
from sumcirc.compare.deltas.weight_deltas import StoredWeights, store_weights
from sumcirc.compare.direct_attribution import direct_attribution
from sumcirc.compare.findings import AFTER, BEFORE, Findings
from sumcirc.compare.inputs import ComparisonInputs
from sumcirc.compare.item_lens import item_lens
from sumcirc.compare.items.item_set import LOGIT_DIFFERENCE, ItemSet
from sumcirc.compare.masks.learned_masks import check_counts, learn_masks
from sumcirc.compare.patching.components import UNEMBEDDING
from sumcirc.compare.patching.donor_activations import Donor
from sumcirc.compare.patching.patching_runs import carry
from sumcirc.compare.patching.patching_scores import PatchingSetup
from sumcirc.compare.path.path_attribution import NoGainError, attribute_path
from sumcirc.compare.path.trajectory import Checkpoint, attribute_trajectory
from sumcirc.compare.result_files import ResultFiles
from sumcirc.compare.span_attention import default_pairs, span_attention
from sumcirc.data.encoding import Encoder
from sumcirc.data.examples import LAST, READ
from sumcirc.errors import UserError
from sumcirc.measures.base_records import BaseStore
from sumcirc.measures.measure_batches import IN_STORE
from sumcirc.measures.measuring import measure, prepare_base
from sumcirc.models.activations.hooked_model import HookedModel
from sumcirc.models.model_pairs import Models
from sumcirc.models.model_reference import ModelReference
from sumcirc.models.peft_adapters import changes_ends
from sumcirc.runtime.progress import counted
from sumcirc.schema import Analysis, CompareConfig, CompareOptions, Direction
from sumcirc.tracking.measure_records import ProbeRecord

P = ParamSpec("P")
T = TypeVar("T")


class ModelComparison:
    """Runs all requested analyses that compare one model with other models.

    Args:
        config: the settings.
        texts: the inputs that all models read.
        encoder: turns texts into tokens of the models.
        models: loads the models.
        scratch: an empty folder for activations and weights.
        files: to which the results of an analysis are written when it is finished.
        checkpoints: states of each model's training, by the model's name, if path attribution
            follows them.

    Raises:
        UserError: the settings name positions that no item has, or masks are requested and there
            are too few items or plain texts.
    """

    def __init__(
        self,
        config: CompareConfig,
        texts: ComparisonInputs,
        encoder: Encoder,
        models: Models,
        scratch: Path,
        files: ResultFiles,
        checkpoints: Mapping[str, Sequence[Checkpoint]] | None = None,
    ) -> None:
        self.config, self.options = config, config.compare
        self.texts, self.items = texts, texts.items
        self.encoder, self.models, self.scratch, self.files = encoder, models, scratch, files
        self.checkpoints = checkpoints or {}
        self.positions = positions_of(config.compare, texts.items)
        self.items.check_positions(self.positions, "compare.positions")
        if self._does(Analysis.masks):
            plain = len(texts.texts) if self.options.masks.retention else None
            check_counts(len(self.items), plain)
        if self.options.sources is not None:
            self.items.check_positions(self.options.sources, "compare.sources")

    def run(
        self, before: ModelReference, afters: list[ModelReference]
    ) -> tuple[dict[str, Findings], dict[str, ProbeRecord]]:
        """Run all requested analyses.

        Args:
            before: the model with which all others are compared.
            afters: the models that are compared with `before`.

        Returns:
            The results for each model in `afters`, by the model's name; and for every pair of
            models in `afters`, the measures of the second compared with the first, by the pair's
            name (`NAME and NAME`). The latter are empty if the analysis `differences` is not
            requested.
        """
        own: dict[str, Any] = {}
        shared = all(_shares_unembedding(side, before) for side in afters)
        with self.models.use(before) as model:
            base = self._store(model, before)
            self._look(model, before.name, own)
            donor = self._donor(model, before, Direction.necessity, shared)
            wanted = not all(side.is_on(before) for side in afters)
            weights = self._weights(model) if wanted and scales(self.options.analyses) else None
        found, donors = {}, {}
        for side in afters:
            one = found[side.name] = Findings(side.name, self.items.ids, {BEFORE: own["metric"]})
            with self.models.use(side) as model:
                seen: dict[str, Any] = {}
                self._look(model, side.name, seen)
                one.metric[AFTER] = seen["metric"]
                self.files.add_metric(one)
                for analysis in (Analysis.direct, Analysis.attention, Analysis.logit_lens):
                    name = analysis.value
                    if name in own:
                        setattr(one, name, {BEFORE: own[name], AFTER: seen[name]})
                        self.files.add(one, analysis)
                if base is not None:
                    one.record, one.base_record = self._measured(model, side, base), base.record
                    self.files.add(one, Analysis.differences)
                alike = _shares_unembedding(side, before)
                donors[side.name] = self._donor(model, side, Direction.sufficiency, alike)
                if donor is not None:
                    self._carry(model, one, donor, Direction.necessity)
                if scales(self.options.analyses):
                    self._scale(model, one, before, side, None if side.is_on(before) else weights)
        for side in afters:
            taken = donors[side.name]
            if taken is not None:
                with self.models.use(before) as model:
                    self._carry(model, found[side.name], taken, Direction.sufficiency)
        return found, self._pairs(before, afters, found)

    def _does(self, analysis: Analysis) -> bool:
        return analysis in self.options.analyses

    def _look(self, model: Any, name: str, found: dict[str, Any]) -> None:
        """Store the results that need one model alone in `found`, by name."""
        hooked, size = HookedModel(model), self.options.batch_size
        found["metric"] = self.items.values(hooked, size)
        if self._does(Analysis.direct):
            with counted(f"{name}: attribute directly", len(self.items)) as done:
                found["direct"] = direct_attribution(hooked, self.items, size, done)
        if self._does(Analysis.attention) and self.items.spans:
            with counted(f"{name}: attention between spans", len(self.items)) as done:
                pairs = default_pairs(self.items)
                found["attention"] = span_attention(hooked, self.items, pairs, size, done)
        if self._does(Analysis.logit_lens):
            with counted(f"{name}: logit lens", len(self.items)) as done:
                found["logit_lens"] = item_lens(hooked, self.items, size, done)

    def _store(self, model: Any, side: ModelReference) -> BaseStore | None:
        """Return the stored activations of a model that others are compared with."""
        if not self._does(Analysis.differences):
            return None
        cache = Path(self.config.cache_dir)
        with counted(f"{side.name}: probe", len(self.texts.probes)) as done:
            return prepare_base(model, self.texts.probes, cache, done, as_it_is=side.adapted)

    def _measured(self, model: Any, side: ModelReference, base: BaseStore) -> ProbeRecord:
        with counted(f"{side.name}: probe", len(self.texts.probes)) as done:
            record = measure(
                model,
                self.texts.probes,
                base,
                concerns=IN_STORE,
                decode=self.encoder.codec.token,
                progress=done,
            )
        record.found["name"] = side.name
        return record

    def _donor(
        self, model: Any, side: ModelReference, direction: Direction, shared: bool
    ) -> Donor | None:
        """Run the donor model on all items and store its activations for patching.

        Return None if patching in this direction is not requested.

        Args:
            shared: whether the receiving model has the same final norm and unembedding.
        """
        if not self._does(Analysis.patching) or direction not in self.options.directions:
            return None
        folder = self.scratch / f"{direction.name}-{len(list(self.scratch.iterdir()))}"
        folder.mkdir()
        unembedding = UNEMBEDDING in self.options.parts and not shared
        size = self.options.batch_size
        with counted(f"{side.name}: keep states", len(self.items)) as done:
            return Donor.record(
                HookedModel(model), self.items, size, [self.positions], folder, unembedding, done
            )

    def _carry(self, model: Any, one: Findings, donor: Donor, direction: Direction) -> None:
        options = self.options
        crossing = PatchingSetup(
            HookedModel(model),
            donor,
            self.items,
            options.batch_size,
            self.positions,
            options.sources,
            options.memory,
        )
        label = f"{one.name}, {direction.name}"
        one.carried[direction.name] = carry(crossing, options, self.config.seed, label, counted)
        self.files.add(one, Analysis.patching)

    def _weights(self, model: Any) -> StoredWeights:
        return store_weights(model, self.scratch / "before.safetensors")

    def _scale(
        self,
        model: Any,
        one: Findings,
        before: ModelReference,
        side: ModelReference,
        weights: StoredWeights | None,
    ) -> None:
        """Store the results of the analyses that scale the change of weights in `one`."""
        hooked, options = HookedModel(model), self.options
        targets = targets_of(hooked, weights)
        with scaled(model, weights, dict.fromkeys(targets, 0.0)):
            if not self.models.stands_for(before, model):
                raise UserError(
                    f"{side.given}: with its change scaled to 0 it differs from"
                    f" {before.name}, so more than their weights differs, such as their"
                    f" configurations; {LEAVE_OUT}"
                )
        if self._does(Analysis.delta_scaling):
            one.delta_scaling = self._delta_scaling(model, side, weights, targets)
            self.files.add(one, Analysis.delta_scaling)

        def label(what: str, total: int) -> Any:
            return counted(f"{side.name}: {what}", total)

        given = (model, weights, self.items)
        if self._does(Analysis.path):
            rest = (options.path, options.batch_size, label)
            one.path = _or_reason(attribute_path, *given, *rest)
            self.files.add(one, Analysis.path)
            states = self.checkpoints.get(side.name)
            if states and not isinstance(one.path, str):
                one.trajectory = attribute_trajectory(*given, states, one.path, *rest)
                self.files.add(one, Analysis.path)
        if self._does(Analysis.masks):
            texts = [text.tolist() for text in self.texts.texts if options.masks.retention]
            rest = (options.masks, options.batch_size, label, texts)
            one.masks = _or_reason(learn_masks, *given, *rest)
            self.files.add(one, Analysis.masks)

    def _delta_scaling(
        self,
        model: Any,
        side: ModelReference,
        weights: StoredWeights | None,
        targets: list[Target],
    ) -> DeltaScaling:
        hooked, options = HookedModel(model), self.options
        total = runs(arms_of(hooked.shape.layers, targets, options.lambdas), targets)
        with counted(f"{side.name}: scale the change", total) as done:
            return scale_deltas(
                model,
                weights,
                self.items,
                self.texts.texts,
                options.lambdas,
                options.batch_size,
                done,
                targets,
            )

    def _pairs(
        self, before: ModelReference, afters: list[ModelReference], found: dict[str, Findings]
    ) -> dict[str, ProbeRecord]:
        """Return a measure record for every two models, the second compared with the first."""
        records = {}
        for side in afters:
            record = found[side.name].record
            if record is not None:
                records[f"{before.name} and {side.name}"] = record
        if not records:
            return {}
        for one, other in combinations(afters, 2):
            with self.models.use(one) as model:
                base = self._store(model, one)
            assert base is not None
            name = f"{one.name} and {other.name}"
            with self.models.use(other) as model:
                records[name] = self._measured(model, other, base)
            self.files.add_pair(name, records[name])
        return records


def positions_of(options: CompareOptions, items: ItemSet) -> str:
    """Return the name of the set of positions at which activations are patched.

    Args:
        options: settings of the comparison.
        items: the items, whose metric determines the default.
    """
    return options.positions or (LAST if items.metric == LOGIT_DIFFERENCE else READ)


def _or_reason(analyse: Callable[P, T], *given: P.args, **named: P.kwargs) -> T | str:
    """Return the results of an analysis of the gain, or why there is no gain to analyse."""
    try:
        return analyse(*given, **named)
    except NoGainError as reason:
        return str(reason)


def _shares_unembedding(side: ModelReference, before: ModelReference) -> bool:
    """Return whether a model shares its final norm and unembedding with `before`."""
    return side.is_on(before) and not changes_ends(side.weights, side.given)  # type: ignore[arg-type]
