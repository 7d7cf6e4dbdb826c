# make run       starts the gateway from a fresh clone; all it needs is Python >= 3.11
# make test      everything that has to be true: lint, types, import contracts, the whole test suite
# make lint      the checks that need no test      make format    rewrites the code in the project's style
# make coverage  the unit tests under coverage.py: make coverage PACKAGE=store
# make fuzz      the property tests with many more examples: make fuzz EXAMPLES=20000
# make chaos     breaks instances and Redis at random under load: make chaos SECONDS=300 SEED=7
# make settings  writes the table of settings in docs/operations.md anew
# make bench     measures, beside its peers: make bench RUNS=5; make bench-peers installs those that aren't here
# make soak      hours of clients in minutes, and whether anything grew: make soak MINUTES=5
# make lock      resolves the lock files anew: make lock LOCK_FLAGS=--upgrade
# make outdated  which pins are behind, and which have a known vulnerability
# make test-313  what CI runs, on Debian 13 with its Python 3.13, in a folder of its own; needs root
# make clean     removes the environments and the caches

# Set PYTHON to choose an interpreter; else those on which the tests are run are looked for first.
PYTHON ?=
PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.11 python3.12 python3.14 python3)
# Without --upgrade only what pyproject.toml demands moves.
LOCK_FLAGS ?=
# Another vulnerability service that speaks OSV's /v1/query, a mirror for one.
OSV_URL ?=

BIN := .venv/bin
COMPILE := .venv-upkeep/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'

# pip, npm, Go and Chromium keep files at home. Where that can't be written to, a folder here takes its place.
ifneq ($(shell probe=$$(mktemp -d "$$HOME/.turnwire-XXXXXX" 2>/dev/null) && rmdir "$$probe" && echo writable),writable)
export HOME := $(CURDIR)/.home
$(shell mkdir -p .home)
endif

.PHONY: run test lint format coverage fuzz settings lock outdated chaos bench bench-peers soak clean prepare test-313 again
.DELETE_ON_ERROR:

run: .venv/.run
	@$(BIN)/turnwire serve

test: .venv/.dev .venv-upkeep/.done prepare
	@$(BIN)/python -m tests.suite

PACKAGE ?=
coverage: .venv/.dev prepare
	@$(BIN)/python -m tests.suite coverage $(PACKAGE)

EXAMPLES ?= 5000
fuzz: .venv/.dev prepare
	@$(BIN)/python -m tests.suite fuzz $(EXAMPLES)

SECONDS ?= 60
SEED ?=
chaos: .venv/.dev prepare
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

RUNS ?= 1
SCENARIOS ?=
bench: .venv/.dev prepare
	$(BIN)/python -m bench --runs $(RUNS) $(SCENARIOS)

bench-peers: .venv-litellm/.done

MINUTES ?= 5
soak: .venv/.dev prepare
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

test-313:
	@tests/debian.sh trixie

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

# Each lock is held to the one before, so that they can be installed on top of each other. The last two are apart.
lock: .venv-upkeep/.done
	$(COMPILE) $(LOCK_FLAGS) --group build -o requirements-build.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml -c requirements-build.lock -o requirements.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --group dev -c requirements-build.lock -c requirements.lock -o requirements-dev.lock
	$(COMPILE) $(LOCK_FLAGS) --group upkeep -o requirements-upkeep.lock
	$(COMPILE) $(LOCK_FLAGS) --group peers -o bench/peers/requirements.lock

outdated: .venv-upkeep/.done
	@.venv-upkeep/bin/python tests/outdated.py $(OSV_URL)

clean:
	rm -rf $(foreach environment,$(ENVIRONMENTS),$(environment) $(environment).installing) .home .coverage .coverage.* coverage.xml htmlcov build dist tests/artifacts
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment holds what its locks say and nothing else: it is made anew where one of them changed, where it was moved
# here, another PYTHON is asked for, its own is gone, or its installation was interrupted. NAME.installing, with the
# process of the make that installs, is there meanwhile; NAME/.created says where it was made, and with which Python.
.venv/.created: requirements-build.lock requirements.lock requirements-dev.lock
.venv-upkeep/.created: requirements-upkeep.lock
.venv-litellm/.created: bench/peers/requirements.lock

ENVIRONMENTS := .venv .venv-upkeep .venv-litellm
usable = $(shell test ! -e $(1).installing && cd $(1) 2>/dev/null && { read -r place; read -r python; } < .created && \
	test "$$place" = "$$(pwd -P)" && test "$(or $(PYTHON),$$python)" = "$$python" && bin/python -c '' 2>/dev/null && echo yes)
$(foreach environment,$(ENVIRONMENTS),$(if $(wildcard $(environment)/.created),\
	$(if $(call usable,$(environment)),,$(eval $(environment)/.created: again))))

$(ENVIRONMENTS:=/.created):
	@owner=$$(cat $(@D).installing 2>/dev/null); \
	if [ -z "$$owner" ] && [ -e $(@D) ] && [ ! -e $@ ]; then \
		echo "$(@D) is here and was not made by make: move it away, or delete it, and run make again." >&2; \
		exit 1; \
	elif [ -n "$$owner" ] && { cat "/proc/$$owner/comm" || ps -p "$$owner" -o comm=; } 2>/dev/null | grep -q make; then \
		echo "Another make, process $$owner, installs into $(@D): wait for it. If there is none, delete $(@D).installing." >&2; \
		exit 1; \
	fi; \
	[ -z "$$owner" ] || rm -f $(@D).installing; \
	(set -C; echo $$PPID > $(@D).installing) 2>/dev/null || { echo "Another make began just now: wait for it." >&2; exit 1; }
	@found=; bare=; \
	for python in $(PYTHONS); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
		bare=$$python; \
	done; \
	if [ -n "$$found" ]; then \
		echo "Creating $(@D) with $$("$$found" --version)"; \
		"$$found" -m venv --clear $(@D) && cd $(@D) && { pwd -P; echo "$$found"; } > .created; \
	elif [ -n "$$bare" ]; then \
		rm -f $(@D).installing; \
		echo "$$bare can't create a virtual environment: its ensurepip is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	else \
		rm -f $(@D).installing; \
		echo "Turnwire needs Python 3.11 or newer; tried: "$(PYTHONS)"." >&2; \
		echo "Install one, or say where it is: make PYTHON=/path/to/python3 run" >&2; \
		exit 1; \
	fi

# pip looks up neither dependencies (the extra of one, `coverage[toml]`, it would resolve anew) nor what a source is built
# with. `pip check` then finds what the locks lack.
PIP = $(@D)/bin/python -m pip --disable-pip-version-check --no-input
install_lock = @echo "Installing $(1) into $(@D)"; echo $$PPID > $(@D).installing; \
	$(PIP) -q install --no-deps --require-hashes --no-build-isolation --use-pep517 -r $(1) || { \
		proxy=$${HTTPS_PROXY:-$${https_proxy:-$${ALL_PROXY:-$${all_proxy:-}}}}; \
		echo "The packages of $(1) could not be installed; pip says above why. If it found no index: is there a" >&2; \
		echo "network$${proxy:+, and does the proxy $$proxy lead to it}? Then run make again." >&2; \
		exit 1; }
finish = @checked=$$($(PIP) check) || { echo "$$checked" >&2; echo "The locks don't hold together: run make lock." >&2; exit 1; }; \
	rm -f $(@D).installing; touch $@

.venv/.run: .venv/.created pyproject.toml
	$(call install_lock,requirements-build.lock)
	$(call install_lock,requirements.lock)
	@$(PIP) -q install --no-deps --no-build-isolation --editable .
	$(finish)

.venv/.dev: .venv/.run
	$(call install_lock,requirements-dev.lock)
	$(finish)

.venv-upkeep/.done: .venv-upkeep/.created
	$(call install_lock,requirements-upkeep.lock)
	$(finish)

.venv-litellm/.done: .venv-litellm/.created
	$(call install_lock,bench/peers/requirements.lock)
	$(finish)
