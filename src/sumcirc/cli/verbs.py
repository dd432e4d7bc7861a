"""The verbs of the `sumcirc` command, and the text of `sumcirc --help`."""

from __future__ import annotations

VERBS = {
    "train": "fine-tune a model to summarize, fully or with LoRA, and score its summaries",
    "evaluate": "score the summaries of any model, next to lead, random and oracle baselines",
    "circuit": "find the edges of a model that carry the summary, and measure their faithfulness",
    "compare": "find what fine-tuning changed, and whether patching it transfers the behaviour",
    "pairs": "write pairs of clean and corrupted documents, aligned token by token",
    "report": "compare the configurations of a sweep with controls, and write an HTML page",
    "dashboard": "create a W&B workspace and a W&B report of a sweep",
    "placement": "show how good every choice of layers is, and where a selector's choice lies",
    "select": "rank layers or modules for LoRA, and write a LoraConfig for a parameter budget",
    "pretrain": "rebuild the built-in model and its tokenizer from generated news text",
}

# verbs that show existing results; they take paths, no overrides
READERS = {
    "status": "show the state of every run of a sweep",
}

# shown before the libraries are loaded, which takes seconds
STARTING = "loads libraries and checks settings and files"

USAGE = """\
usage: sumcirc VERB [overrides]

{verbs}

  sumcirc train model=gpt2 data=cnn_dailymail adaptation=lora adaptation.layers=[2,3,5]
  sumcirc train -m adaptation=lora 'adaptation.layers=[2,3,5],[9,10,11],all' seed=1,2,3
  sumcirc train resume=RUN_DIR
  sumcirc evaluate checkpoint=RUN_DIR
  sumcirc circuit checkpoint=RUN_DIR
  sumcirc circuit checkpoint=RUN_DIR against=base
  sumcirc compare after=RUN_DIR
  sumcirc pairs data=cnn_dailymail out=pairs.jsonl
  sumcirc status SWEEP_DIR
  sumcirc report SWEEP
  sumcirc report SWEEP wanted=1.0
  sumcirc dashboard SWEEP
  sumcirc placement SWEEP
  sumcirc placement SWEEP score=[2,3,5]
  sumcirc select model=gpt2 data=cnn_dailymail selector=circuit adaptation.budget=294912

Without overrides a verb uses the built-in model and data, and needs no network and no account.
`sumcirc VERB --help` lists the settings, `sumcirc VERB --cfg job` prints the composed values,
and `-m` runs one job for each combination of comma-separated values. `sumcirc train dry_run=true`
prints what would run and what it would cost, and keeps nothing. To turn on tab completion, run
`eval "$(sumcirc --shell-completion install=bash)"`. SUMCIRC_TRACEBACK=1 shows the traceback of
every error.
"""


def usage() -> str:
    """Return the text of `sumcirc --help`."""
    verbs = VERBS | READERS
    width = max(map(len, verbs))
    return USAGE.format(verbs="\n".join(f"  {verb:<{width}}  {verbs[verb]}" for verb in verbs))
