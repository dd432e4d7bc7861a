"""What training, circuits, attention measures and generation cost on a GPU, within eight minutes.

    python benchmarks/gpu.py [--model FOLDER] [--budget SECONDS] [--only STAGE ...]
    python benchmarks/gpu.py --device cpu --quick    # tiny shapes, to try the command

Shapes with random weights: GPT-2 small, GPT-2 XL, SmolLM2-135M and Llama-3-8B. Stages run in the
order of their worth. The result file is written after each, so an interrupted run keeps what it
has. A stage that needs more time than the budget has left is skipped, one that fails is reported
and the next one runs; the file says so.

Figures are those of `training_throughput`, `circuits`, `attention`, `watchers` and `generation`, in
bfloat16.
Those that only this file has: `fits`, the memory of the model and of attribution over 80 GB;
`rank`, Spearman's correlation over edges of scores in bfloat16 and in float32; `compile`, training
with `trainer.compile=true` against training without.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import attention
import circuits
import generation
import numpy as np
import torch
import training_throughput
import watchers
from measurement import in_use, one_figure, parser, prepare, save_result, show
from scipy.stats import spearmanr
from subjects import LocalModel, RandomModel, Subject, load
from transformers import GPT2Config, LlamaConfig

from sumcirc.circuits.edge_selection import top_n
from sumcirc.models.loading import BUILT_IN, resolve_path
from sumcirc.models.modes import inference

CLAIM = (
    "on a GPU, training is at least as fast as the Trainer of transformers, and attribution takes"
    " at most 1.3 of the time and memory of the passes that it needs, within 80 GB at the shape of"
    " an 8B model"
)
BUDGET = 400.0  # seconds; with the last stage and the start of Python it stays within 8 minutes
GPU_BYTES = 80e9
AT_MOST = {"attribution": 1.3, "memory": 1.3, "patched": 1.3}
LEAST_RANK = 0.95  # correlation of scores in bfloat16 and in float32
REAL_TOKENS = 256  # of a document for models with weights of their own, in the stage `rank`
HALF = torch.bfloat16

Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """What is measured, at full size or for a try on a CPU.

    Attributes:
        device: `cuda` or `cpu`.
        threads: number of CPU threads.
        gpt2, gpt2_xl, smollm2, llama: configurations of the shapes.
        tokens: tokens of a document.
        long: tokens of a document in the stage of attention measures.
        pairs: number of pairs whose edges are scored at GPT-2 small's shape.
        batches: number of documents in a training batch for GPT-2, SmolLM2 and Llama.
        steps: optimizer steps of each side.
        watched: number of documents in a step that is watched, and of those that are measured.
        rounds: how often each side of the other comparisons runs.
        new_tokens: length of generated summaries.
        model: folder of a model for the stage `rank`; None for none.
    """

    device: str
    threads: int
    gpt2: GPT2Config
    gpt2_xl: GPT2Config
    smollm2: LlamaConfig
    llama: LlamaConfig
    tokens: int
    long: int
    pairs: int
    batches: tuple[int, int, int]
    steps: int
    watched: tuple[int, int]
    rounds: int
    new_tokens: int
    model: Path | None

    def subject(self, config: Any, dtype: torch.dtype = HALF) -> RandomModel:
        """Return a random model of this shape for documents of `tokens` tokens."""
        return RandomModel(config, self.tokens, dtype)

    def training(self, config: Any, batch_size: int, lora: bool) -> training_throughput.Case:
        """Return a training case whose documents mostly fill the context."""
        return training_throughput.Case(
            # only frozen weights are bfloat16
            self.subject(config, HALF if lora else torch.float32),
            batch_size=batch_size,
            steps=self.steps,
            document=self.tokens,
            summary=(self.tokens // 16, self.tokens // 8),
            lora=lora,
            mask=False,
        )


def gpt2_config(layers: int, width: int, heads: int, **others: int) -> GPT2Config:
    """Return a GPT-2 configuration without dropout, so that both sides take the same steps."""
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2Config(n_layer=layers, n_embd=width, n_head=heads, **dropout, **ends, **others)


def llama_config(layers: int, width: int, heads: tuple[int, int], **others: Any) -> LlamaConfig:
    """Return a Llama configuration; `heads` are its numbers of query and key/value heads."""
    return LlamaConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=0,
        **others,
    )


def full_plan(options: argparse.Namespace, threads: int) -> Plan:
    """Return the plan with the shapes of real models."""
    return Plan(
        options.device,
        threads,
        gpt2=gpt2_config(12, 768, 12, n_positions=2048),
        gpt2_xl=gpt2_config(48, 1600, 25, n_positions=1024),
        smollm2=llama_config(
            30, 576, (9, 3), intermediate_size=1536, vocab_size=49152, tie_word_embeddings=True
        ),
        llama=llama_config(32, 4096, (32, 8), intermediate_size=14336, vocab_size=128256),
        tokens=1024,
        long=2048,
        pairs=4,
        batches=(16, 16, 2),
        steps=12,
        watched=(8, 32),
        rounds=3,
        new_tokens=64,
        model=options.model,
    )


def quick_plan(options: argparse.Namespace, threads: int) -> Plan:
    """Return the plan with tiny shapes of the same families."""
    sizes = {"intermediate_size": 128, "vocab_size": 512}
    return Plan(
        options.device,
        threads,
        gpt2=gpt2_config(2, 64, 4, vocab_size=512, n_positions=128),
        gpt2_xl=gpt2_config(3, 64, 4, vocab_size=512, n_positions=128),
        smollm2=llama_config(2, 64, (4, 2), **sizes, tie_word_embeddings=True),
        llama=llama_config(3, 64, (4, 2), **sizes),
        tokens=64,
        long=128,
        pairs=2,
        batches=(2, 2, 2),
        steps=3,
        watched=(2, 4),
        rounds=1,
        new_tokens=8,
        model=options.model,
    )


def train(plan: Plan, name: str, config: Any, batch_size: int, lora: bool) -> Figures:
    """Measure training against the Trainer, given the same batches and attention kernel."""
    case = plan.training(config, batch_size, lora)
    figure = training_throughput.compare(case, plan.device, plan.threads)
    return {f"training_{name}": figure}


def attribute(plan: Plan, name: str, config: Any, pairs: int = 1, patched: bool = False) -> Figures:
    """Measure EAP-IG against its floor, and the memory it needs together with the model."""
    subject = plan.subject(config)
    model = load(subject, plan.device)
    loaded = in_use(plan.device)
    size = [(pairs, plan.tokens)]
    found = circuits.measure(
        model, size, plan.device, plan.rounds, left=False, patched=patched, spans=False
    )
    figures = {}
    for long_name, figure in found.items():
        kind = long_name.split("_")[0]
        figures[f"{kind}_{name}"] = {**figure, "at_most": AT_MOST[kind]}
    whole = loaded + 1e6 * figures[f"memory_{name}"]["megabytes"]
    figures[f"fits_{name}"] = {**one_figure(whole, GPU_BYTES), "at_most": 1.0}
    return {
        case: {**figure, "pairs": pairs, "shape": subject.about()}
        for case, figure in figures.items()
    }


def rank(plan: Plan) -> Figures:
    """Measure how well scores in bfloat16 agree with those in float32, on random tokens."""
    subjects: dict[str, Subject] = {
        "gpt2_small": plan.subject(plan.gpt2, torch.float32),
        "built_in": LocalModel(Path(resolve_path(BUILT_IN, "model.path")), REAL_TOKENS),
    }
    if plan.model is not None:
        subjects["model"] = LocalModel(plan.model, REAL_TOKENS)
    return {f"rank_{name}": agreement(subject, plan) for name, subject in subjects.items()}


def agreement(subject: Subject, plan: Plan) -> dict[str, Any]:
    """Return Spearman's correlation over edges, and the overlap of the largest edges."""
    model = load(subject, plan.device)
    means, tops = [], []
    for dtype in (torch.float32, HALF):
        case = circuits.Case(model.to(dtype), plan.pairs, subject.context, plan.device)
        scores = case.attribution()
        graph = scores.graph
        means.append(scores.mean.double().numpy())
        tops.append(top_n(means[-1], graph, graph.edges_in(circuits.SHARE)))
    found = float(spearmanr(*(mean[graph.exists] for mean in means)).statistic)
    if not np.isfinite(found):
        raise ValueError("the scores of all edges are equal, or not finite")
    return {
        "ratio": found,
        "ratio_cpu": found,
        "largest_in_common": float((tops[0] & tops[1]).sum() / tops[0].sum()),
        "edges": graph.edges,
        "at_least": LEAST_RANK,
        "shape": subject.about(),
    }


def attend(plan: Plan, name: str, config: Any) -> Figures:
    """Measure attention measures against a plain pass and against attention matrices."""
    subject = RandomModel(config, plan.long, HALF)
    probe = attention.Probe(subject, plan.device)
    with inference(probe.model):
        found = attention.times(probe, 2 * plan.rounds)
        found["memory_all"] = attention.memory(probe)
    return {
        f"{case}_{name}": {
            **figure,
            "at_most": attention.AT_MOST_LOCAL[case.split("_")[0]],
            "shape": subject.about(),
        }
        for case, figure in found.items()
    }


def watch(plan: Plan, name: str, config: Any) -> Figures:
    """Measure the default watchers beside training, in the precision of the weights."""
    case = plan.training(config, plan.watched[0], lora=True)
    case = replace(case, shape=plan.subject(config, torch.float32), steps=plan.rounds + 2)
    return {f"watchers_{name}": watchers.compare(case, plan.watched[1], plan.device)}


def compile_(plan: Plan) -> Figures:
    """Measure training at GPT-2 small's shape with and without `torch.compile`."""
    case = plan.training(plan.gpt2, plan.batches[0], lora=False)
    case = replace(case, document=100 * plan.tokens)  # cut to the context
    return {
        "compile_gpt2_small": training_throughput.compare_compiled(case, plan.device, plan.threads)
    }


def generate(plan: Plan, name: str, config: Any) -> Figures:
    """Measure batched generation against `generate` of transformers.

    In bfloat16 random weights tie so often that summaries differ; `same_summaries` says how often.
    """
    subject = plan.subject(config)
    return {
        f"generation_{name}": generation.against_transformers(
            subject, plan.rounds, plan.new_tokens, plan.device
        )
    }


@dataclass(frozen=True)
class Stage:
    """A part of the benchmark.

    Attributes:
        name: name by which `--only` chooses it.
        seconds: time that it takes at full size; an estimate until it is measured.
        run: returns the figures.
    """

    name: str
    seconds: float
    run: Callable[[Plan], Figures]


STAGES = (
    Stage("training_smollm2", 40, lambda p: train(p, "smollm2", p.smollm2, p.batches[1], False)),
    Stage("circuits_llama_8b", 45, lambda p: attribute(p, "llama_8b", p.llama)),
    Stage("training_llama_8b", 75, lambda p: train(p, "llama_8b", p.llama, p.batches[2], True)),
    Stage(
        "circuits_gpt2_small",
        20,
        lambda p: attribute(p, "gpt2_small", p.gpt2, p.pairs, patched=True),
    ),
    Stage("rank", 20, rank),
    Stage("training_gpt2_small", 30, lambda p: train(p, "gpt2_small", p.gpt2, p.batches[0], False)),
    Stage("attention_smollm2", 15, lambda p: attend(p, "smollm2", p.smollm2)),
    Stage("watchers_smollm2", 30, lambda p: watch(p, "smollm2", p.smollm2)),
    Stage("compile", 60, compile_),
    Stage("circuits_gpt2_xl", 30, lambda p: attribute(p, "gpt2_xl", p.gpt2_xl)),
    Stage("generation_smollm2", 30, lambda p: generate(p, "smollm2", p.smollm2)),
    Stage("attention_gpt2_small", 15, lambda p: attend(p, "gpt2_small", p.gpt2)),
    Stage("generation_llama_8b", 40, lambda p: generate(p, "llama_8b", p.llama)),
)


def command_line(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, and refuse what can't work before a model is made."""
    line = parser(__doc__)
    names = [stage.name for stage in STAGES]
    line.set_defaults(device="cuda")
    line.add_argument("--model", type=Path, help="folder of a model, for the stage `rank`")
    line.add_argument("--budget", type=float, default=BUDGET, help=f"seconds ({BUDGET:g})")
    line.add_argument("--only", nargs="+", choices=names, default=names, metavar="STAGE")
    options = line.parse_args(arguments)
    if options.device == "cpu" and not options.quick:
        raise SystemExit("--device cpu: the shapes are too large for a CPU; add --quick")
    if options.device == "cuda" and torch.cuda.device_count() > 1:
        raise SystemExit(
            f"{torch.cuda.device_count()} GPUs are visible, over which the Trainer would divide"
            " each batch; set CUDA_VISIBLE_DEVICES=0"
        )
    if options.model is not None:
        LocalModel(options.model, REAL_TOKENS)
    return options


def main() -> None:
    """Run the stages, print and write their figures; exit with 1 if one failed."""
    began = time.monotonic()
    options = command_line()
    threads = prepare(options)
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    plan = quick_plan(options, threads) if options.quick else full_plan(options, threads)
    figures: Figures = {}
    stages: dict[str, float | str] = {}
    for stage in (one for one in STAGES if one.name in options.only):
        start = time.monotonic()
        left, needed = options.budget - (start - began), 0 if options.quick else stage.seconds
        if left <= needed:
            stages[stage.name] = f"skipped: {left:.0f} of {options.budget:g} seconds were left"
            print(f"gpu {stage.name}: {stages[stage.name]}", flush=True)
        else:
            try:
                found = stage.run(plan)
            # a stage may fail for lack of memory, or because both sides differ
            except Exception as error:
                traceback.print_exc()
                stages[stage.name] = f"failed: {type(error).__name__}"
                print(f"gpu {stage.name}: {stages[stage.name]}", flush=True)
            else:
                figures |= found
                stages[stage.name] = time.monotonic() - start
                show("gpu", found)
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()
        save_result("gpu", options, CLAIM, None, figures, stages)
    if any(str(stage).startswith("failed") for stage in stages.values()):
        sys.exit(1)
    trainings = {name: one for name, one in figures.items() if "weight_difference" in one}
    training_throughput.require_agreement(trainings)


if __name__ == "__main__":
    main()
