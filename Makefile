# Everything runs in .venv, which `make` sets up by itself. Python 3.11 to 3.13 is all that must be there.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
  $$p -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PHOTOS ?=
# Installing compiles the hot loops of search, so it is done again when they change.
INSTALLED_FROM := pyproject.toml constraints.txt hatch_build.py $(wildcard src/imagelake/search/c/*.c)

.PHONY: demo test check bench docs format clean

demo: $(VENV)/demo
	$(BIN)/imagelake demo --out demo $(if $(PHOTOS),--photos "$(PHOTOS)")

test: $(VENV)/dev $(VENV)/kserve/ready
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo "No browser: the page is not tested. Install the Debian package chromium to test it."
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(VENV)/dev
	$(BIN)/python benchmarks/run_all.py

docs: $(VENV)/dev
	$(BIN)/mkdocs build --strict

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) demo site .mypy_cache .pytest_cache .ruff_cache

# What the demo needs is less than what the tests need, so a new user waits less.
$(VENV)/demo: $(INSTALLED_FROM) | $(VENV)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo]"
	@touch $@

$(VENV)/dev: $(INSTALLED_FROM) | $(VENV)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@# The first GraphPipe client, as it was in 2018: it names libraries of that year, and runs with those of today.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps graphpipe==1.0.4
	@touch $@ $(VENV)/demo

# A client of KServe, unchanged: it wants other versions of libraries than the tests, so it lives apart.
$(VENV)/kserve/ready: Makefile | $(VENV)/python
	$(BIN)/python -m venv $(VENV)/kserve
	$(VENV)/kserve/bin/python -m pip install --quiet --disable-pip-version-check kserve==0.21.0
	@touch $@

$(VENV)/python:
	@test -n "$(PYTHON)" || { echo "imagelake needs Python 3.11, 3.12 or 3.13; install one or say: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
