# `make demo` and `make test` set up whatever is missing first; every later run skips what is there.
PYTHON ?=
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help setup gl demo test lint bench bench-peers docs clean
help:
	@echo "make setup   virtual environment, packages, GL libraries (done by the others where needed)"
	@echo "make demo    from nothing to a policy practised in a new scene, and a report (minutes)"
	@echo "make test    the tests         make lint    ruff and mypy"
	@echo "make bench   speeds            make docs    docs/results.md, docs/agents.md"
	@echo "make bench-peers  our agents and hindsight beside other libraries' (installed into .peers)"
	@echo "make clean   remove what make made; runs/ stays"

setup: gl $(VENV)/.installed

# Checked every time: it takes a tenth of a second, and the libraries are the system's, not ours.
gl:
	@scripts/setup_gl.sh

$(VENV)/.installed: pyproject.toml constraints.txt
	@PYTHON=$(PYTHON) scripts/setup_venv.sh $(VENV)
	@touch $@

demo: setup
	$(BIN)/imagoal demo $(ARGS)

test: setup
	$(BIN)/python -m pytest $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python -m benchmarks.bench $(ARGS)

bench-peers: setup
	$(BIN)/python -m pip install -q --no-deps --target .peers -r benchmarks/peers.txt
	PYTHONPATH=.peers $(BIN)/python -W ignore -m benchmarks.bench --peers $(ARGS)

docs: setup
	$(BIN)/python -m imagoal.results
	$(BIN)/python -m imagoal.agents_page

clean:
	rm -rf $(VENV) .peers build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path "./.git/*" -prune -exec rm -rf {} +
