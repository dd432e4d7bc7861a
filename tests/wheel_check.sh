#!/bin/sh
# Build the source archive and from it the wheel, install it into an empty environment outside the checkout, and train there.
set -eu
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"${PYTHON:-python3}" -m venv "$work/env"
pip="$work/env/bin/pip install --quiet --disable-pip-version-check --constraint $root/constraints.txt"
$pip torch
$pip "$work"/dist/*.whl
cd "$work"
export WANDB_MODE=offline SUMCIRC_CACHE="$work/cache" GLOO_SOCKET_IFNAME=lo
sumcirc="$work/env/bin/sumcirc"
few="data.sizes.train=8 data.sizes.validation=4 data.sizes.test=4"
brief="$few logger=none trainer.threads=1"
one="trainer.max_steps=1 trainer.batch_size=4 callbacks=none"
$sumcirc train trainer.max_steps=3 data.sizes.train=64 data.sizes.validation=16 data.sizes.test=8 \
  generation.max_new_tokens=16 sweep.name=s run.name=r adaptation=lora
test -s runs/s/r/summary.json
$sumcirc train $one $brief trainer.strategy=ddp trainer.devices=2 evaluation.at_end=false sweep.name=two
$sumcirc train -m $one $brief seed=1,2 evaluation.at_end=false sweep.name=several sweep.jobs=2
$sumcirc evaluate checkpoint=runs/s/r $brief evaluation.bootstrap=100 generation.max_new_tokens=4
$sumcirc circuit checkpoint=runs/s/r $brief circuit.documents=2 circuit.resamples=2 'circuit.sizes=[0.1]'
$sumcirc compare after=runs/s/r $brief compare.items=2 'compare.parts=[mlp]' compare.top=1 compare.random_sets=1
$sumcirc pairs out=pairs.jsonl documents=2 filter=false $few
$sumcirc select selector=middle adaptation.rank=2 $brief
$sumcirc status runs/several
$sumcirc report runs/s/r logger=none
# the wheel is installed without the packages that this verb needs
$sumcirc dashboard runs/s/r 2>error.txt && exit 1
grep -q "pip install 'sumcirc\[dashboard\]'" error.txt
$sumcirc pretrain --help >help.txt
echo "wheel check passed"
