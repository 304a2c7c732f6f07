# Every target sets up what it needs; a machine with Python >= 3.11 is enough for demo and test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test serve lint bench fuzz soak mutants integration browser docs site clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m compileall -q cards cds fhir_mapping
	@touch $@

$(VENV)/.lint: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint]'
	@touch $@

medplum := tests/integration/medplum/node_modules/.package-lock.json
$(medplum): tests/integration/medplum/package-lock.json
	npm ci --prefix tests/integration/medplum --no-audit --no-fund --loglevel=error

integration: $(STAMP) $(medplum)
	$(BIN)/python -m pytest tests/integration

demo: $(STAMP)
	$(BIN)/python -m cds.cli.demo

WORKERS ?= 2
test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup

serve: $(STAMP)
	$(BIN)/tcell-cds serve

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/yamllint --strict deploy mkdocs.yml
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes.yaml

site: $(VENV)/.lint
	$(BIN)/zensical build --strict

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

FUZZ_COUNT ?= 100000
FUZZ_SEED ?= 1
fuzz: $(STAMP)
	$(BIN)/python -m fuzz.run --count $(FUZZ_COUNT) --seed $(FUZZ_SEED)

SOAK_MINUTES ?= 10
SOAK_RATE ?= 0
soak: $(STAMP)
	$(BIN)/python -m fuzz.soak --minutes $(SOAK_MINUTES) --rate $(SOAK_RATE)

MUTANTS ?= *
mutants: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt mutmut==3.8.1
	$(BIN)/mutmut run --max-children 2 'cds.rules.grading.$(MUTANTS)'

browser: $(VENV)/.browser
	$(BIN)/python -m pytest tests/browser

$(VENV)/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,browser]'
	npm install --prefix tests/browser --no-save --no-package-lock --no-audit --no-fund --loglevel=error axe-core@4.14.1
	@touch $@

docs: $(STAMP)
	$(BIN)/python -m cds.docs

clean:
	rm -rf $(VENV) build dist site .cache *.egg-info
