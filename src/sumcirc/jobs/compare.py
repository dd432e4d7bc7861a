"""`sumcirc compare`: what fine-tuning changed inside, and whether moving it carries the behaviour.

For any base and tuned model: hub ids, folders, adapters, run directories. One of them is in memory
at a time; what the other did lies on disk.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sumcirc.schema import Analysis, CompareConfig, Direction

if TYPE_CHECKING:
    from sumcirc.compare.findings import Findings
    from sumcirc.compare.sources import Material
    from sumcirc.compare.states import Donor
    from sumcirc.compare.weights import StoredWeights
    from sumcirc.data.encoding import Encoder
    from sumcirc.modeling.sides import Models, Side
    from sumcirc.probes.base import BaseStore
    from sumcirc.records import ProbeRecord
    from sumcirc.tracking.run_directory import RunDirectory

READOUT = "readout"


def check(config: CompareConfig) -> None:
    """Refuse what would fail later.

    Raises:
        UserError: one line that names the setting, the value and the remedy.
    """
    from sumcirc.compare.components import Component
    from sumcirc.compare.prompts import read_prompts
    from sumcirc.compare.sources import check_places
    from sumcirc.data.documents import check_files
    from sumcirc.data.encoding import Encoder
    from sumcirc.data.files import find_files
    from sumcirc.errors import UserError
    from sumcirc.modeling.anatomy import context_length, shape
    from sumcirc.modeling.loading import load_tokenizer, read_model_config
    from sumcirc.modeling.sides import check_sides
    from sumcirc.schema import FACTS, REPHRASE, Source
    from sumcirc.training import check_accelerator

    check_accelerator(config.trainer)
    check_sides(*_sides(config))
    model_config = read_model_config(config.model)
    for one in config.compare.sets:
        for name in one:
            Component.parse(name, shape(model_config), "compare.sets")
    if config.compare.text is not None:
        find_files(config.compare.text, "compare.text")
    if config.prompts == FACTS and config.data.source is not Source.wire:
        raise UserError(
            "prompts=facts: is made of the built-in wire, whose facts are known; take data=wire or"
            " prompts=FILE.jsonl"
        )
    own = []
    if config.prompts is None or config.prompts == FACTS:
        check_files(config.data, ("test",))
    elif config.prompts != REPHRASE:
        tokenizer = load_tokenizer(config.model)
        encoder = Encoder(tokenizer, config.encoding, context_length(model_config))
        own = read_prompts(config.prompts, encoder)
    check_places(config, own)


def run(config: CompareConfig, folder: Path) -> None:
    """Compare into the run directory `folder`."""
    from sumcirc.tracking.session import carry_out

    carry_out(config, folder, "compare", check, _compare)


def _sides(config: CompareConfig) -> tuple[Side, list[Side]]:
    from sumcirc.modeling.sides import Side
    from sumcirc.tracking.checkpoint_source import weights_of

    weights = weights_of(config.before) if config.before else None
    before = Side(config.model.name, config.model, weights)
    afters = [Side.of(name, "after") for name in config.afters]
    names = [before.name, *(side.name for side in afters)]
    if len(set(names)) < len(names):
        # run directories of two sweeps may share a name
        afters = [
            Side(f"{side.name}-{i + 1}", side.model, side.weights) for i, side in enumerate(afters)
        ]
    return before, afters


def _compare(config: CompareConfig, directory: RunDirectory) -> None:
    from sumcirc.compare.sources import material
    from sumcirc.compare.terminal import print_comparison
    from sumcirc.data.encoding import Encoder
    from sumcirc.files import plain_numbers, write_json
    from sumcirc.modeling.anatomy import context_length, shape
    from sumcirc.modeling.loading import load_tokenizer, read_model_config
    from sumcirc.modeling.sides import Models
    from sumcirc.tracking.session import Clock
    from sumcirc.tracking.wandb import log_compared, wandb_job
    from sumcirc.training import device, set_threads

    clock = Clock()
    set_threads(config.trainer)
    before, afters = _sides(config)
    model_config = read_model_config(config.model)
    encoder = Encoder(load_tokenizer(config.model), config.encoding, context_length(model_config))
    with clock.phase("data"):
        texts = material(config, encoder)
    what = config.prompts if config.prompts is None else Path(config.prompts).stem
    with (
        wandb_job(config, directory, "compare", what or config.data.name) as wandb_logger,
        TemporaryDirectory(prefix=".states-", dir=directory.path) as scratch,
    ):
        with clock.phase("compare"):
            job = _Job(config, texts, encoder, Models(device(config.trainer)), Path(scratch))
            found, pairs = job.run(before, afters)
        with clock.phase("write"):
            written = _write(found, pairs, shape(model_config), texts, directory)
        summary: dict[str, Any] = {
            "before": before.name,
            "metric": texts.items.metric,
            "unit": texts.items.unit,
            "items": len(texts.items),
            "dropped": texts.dropped,
            "positions": job.positions,
            "after": written,
            "seconds": clock.seconds,
        }
        write_json(directory.summary_file, plain_numbers(summary))
        if wandb_logger is not None:
            log_compared(wandb_logger, summary, directory.figures)
    print_comparison(summary)
    print(f"run directory: {directory.path}")
    print(f"figures: {directory.figures}")


class _Job:
    """All passes, in an order that loads each model as seldom as may be."""

    def __init__(
        self,
        config: CompareConfig,
        texts: Material,
        encoder: Encoder,
        models: Models,
        scratch: Path,
    ) -> None:
        from sumcirc.compare.items import LAST, LOGIT_DIFFERENCE, READ

        self.config, self.options = config, config.compare
        self.texts, self.items = texts, texts.items
        self.encoder, self.models, self.scratch = encoder, models, scratch
        default = LAST if self.items.metric == LOGIT_DIFFERENCE else READ
        self.positions = self.options.positions or default
        self.items.check_positions(self.positions, "compare.positions")
        if self.options.sources is not None:
            self.items.check_positions(self.options.sources, "compare.sources")

    def run(
        self, before: Side, afters: list[Side]
    ) -> tuple[dict[str, Findings], dict[str, ProbeRecord]]:
        """Findings by name, and the probe records of every two models."""
        from sumcirc.compare.findings import AFTER, BEFORE, Findings

        own: dict[str, Any] = {}
        wants_weights = self._does(Analysis.surgery) and not all(a.is_on(before) for a in afters)
        with self.models.use(before) as model:
            base = self._store(model, before)
            self._look(model, before.name, own)
            donor = self._donor(model, before, Direction.necessity, shared=False)
            weights = self._weights(model) if wants_weights else None
        found, donors = {}, {}
        for side in afters:
            one = found[side.name] = Findings(side.name, self.items.ids, {BEFORE: own["metric"]})
            with self.models.use(side) as model:
                seen: dict[str, Any] = {}
                self._look(model, side.name, seen)
                one.metric[AFTER] = seen["metric"]
                for name in ("direct", "attention"):
                    if name in own:
                        setattr(one, name, {BEFORE: own[name], AFTER: seen[name]})
                if base is not None:
                    one.record, one.base_record = self._measured(model, side, base), base.record
                shared = side.is_on(before)
                donors[side.name] = self._donor(model, side, Direction.sufficiency, shared)
                if donor is not None:
                    self._carry(model, one, donor, Direction.necessity)
                if self._does(Analysis.surgery):
                    one.surgery = self._surgery(model, side, None if shared else weights)
        for side in afters:
            taken = donors[side.name]
            if taken is not None:
                with self.models.use(before) as model:
                    self._carry(model, found[side.name], taken, Direction.sufficiency)
        return found, self._pairs(before, afters, found)

    def _does(self, analysis: Analysis) -> bool:
        return analysis in self.options.analyses

    def _look(self, model: Any, name: str, found: dict[str, Any]) -> None:
        """What one model does by itself."""
        from sumcirc.compare.attention import default_pairs, span_attention
        from sumcirc.compare.direct import direct_attribution
        from sumcirc.modeling.parts import Parts
        from sumcirc.progress import counted

        parts, size = Parts(model), self.options.batch_size
        found["metric"] = self.items.values(parts, size)
        if self._does(Analysis.direct):
            with counted(f"{name}: attribute directly", len(self.items)) as done:
                found["direct"] = direct_attribution(parts, self.items, size, done)
        if self._does(Analysis.attention) and self.items.spans:
            with counted(f"{name}: attention between spans", len(self.items)) as done:
                pairs = default_pairs(self.items)
                found["attention"] = span_attention(parts, self.items, pairs, size, done)

    def _store(self, model: Any, side: Side) -> BaseStore | None:
        """Of a model that others are probed beside."""
        from sumcirc.probes.measure import prepare_base
        from sumcirc.progress import counted

        if not self._does(Analysis.differences):
            return None
        cache = Path(self.config.cache_dir) / "base"
        with counted(f"{side.name}: probe", len(self.texts.probes)) as done:
            return prepare_base(model, self.texts.probes, cache, done, as_it_is=side.adapted)

    def _measured(self, model: Any, side: Side, base: BaseStore) -> ProbeRecord:
        from sumcirc.probes.measure import measure
        from sumcirc.progress import counted

        def decode(token: int) -> str:
            return str(self.encoder.tokenizer.decode([token]))

        with counted(f"{side.name}: probe", len(self.texts.probes)) as done:
            record = measure(model, self.texts.probes, base, decode=decode, progress=done)
        record.found["name"] = side.name
        return record

    def _donor(self, model: Any, side: Side, direction: Direction, shared: bool) -> Donor | None:
        """States of the model whose parts are moved in a direction."""
        from sumcirc.compare.states import Donor
        from sumcirc.modeling.parts import Parts
        from sumcirc.progress import counted

        if not self._does(Analysis.patching) or direction not in self.options.directions:
            return None
        folder = self.scratch / f"{direction.name}-{len(list(self.scratch.iterdir()))}"
        folder.mkdir()
        readout = READOUT in self.options.parts and not shared
        size = self.options.batch_size
        with counted(f"{side.name}: keep states", len(self.items)) as done:
            return Donor.record(
                Parts(model), self.items, size, [self.positions], folder, readout, done
            )

    def _carry(self, model: Any, one: Findings, donor: Donor, direction: Direction) -> None:
        from sumcirc.compare.moving import carry
        from sumcirc.compare.transfer import Crossing
        from sumcirc.modeling.parts import Parts
        from sumcirc.progress import counted

        options = self.options
        crossing = Crossing(
            Parts(model),
            donor,
            self.items,
            options.batch_size,
            self.positions,
            options.sources,
            options.memory,
        )
        label = f"{one.name}, {direction.name}"
        one.carried[direction.name] = carry(crossing, options, self.config.seed, label, counted)

    def _weights(self, model: Any) -> StoredWeights:
        from sumcirc.compare.weights import store_weights

        return store_weights(model, self.scratch / "before.safetensors")

    def _surgery(self, model: Any, side: Side, weights: StoredWeights | None) -> Any:
        from sumcirc.compare.changes import targets_of
        from sumcirc.compare.surgery import arms_of, runs, surgery
        from sumcirc.modeling.parts import Parts
        from sumcirc.progress import counted

        parts, options = Parts(model), self.options
        targets = targets_of(parts, weights)
        total = runs(arms_of(parts.shape.layers, targets, options.lambdas), targets)
        with counted(f"{side.name}: scale the change", total) as done:
            return surgery(
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
        self, before: Side, afters: list[Side], found: dict[str, Findings]
    ) -> dict[str, ProbeRecord]:
        """Probe records of every two models, the second beside the first."""
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
            with self.models.use(other) as model:
                records[f"{one.name} and {other.name}"] = self._measured(model, other, base)
        return records


def _write(
    found: dict[str, Findings],
    pairs: dict[str, ProbeRecord],
    shape: Any,
    texts: Material,
    directory: RunDirectory,
) -> dict[str, Any]:
    """Write records and figures; the summaries by name."""
    from sumcirc.compare.pictures import draw, draw_pairs
    from sumcirc.compare.summary import summarize
    from sumcirc.records import record_file

    summaries = {}
    for name, one in found.items():
        records = directory.path / "compare" / name
        one.save(records)
        folder = directory.figures if len(found) == 1 else directory.figures / name
        draw(one, shape, records, folder, texts.items.unit)
        summaries[name] = summarize(one, shape)
    if pairs:
        draw_pairs(pairs, directory.figures)
    for name, record in list(pairs.items())[len(found) :]:
        folder = directory.path / "compare" / name.replace(" ", "-")
        record.save(record_file(folder, record.step))
    return summaries
