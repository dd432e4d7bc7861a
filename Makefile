# Standard runs. Bare `make` lists them; every target is one command and takes ARGS="...".
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SUMCIRC = $(BIN)/sumcirc
ARGS ?=
# processes that share the tests
JOBS ?= 2
ARMS = selector=first,middle,last,random,circuit,page,all

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow full lora evaluate circuit compare bakeoff bakeoff-rates select report dashboard pretrain status sync watch bench docs check wheel-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/installed  ## make .venv with the pinned versions

demo: setup  ## full fine-tuning and LoRA on the built-in model and data, ends in a table and a page
	$(SUMCIRC) train -m experiment=demo adaptation=full,lora $(ARGS)

test: setup  ## the tests (those marked slow aside), about 15 minutes on two cores
	@echo "about 15 minutes on two idle cores; the time that it took is in the last line"
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist worksteal $(ARGS)

test-slow: setup  ## the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

full: setup  ## fine-tune every parameter
	$(SUMCIRC) train adaptation=full $(ARGS)

lora: setup  ## fine-tune LoRA adapters on all layers
	$(SUMCIRC) train adaptation=lora $(ARGS)

evaluate: setup  ## score a model: make evaluate ARGS="checkpoint=RUN_DIR"
	$(SUMCIRC) evaluate $(ARGS)

circuit: setup  ## the circuit of a model: make circuit ARGS="checkpoint=RUN_DIR"
	$(SUMCIRC) circuit $(ARGS)

compare: setup  ## two models, part by part: make compare ARGS="after=RUN_DIR"
	$(SUMCIRC) compare $(ARGS)

bakeoff: setup  ## where an adapter pays, on the built-in model: seven choices of layers, five seeds
	$(SUMCIRC) train -m experiment=bakeoff_tiny $(ARMS) seed=1,2,3,4,5 sweep.name=bakeoff sweep.jobs=2 $(ARGS)
	$(SUMCIRC) report runs/bakeoff

bakeoff-rates: setup  ## the same choices at three learning rates, on another seed
	$(SUMCIRC) train -m experiment=bakeoff_tiny $(ARMS) adaptation.learning_rate_scale=2.5,5,7.5 seed=11 \
	  data.sizes.test=20 sweep.name=bakeoff-rates sweep.jobs=2 $(ARGS)
	$(SUMCIRC) report runs/bakeoff-rates

report: setup  ## compare the runs of a sweep: make report ARGS="runs/SWEEP"
	$(SUMCIRC) report $(ARGS)

dashboard: setup  ## a W&B workspace and report of a sweep: make dashboard ARGS="runs/SWEEP push=true"
	$(SUMCIRC) dashboard $(ARGS)

select: setup  ## rank layers for LoRA: make select ARGS="selector=page adaptation.budget=98304"
	$(SUMCIRC) select $(ARGS)

pretrain: setup  ## make the built-in model again: make pretrain ARGS="out=FOLDER"
	$(SUMCIRC) pretrain $(ARGS)

status: setup  ## where every run of a sweep stands: make status SWEEP=runs/NAME (else the newest)
	$(SUMCIRC) status $(SWEEP) $(ARGS)

sync: setup  ## upload every offline W&B run under runs/
	find runs -type d -name 'offline-run-*' -prune -print0 | xargs -0 -r $(BIN)/wandb sync $(ARGS)

watch: setup  ## terminal dashboard of the newest run, or of ARGS=RUN_DIR/wandb
	$(BIN)/wandb leet $(or $(ARGS),$(shell ls -td runs/*/*/wandb 2>/dev/null | head -n 1))

bench: setup  ## measure what the README claims about speed; writes benchmarks/results/
	$(BIN)/python benchmarks/run_all.py $(ARGS)

docs: setup  ## these pages as a site: site/index.html
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

check: setup  ## lint, format, types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

wheel-check: setup  ## build the wheel, install it in an empty environment, run sumcirc train there
	PYTHON=$(PYTHON) sh tests/wheel_check.sh

clean:  ## remove the environment and caches, not the runs
	rm -rf $(VENV) dist site .pytest_cache .ruff_cache
