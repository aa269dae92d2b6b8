# Needs Python 3.10 or later and make; everything else goes into .venv.
# Another Python: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_FLAGS ?= -n 2
# What runs pytest as a module: make test-all RUNNER="coverage run -m"
RUNNER ?=
# How many seeds, and the first one.
FUZZ ?= 2000 0

.PHONY: help reference compat release-check traceloop demo serve load drill test test-all soak fuzz versions sdk-matrix bench bench-body lint format docs dist clean
help:
	@echo "make demo    run the example order system, send it orders, check and print the traces"
	@echo "make serve   run the example order system until Ctrl-C"
	@echo "make load    drive load on the example order system (LOAD='--orders 2000 --kills 5', '--workers 2 --compare')"
	@echo "make drill   the same on Kafka, Redis Cluster, MariaDB, Consul and Envoy, which are killed meanwhile (LOAD='--seconds 600 --kills 60')"
	@echo "make test    run the tests, but for the slow ones (minutes)"
	@echo "make test-all  run all tests, as CI does (a quarter of an hour)"
	@echo "make bench   measure against the peers, write benchmarks/RESULTS.md (needs wrk; BENCH=--quick: a glance)"
	@echo "make soak    a million buffers, 64 uploads at once, 100,000 requests (minutes)"
	@echo "make bench-body  measure what keeping bodies costs, write benchmarks/RESULTS-body.md"
	@echo "make fuzz    2,000 raw requests to each of five servers, compared with stock Flask (FUZZ='2000 0')"
	@echo "make versions  the tests on the oldest and the newest versions of what is needed, on each Python there is"
	@echo "make sdk-matrix  the same requests on several releases of OpenTelemetry's SDK"
	@echo "make traceloop  requests with Traceloop's SDK set up before the extension and after it"
	@echo "make lint    ruff and mypy --strict"
	@echo "make format  let ruff rewrite the code"
	@echo "make dist    build sdist and wheel, check them, run the README's example from the wheel"
	@echo "make compat  the suites of twelve public Flask extensions, with the extension on every application (minutes)"
	@echo "make reference  write what the code knows into the reference's pages"
	@echo "make release-check  everything that a release must pass, and what is left to do by hand (RELEASE=quick: without versions and compat)"
	@echo "make docs    build the documentation site into build/site/; warnings are errors"
	@echo "make clean   remove the environment and every cache"

demo: $(VENV)/.example
	$(BIN)/python -m example_app --demo

serve: $(VENV)/.example
	$(BIN)/python -m example_app

load: $(VENV)/.example
	$(BIN)/python -m example_app --load $(LOAD)

drill: $(VENV)/.test
	$(BIN)/python -m tests.example_app.drill $(LOAD)

test: $(VENV)/.test
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow"

test-all: $(VENV)/.test
	$(BIN)/python -m $(RUNNER) pytest $(PYTEST_FLAGS)

# The peers get an environment of their own: what they pull in is nothing the package needs.
bench: .bench-venv/.bench .hypertrace-venv/.hypertrace
	.bench-venv/bin/python -m benchmarks $(BENCH)

bench-body: .bench-venv/.bench
	.bench-venv/bin/python -m benchmarks.body $(BENCH)

soak: $(VENV)/.test
	BODYTRACE_SOAK=1 $(BIN)/python -m pytest tests/body/test_pool.py tests/body/test_memory.py -s

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz $(FUZZ)

versions: $(VENV)/.dev
	$(BIN)/python -m nox --reuse-existing-virtualenvs

dist: $(VENV)/.dev
	PYTHON=$(BIN)/python bash .ci/smoke

release-check: $(VENV)/.dev
	PYTHON=$(BIN)/python bash .ci/release

sdk-matrix: $(VENV)/.test
	$(BIN)/python -m tests.otel.matrix .sdk-matrix

.bench-venv/.bench: benchmarks/requirements.txt setup.cfg
	$(MAKE) --no-print-directory VENV=.bench-venv .bench-venv/.env
	.bench-venv/bin/python -m pip install -qq --disable-pip-version-check -e . -r benchmarks/requirements.txt
	@touch $@

# Hypertrace pins OpenTelemetry's releases of 2023.
.hypertrace-venv/.hypertrace: benchmarks/requirements-hypertrace.txt
	$(MAKE) --no-print-directory VENV=.hypertrace-venv .hypertrace-venv/.env
	.hypertrace-venv/bin/python -m pip install -qq --disable-pip-version-check -r benchmarks/requirements-hypertrace.txt
	@touch $@

compat: .compat-venv/.compat
	.compat-venv/bin/python -m tests.compat $(COMPAT)

.compat-venv/.compat: tests/compat/requirements.txt setup.cfg
	$(MAKE) --no-print-directory VENV=.compat-venv .compat-venv/.env
	.compat-venv/bin/python -m pip install -qq --disable-pip-version-check -e . -r tests/compat/requirements.txt
	@touch $@

traceloop: .traceloop-venv/.traceloop
	.traceloop-venv/bin/python -m tests.traceloop

.traceloop-venv/.traceloop: tests/traceloop/requirements.txt setup.cfg
	$(MAKE) --no-print-directory VENV=.traceloop-venv .traceloop-venv/.env
	.traceloop-venv/bin/python -m pip install -qq --disable-pip-version-check -e . -r tests/traceloop/requirements.txt
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variable silences an announcement of the theme's authors on stderr; nothing else.
docs: .docs-venv/.docs
	NO_MKDOCS_2_WARNING=1 .docs-venv/bin/python -m mkdocs build --strict --clean

reference: $(VENV)/.test
	$(BIN)/python docs/generate.py

# An environment of its own: MkDocs brings watchdog, and with it Flask's reloader in the tests would
# watch whatever lies beside the checkout.
.docs-venv/.docs: setup.cfg
	$(MAKE) --no-print-directory VENV=.docs-venv .docs-venv/.env
	.docs-venv/bin/python -m pip install -qq --disable-pip-version-check -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .bench-venv .hypertrace-venv .docs-venv .compat-venv .traceloop-venv build dist .sdk-matrix .nox .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.*

# One stamp for each extra of setup.cfg: installed again only when what it depends on was changed.
$(VENV)/.example $(VENV)/.test $(VENV)/.dev: $(VENV)/.%: $(VENV)/.env setup.cfg pyproject.toml
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[$*]'
	@touch $@

# Debian ships Python without ensurepip (package python3-venv): then the system's pip, which may not
# install globally (PEP 668) but may install into an environment, puts pip there.
$(VENV)/.env:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "make: no '$(PYTHON)' on PATH. Install Python 3.10 or later, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: flask_bodytrace needs Python 3.10 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@{ $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 && $(BIN)/python -m pip --version >/dev/null 2>&1; } \
	  || { $(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install -qq pip; } \
	  || { echo "make: $(PYTHON) can make no environment with pip in it. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@# Older pips take minutes to find versions that fit together.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade pip || true
	@touch $@
