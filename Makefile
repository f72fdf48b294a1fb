# make install | test | demo | lint | bench: everything happens in .venv, made from PYTHON (3.11 to 3.13)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
DEMO := results/demo

.PHONY: install test lint demo bench clean

install: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) --version); try: make PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(READY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# one thread per worker: two workers with two threads each would fight for two cores
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

demo: $(READY)
	@mkdir -p datasets
	@test -f datasets/maze2d-umaze.hdf5 || $(BIN)/aspc-fast data make maze2d-umaze --transitions 100000 --seed 0 \
		--out datasets/maze2d-umaze.hdf5
	$(BIN)/aspc-fast train datasets/maze2d-umaze.hdf5 --steps 20000 --eval-every 2000 --eval-episodes 50 \
		--out $(DEMO) --resume
	@echo "look at $(DEMO)/curve.png; the data itself scores about -2"

bench: $(READY)
	$(BIN)/python -m pytest benchmarks --benchmark-only

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
