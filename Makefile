PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

unexport PYTHONDONTWRITEBYTECODE  # compiling all modules in every process of the tests takes longer than they do

.PHONY: demo station test check lint types layers reference fast format docs dist clean

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "blemish needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,encoders,station,camera,opcua,openvino,parquet,fleet,dev]'
	@touch $@

demo: $(VENV)/.ready  ## train and evaluate on synthetic hazelnuts
	$(BIN)/python scripts/demo.py $(DEMO)

station: $(VENV)/.ready  ## a station that judges drawn hazelnuts, on http://127.0.0.1:8742/
	$(BIN)/python scripts/station.py $(DEMO)

check: $(VENV)/.ready  ## format, lint, types, layers, fast tests, docs
	@$(MAKE) --jobs 2 --no-print-directory lint types layers reference
	$(BIN)/pytest -n auto --dist loadscope -m 'not slow and not data'

lint: $(VENV)/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

layers: $(VENV)/.ready
	$(BIN)/lint-imports

reference: $(VENV)/.ready
	$(BIN)/python scripts/docs.py --check

test: check  ## everything in check, then the slow and the data tests, and properties on four times the examples
	$(BIN)/pytest -n auto --dist loadscope -m 'slow or data or hypothesis' --hypothesis-profile thorough

fast: $(VENV)/.ready
	$(BIN)/pytest -m 'not slow and not data' -x -q

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.ready  ## write docs/reference/ and docs/architecture.md again, build the site in build/site
	$(BIN)/python scripts/docs.py
	$(BIN)/zensical build --strict --clean
	$(BIN)/python scripts/docs.py --site build/site

dist: $(VENV)/.ready  ## sdist and wheel, checked; what they depend on (SBOM) and under which licences
	rm -rf dist build/wheel
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[release]'
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/check-wheel-contents --ignore W002 dist/*.whl
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/pip install --quiet dist/*.whl
	build/wheel/bin/blemish doctor build
	$(BIN)/python scripts/wheel.py dist/*.whl
	$(BIN)/cyclonedx-py environment build/wheel/bin/python -o dist/blemish.cdx.json
	$(BIN)/python scripts/licences.py dist/LICENCES.md build/wheel/bin/python
	ls -l dist

clean:
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
