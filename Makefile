# make run    starts the gateway from a fresh clone; all it needs is Python >= 3.11
# make test   everything that CI runs: lint, types, import contracts, tests with coverage
# make lint   the checks that need no test      make format  rewrites the code in the project's style
# make chaos  breaks instances and Redis at random under load: make chaos SECONDS=300 SEED=7
# make settings  writes the table of settings in docs/operations.md anew
# make bench  measures, beside its peers: make bench RUNS=5; make bench-peers installs those that aren't here
# make soak   hours of clients in minutes, and whether anything grew: make soak MINUTES=5
# make lock   resolves the lock files anew      make clean   removes the environment and the caches

# Set PYTHON to choose an interpreter; otherwise the newest one that will do is taken.
PYTHON ?=
PYTHONS := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)
UV ?= uv
# `make lock LOCK_FLAGS=--upgrade` moves every pin; without it only what pyproject.toml demands moves.
LOCK_FLAGS ?=

BIN := .venv/bin
# What the locks say and nothing else: pip looks up neither dependencies (the extra of one, `coverage[toml]`, it would
# resolve anew) nor what a source is built with. `pip check` then finds what a lock lacks.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -q
INSTALL_LOCKED := $(PIP) install --no-deps --require-hashes --no-build-isolation --use-pep517
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' $(LOCK_FLAGS)

.PHONY: run test lint format settings lock chaos bench bench-peers soak clean prepare
.DELETE_ON_ERROR:

run: .venv/.run
	@$(BIN)/turnwire serve

# Three runs, and all are seen, whichever fails: coverage is the unit tests' own, and real processes run at their real
# speed. Most end-to-end tests wait nearly all the time, so that two cores have room for four; not those that are timed.
test: lint prepare
	@$(BIN)/pytest tests/unit tests/test_*.py -n 2 --dist loadfile --cov; units=$$?; \
	$(BIN)/pytest tests/e2e -m "not timed" -n 4 --dist loadfile; waiting=$$?; \
	$(BIN)/pytest tests/e2e -m timed -n 2 --dist loadfile && exit $$((units | waiting))

SECONDS ?= 60
SEED ?=
chaos: .venv/.dev prepare
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

RUNS ?= 1
SCENARIOS ?=
bench: .venv/.dev prepare
	$(BIN)/python -m bench --runs $(RUNS) $(SCENARIOS)

# A peer has an environment of its own: what it needs is not ours to lock.
bench-peers: .venv/.created .venv-litellm/.installed

.venv-litellm/.installed:
	$(BIN)/python -m venv --clear .venv-litellm
	.venv-litellm/bin/python -m pip install --disable-pip-version-check --no-input -q "litellm[proxy]"
	@touch $@

MINUTES ?= 5
soak: .venv/.dev prepare
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

# Redis, nginx, Chromium, Go, Node and curl, for the tests that run them.
prepare:
	@tests/prepare.sh

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

settings: .venv/.dev
	$(BIN)/python -m tests.settings_table

# Each lock is held to the one before, so that they can be installed on top of each other.
lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: install it, or say where it is with UV=" >&2; exit 1; }
	$(COMPILE) --group build -o requirements-build.lock
	$(COMPILE) pyproject.toml -c requirements-build.lock -o requirements.lock
	$(COMPILE) pyproject.toml --group dev -c requirements-build.lock -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .venv-litellm .coverage .coverage.* coverage.xml htmlcov build dist tests/artifacts
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an interrupted step is done again and a finished one costs nothing.
.venv/.created:
	@found=; bare=; \
	for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
		bare=$$python; \
	done; \
	if [ -n "$$found" ]; then \
		echo "Creating .venv with $$("$$found" --version)"; \
		"$$found" -m venv --clear .venv; \
	elif [ -n "$$bare" ]; then \
		echo "$$bare can't create a virtual environment: its ensurepip is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	else \
		echo "Turnwire needs Python 3.11 or newer; tried: $(PYTHONS)." >&2; \
		echo "Install one, or say where it is: make PYTHON=/path/to/python3 run" >&2; \
		exit 1; \
	fi
	@touch $@

.venv/.run: .venv/.created requirements.lock requirements-build.lock pyproject.toml
	@echo "Installing Turnwire into .venv"
	@$(INSTALL_LOCKED) -r requirements-build.lock
	@$(INSTALL_LOCKED) -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(PIP) check
	@touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	@echo "Installing the development tools into .venv"
	@$(INSTALL_LOCKED) -r requirements-dev.lock
	@$(PIP) check
	@touch $@
