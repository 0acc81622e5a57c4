# make run · make test · make quick · make check · make fuzz · make pictures · make bench · make gpu · make torture
# make dist · make container
# Needs Python 3.10 or newer and make; everything else goes into .venv, the first time.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST = $(BIN)/python -m pytest --durations=10
# tests wait for about a third of their time, so there may be more of them than cores
IN_PROCESSES = --dist=loadgroup --numprocesses=$(shell $(BIN)/python -c 'import os; print(min(8, $(1) + (os.cpu_count() or 1)))')

.PHONY: run link test quick check fuzz pictures bench gpu torture dist container clean

run: $(VENV)/installed link
	@$(BIN)/cifartui $(ARGS)

# lets the shell find the command, where ~/.local/bin is on the PATH and nothing of that name is in the way
link:
	@command="$$(cd '$(BIN)' && pwd)/cifartui"; link="$$HOME/.local/bin/cifartui"; \
	if ! command -v cifartui > /dev/null && [ ! -L "$$link" ] && [ ! -e "$$link" ]; then \
	  case ":$$PATH:" in *":$$HOME/.local/bin:"*) \
	    mkdir -p "$$HOME/.local/bin" && ln -s "$$command" "$$link" && echo "Made the link $$link to $$command." ;; \
	  esac; \
	fi; \
	[ "$$(command -v cifartui)" -ef "$$command" ] \
	  || echo "The shell does not find this cifartui by its name: where it says cifartui, type $$command"

# 5: nothing of what ARGS names is in this part
test: $(VENV)/installed-dev
	$(PYTEST) $(call IN_PROCESSES,2) -m "not alone" $(ARGS) || [ $$? -eq 5 ]
	$(PYTEST) -m alone $(ARGS) || [ $$? -eq 5 ]

# all that is elsewhere is slow, and to read it alone takes seconds
quick: $(VENV)/installed-dev
	$(PYTEST) $(call IN_PROCESSES,0) -m "not (slow or alone)" $(if $(findstring tests/,$(ARGS)),,tests/unit) $(ARGS)

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m tests.fuzz $(ARGS)

pictures: $(VENV)/installed-dev
	$(BIN)/python docs/pictures.py $(ARGS)

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.engine_speed
	$(BIN)/python -m benchmarks.accuracy basenet --seeds 3
	$(BIN)/python -m benchmarks.frozen
	$(BIN)/python -m benchmarks.dashboard

gpu: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.gpu $(ARGS)

torture: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.torture $(ARGS)

dist:
	bash .ci/build-dist
	bash .ci/install-wheel

container:
	bash containers/build

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "cifartui needs Python 3.10 or newer; name one: make run PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Ubuntu: apt install python3-venv"; exit 2; }

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV): this fetches torch and takes some minutes, once."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed
