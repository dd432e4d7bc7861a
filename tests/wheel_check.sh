#!/bin/sh
# Build the wheel, install it into an empty environment outside the checkout, and train there.
set -eu
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"${PYTHON:-python3}" -m venv "$work/env"
pip="$work/env/bin/pip install --quiet --disable-pip-version-check --constraint $root/constraints.txt"
$pip torch
$pip "$work"/dist/*.whl
cd "$work"
WANDB_MODE=offline SUMCIRC_CACHE="$work/cache" "$work/env/bin/sumcirc" train trainer.max_steps=3 \
  data.sizes.train=64 data.sizes.validation=16 data.sizes.test=8 generation.max_new_tokens=16
test -s runs/*/*/summary.json
echo "wheel check passed"
