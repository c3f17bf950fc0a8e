# `make help` lists the targets. A fresh machine needs python3 (3.11 to 3.13) and make, nothing else.

PYTHON ?= python3
VENV ?= .venv
# Tests that run at the same time; those with a Docker engine run one after the other.
WORKERS ?= 2
RESULTS := build/tests

PY := $(VENV)/bin/python
# Tools that call other tools find them, whether or not the environment is activated.
export PATH := $(abspath $(VENV)/bin):$(PATH)

# The tests fork to start programs as another user; gRPC's handlers of a fork would run in the child and disturb it.
export GRPC_ENABLE_FORK_SUPPORT := false

.DEFAULT_GOAL := help
.PHONY: s3 openapi help setup demo test lint format types layers generated buf pytest protos docs images services chaos soak engine engine-stop bench lock clean javascript

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make the virtual environment (VENV=.venv), pinned and hashed; quick when nothing changed
	@$(PYTHON) tools/setup.py $(VENV)

demo: setup ## server, gateway and three hospitals, one federated regression (KEEP=1 leaves it running, RUNTIME=sandbox)
	@[ "$(RUNTIME)" = sandbox ] || $(PYTHON) tools/engine.py || echo "demo: going on with the sandbox runtime"
	@$(MAKE) --no-print-directory images
	@$(PY) examples/demo/demo.py

test: lint types layers generated buf pytest ## everything: lint, types, layers, generated code, buf, then all tests

pytest: setup javascript s3 images ## all tests (parts that are missing skip theirs, unless VANTAGE6_REQUIRE=engine,envoy,… names them)
	@mkdir -p $(RESULTS) && rm -f $(RESULTS)/*.xml
	@status=0; \
	$(PY) -m pytest -m "not engine" -n $(WORKERS) --dist loadgroup --junitxml=$(RESULTS)/parallel.xml || status=$$?; \
	$(PY) -m pytest -m engine --junitxml=$(RESULTS)/engine.xml || { code=$$?; [ $$code = 5 ] || status=$$code; }; \
	exit $$status

chaos: setup images ## all faults at all points, with their table in docs/chaos.md (the short form is in `make test`)
	@rm -rf build/chaos
	@VANTAGE6_CHAOS=long VANTAGE6_STORIES=300 $(PY) -m pytest tests/chaos tests/server/test_delivery_machine.py \
	  -n $(WORKERS) --dist loadgroup
	@$(PY) -m tests.chaos.table

soak: setup ## ten minutes of attacks on one node with a Docker engine, and what is left of it then (build/soak.json)
	@VANTAGE6_SOAK=600 $(PY) -m pytest -q tests/node/test_soak.py

javascript: ## the packages of what is written in JavaScript, where there is a Node.js
	@if command -v npm > /dev/null; then for folder in tests/js/envelope examples/algorithms/average-js; do \
	  (cd $$folder && { cmp -s package-lock.json node_modules/.installed || \
	  { npm ci --silent --no-audit --no-fund && cp package-lock.json node_modules/.installed; }; }) || exit 1; done; \
	else echo "javascript: no npm here; the tests that need it are skipped"; fi

s3: setup ## an S3-compatible server to test blob stores against, apart from our own packages
	@cmp -s requirements/s3.txt build/s3/installed.txt || { mkdir -p build && rm -rf build/s3 && \
	$(VENV)/bin/uv pip install --quiet --python $(PY) --target build/s3 --require-hashes -r requirements/s3.txt && \
	cp requirements/s3.txt build/s3/installed.txt; }

lint: setup ## ruff: rules and format
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet . || { echo "not formatted; run: make format"; exit 1; }

format: setup ## ruff: mend what can be mended
	@$(PY) -m ruff check --fix --quiet . || true
	@$(PY) -m ruff format .

types: setup ## mypy (strict) and pyright
	@$(PY) -m mypy
	@$(VENV)/bin/pyright --warnings

layers: setup ## import-linter: which package may import which
	@$(VENV)/bin/lint-imports --no-cache

generated: setup ## is the checked-in generated code that of protos/?
	@$(PY) tools/protos.py --check

buf: generated ## buf: style of the contract
	@$(VENV)/bin/buf lint

protos: setup ## make the generated code from protos/
	@$(PY) tools/protos.py

docs: setup ## what is written by machine in docs/: commands, settings, the table of attacks
	@$(PY) -m tools.reference
	@$(PY) tools/attacks.py

openapi: setup ## the OpenAPI description, as the server serves it, in build/openapi.json
	@mkdir -p build && $(PY) -c "from vantage6.server.openapi import document_bytes as d; open('build/openapi.json', 'wb').write(d())"

images: setup javascript ## the algorithm images, for Docker and for the sandbox, without a registry
	@$(PY) tools/images.py
	@$(PY) tools/languages.py

services: setup ## the images of node, server and gateway, in the Docker engine, without a registry
	@$(PY) -m tools.services

engine: ## make sure of a Docker engine: the running one, else Debian's (as root)
	@$(PYTHON) tools/engine.py

engine-stop: ## stop the engine that `make engine` or `make demo` started
	@$(PYTHON) tools/engine.py stop

bench: setup ## measure what the design promises
	@$(PY) benchmarks/run.py

lock: setup ## pin the newest allowed versions in requirements/dev.txt
	@$(VENV)/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade --output-file requirements/dev.txt

clean: ## remove what was built, and the virtual environment (not a running engine)
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 -not -name engine -exec rm -rf {} +; fi
	@rm -rf dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	@if [ -f $(VENV)/pyvenv.cfg ]; then rm -rf $(VENV); fi
