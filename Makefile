# Everything needs only git, make and Python >= 3.11; `make` sets up .venv by itself.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

##@ Start here
demo: $(READY) ## Play the main journey on real DICOM files, verifying each step; KEEP=1: forty cases to click through
	$(BIN)/python -m $(if $(KEEP),demo.living,demo)

test: $(READY) ## Run the tests (T=path picks some)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not drill and not demo" $(T)

up: $(READY) ## Start the whole system on embedded servers (DATA=folder, ADMIN=login, PORTS=8400 or any, STRICT=1)
	$(BIN)/python -m local --data "$(or $(DATA),data)" --first-admin "$(or $(ADMIN),admin)" $(if $(PORTS),--ports "$(PORTS)") $(if $(STRICT),--strict)

##@ Quality
check: $(READY) ## Lint, types, import contracts, generated code, migrations, rows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/python -m tests.generated --check
	$(BIN)/python -m tests.assets --check
	$(BIN)/python -m tests.migrations --check
	$(BIN)/python -m pytest -q --rows >/dev/null

rows: $(READY) ## Print which rows of docs/requirements.md are proven
	@$(BIN)/python -m pytest -q --rows

chart: $(READY) ## Render the Helm chart in every profile, by Helm 4 and 3, and look for mistakes
	test -d .venv/helm || .ci/chart .venv/helm
	$(BIN)/uv sync --frozen --inexact --quiet --all-extras --group chart
	$(BIN)/python -m pytest -q -n 2 -m "drill or not drill" tests/chart

drill: $(READY) ## Long drills: kills and power cuts (root for the power cuts)
	$(BIN)/python -m pytest -q -m drill $(T)

fuzz: $(READY) ## Look for filters and for objects of hospitals that nobody expects (MINUTES=10 each; CPython 3.11 on Linux)
	$(BIN)/uv sync --frozen --inexact --quiet --all-extras --group fuzz
	nice -n 19 $(BIN)/python -m tests.ingest.fuzzing --minutes $(or $(MINUTES),10)
	nice -n 19 $(BIN)/python -m tests.access.filter.fuzzing --minutes $(or $(MINUTES),10)

bench: $(READY) ## Measure side by side with the peers (B=P1 picks one)
	$(BIN)/python -m bench $(B)

format: $(READY) ## Rewrite the code in the project's format
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

proto: $(READY) ## Generate wire/ from protos/ and docs/facts/ from the facts
	$(BIN)/python -m tests.generated

ui: $(READY) ## Build the script of the pages from ui/elements (needs npm)
	$(BIN)/python -m tests.assets

migrations: $(READY) ## Add the checksums of new migrations to migrations.lock
	$(BIN)/python -m tests.migrations

##@ Set-up
setup: $(READY) ## Make .venv with the locked dependencies

viewer: ## Fetch the viewer, OHIF, into viewer/ (needs npm; FROM=FILE.tgz takes a package that you have)
	.ci/viewer viewer $(FROM)

debian: ## Install the peers and tools that some tests and the bench use (root, Debian)
	apt-get update
	apt-get install -y --no-install-recommends chromium fonts-dejavu-core dcmtk orthanc orthanc-dicomweb strace e2fsprogs util-linux
	command -v npm >/dev/null || apt-get install -y --no-install-recommends npm

clean: ## Remove .venv and caches
	rm -rf .venv viewer ui/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .ci/uv.txt
	$(BIN)/uv sync --frozen --inexact --quiet --all-extras --compile-bytecode
	touch $@

.PHONY: demo test up check rows chart drill fuzz bench format proto ui migrations setup viewer debian clean help
