# make run       starts the gateway from a fresh clone; it requires only Python >= 3.11
# make dev       the same, and starts it again when the code, .env or another settings file changes
# make redis-cli opens redis-cli on the Redis of the settings: make redis-cli ARGS="INFO memory"
# make db-shell  opens sqlite3 on the SQLite file of the settings: make db-shell ARGS="'SELECT count(*) FROM messages'"
# make test      runs all checks: lint, types, import contracts, the whole test suite
# make lint      runs the static checks            make format    formats the code
# make coverage  runs the unit tests under coverage.py: make coverage PACKAGE=store
# make fuzz      runs the property tests with many more examples: make fuzz EXAMPLES=20000
# make chaos     injects failures of instances, Redis and the archive at random under load: make chaos SECONDS=300 SEED=7 CLUSTER=1 ARCHIVE=0
# make docs      builds the site of the documents in site/, with a search, and checks all links; the gateway serves it at /docs/guide
# make settings  regenerates the table of settings in docs/operations.md, .env.example, docs/schema.md, and what /docs says of fields
# make bench     measures the gateway and its peers: make bench RUNS=5; make bench-peers installs LiteLLM's proxy, and measures it beside the gateway
# make soak      runs hours of client activity in minutes, and fails if memory or handles grow: make soak MINUTES=5
# make lock      regenerates the lock files: make lock LOCK_FLAGS=--upgrade
# make outdated  lists the pins that are outdated, and those with a known vulnerability
# make test-313  runs the CI steps on Debian 13 with its Python 3.13, in a separate folder; requires root
# make image-steps  runs the steps of the Dockerfile on Debian 13, without Docker, and starts its command; requires root
# make clean     removes the environments and the caches

# PYTHON selects the interpreter. The default is the first that is found; versions that the tests run on come first.
PYTHON ?=
PYTHONS := $(if $(PYTHON),"$(PYTHON)",python3.13 python3.11 python3.12 python3.14 python3)
# Without --upgrade, a pin changes only if pyproject.toml requires it.
LOCK_FLAGS ?=
# URL of another vulnerability service with OSV's /v1/query API, such as a mirror.
OSV_URL ?=

BIN := .venv/bin
COMPILE := .venv-upkeep/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock'

# pip, npm, Go and Chromium keep files in the home folder. If it isn't writable, use a folder in the checkout.
ifneq ($(shell probe=$$(mktemp -d "$$HOME/.turnwire-XXXXXX" 2>/dev/null) && rmdir "$$probe" && echo writable),writable)
export HOME := $(CURDIR)/.home
$(shell mkdir -p .home)
endif

.PHONY: run dev redis-cli db-shell test lint format coverage fuzz settings lock outdated chaos bench bench-peers soak clean prepare test-313 image-steps docs FORCE
.DELETE_ON_ERROR:

run: .venv/.run
	@$(BIN)/turnwire serve

dev: .venv/.run
	@$(BIN)/python -m tests.dev_server

ARGS ?=
redis-cli db-shell: .venv/.run
	@$(BIN)/python -m tests.store_shell $@ $(ARGS)

test: .venv/.dev .venv-upkeep/.done .venv-clients/.done docs prepare
	@$(BIN)/python -m tests.suite

PACKAGE ?=
coverage: .venv/.dev prepare
	@$(BIN)/python -m tests.suite coverage $(PACKAGE)

EXAMPLES ?= 5000
fuzz: .venv/.dev prepare
	@$(BIN)/python -m tests.suite fuzz $(EXAMPLES)

SECONDS ?= 60
SEED ?=
CLUSTER ?=
ARCHIVE ?= 1
chaos: .venv/.dev prepare
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(CLUSTER),--cluster) $(if $(filter 0,$(ARCHIVE)),--no-archive)

RUNS ?= 1
SCENARIOS ?=
bench: .venv/.dev prepare
	$(BIN)/python -m bench --runs $(RUNS) $(SCENARIOS)

bench-peers: .venv/.dev .venv-litellm/.done prepare
	$(BIN)/python -m bench --runs $(RUNS) turns_per_core fastapi litellm

MINUTES ?= 5
soak: .venv/.dev prepare
	$(BIN)/python -m bench.soak --minutes $(MINUTES)

image-steps: .venv/.run
	@$(BIN)/python -m tests.image_steps

test-313:
	@tests/debian.sh trixie

# Install Redis, PostgreSQL, sqlite3, nginx, Chromium, Go, a C compiler, Node, curl and promtool, for the tests that use them.
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

# The last file that is written says that the site is complete.
docs: site/content-security-policy.txt

site/content-security-policy.txt: .venv/.run .venv-docs/.done mkdocs.yml tests/docs_site.py README.md CHANGELOG.md $(shell find docs -type f 2>/dev/null)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m tests.docs_site .venv-docs/bin/mkdocs

settings: .venv/.dev
	$(BIN)/python -m tests.settings_table
	$(BIN)/python -m tests.env_example
	$(BIN)/python -m tests.schema_table
	$(BIN)/python -m tests.field_descriptions

# The first three locks are installed into one environment, so each is constrained by those before it. Each of the last
# four has its own environment.
lock: .venv-upkeep/.done
	$(COMPILE) $(LOCK_FLAGS) --group build -o requirements-build.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml -c requirements-build.lock -o requirements.lock
	$(COMPILE) $(LOCK_FLAGS) pyproject.toml --group dev -c requirements-build.lock -c requirements.lock -o requirements-dev.lock
	$(COMPILE) $(LOCK_FLAGS) --group upkeep -o requirements-upkeep.lock
	$(COMPILE) $(LOCK_FLAGS) --group docs -o requirements-docs.lock
	$(COMPILE) $(LOCK_FLAGS) --group clients -o tests/dialect_clients/requirements.lock
	$(COMPILE) $(LOCK_FLAGS) --group peers -o bench/peers/requirements.lock

outdated: .venv-upkeep/.done
	@.venv-upkeep/bin/python tests/outdated.py $(OSV_URL)

clean:
	rm -rf $(foreach environment,$(ENVIRONMENTS),$(environment) $(environment).installing) .home .coverage .coverage.* coverage.xml htmlcov build dist site tests/artifacts
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment contains the packages of its locks and nothing else. It is recreated if a lock has changed, if it was
# moved, if PYTHON selects another interpreter, if its interpreter is gone, or if its installation was interrupted.
# During the installation, NAME.installing has the process id of the make that installs. NAME/.created has the
# environment's path and its Python.
.venv/.created: requirements-build.lock requirements.lock requirements-dev.lock
.venv-upkeep/.created: requirements-upkeep.lock
.venv-docs/.created: requirements-docs.lock
.venv-clients/.created: tests/dialect_clients/requirements.lock
.venv-litellm/.created: bench/peers/requirements.lock

ENVIRONMENTS := .venv .venv-upkeep .venv-docs .venv-clients .venv-litellm
usable = $(shell test ! -e $(1).installing && cd $(1) 2>/dev/null && { read -r place; read -r python; } < .created && \
	test "$$place" = "$$(pwd -P)" && test "$(or $(PYTHON),$$python)" = "$$python" && bin/python -c '' 2>/dev/null && echo yes)
$(foreach environment,$(ENVIRONMENTS),$(if $(wildcard $(environment)/.created),\
	$(if $(call usable,$(environment)),,$(eval $(environment)/.created: FORCE))))

$(ENVIRONMENTS:=/.created):
	@owner=$$(cat $(@D).installing 2>/dev/null); \
	if [ -z "$$owner" ] && [ -e $(@D) ] && [ ! -e $@ ]; then \
		echo "$(@D) exists, but make did not create it. Move or delete it, and run make again." >&2; \
		exit 1; \
	elif [ -n "$$owner" ] && { cat "/proc/$$owner/comm" || ps -p "$$owner" -o comm=; } 2>/dev/null | grep -q make; then \
		echo "Another make, process $$owner, installs into $(@D). Wait for it; if it is gone, delete $(@D).installing." >&2; \
		exit 1; \
	fi; \
	[ -z "$$owner" ] || rm -f $(@D).installing; \
	(set -C; echo $$PPID > $(@D).installing) 2>/dev/null || { echo "Another make has just started the installation. Wait for it." >&2; exit 1; }
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
		echo "$$bare can't create a virtual environment: the module ensurepip is missing." >&2; \
		echo "On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	else \
		rm -f $(@D).installing; \
		echo "Turnwire requires Python 3.11 or newer. Tried: "$(PYTHONS)"." >&2; \
		echo "Install it, or pass its path: make PYTHON=/path/to/python3 run" >&2; \
		exit 1; \
	fi

# The locks list every package, so pip resolves no dependencies and no build requirements. Without --no-deps, it would
# resolve those of an extra, such as `coverage[toml]`, again. `pip check` then reports packages that the locks lack.
PIP = $(@D)/bin/python -m pip --disable-pip-version-check --no-input
install_lock = @echo "Installing $(1) into $(@D)"; echo $$PPID > $(@D).installing; \
	$(PIP) -q install --no-deps --require-hashes --no-build-isolation --use-pep517 -r $(1) || { \
		proxy=$${HTTPS_PROXY:-$${https_proxy:-$${ALL_PROXY:-$${all_proxy:-}}}}; \
		echo "The packages of $(1) could not be installed; pip's error is above. If it found no index, check the" >&2; \
		echo "network$${proxy:+ and the proxy $$proxy}. Then run make again." >&2; \
		exit 1; }
finish = @checked=$$($(PIP) check) || { echo "$$checked" >&2; echo "The locks are inconsistent: run make lock." >&2; exit 1; }; \
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

.venv-docs/.done: .venv-docs/.created
	$(call install_lock,requirements-docs.lock)
	$(finish)

.venv-clients/.done: .venv-clients/.created
	$(call install_lock,tests/dialect_clients/requirements.lock)
	$(finish)

.venv-litellm/.done: .venv-litellm/.created
	$(call install_lock,bench/peers/requirements.lock)
	$(finish)
