#!/usr/bin/env bash
# Installs the requirements of the tests that aren't locked Python packages: Redis, PostgreSQL, SQLite's shell, nginx, Chromium, Go,
# a C compiler, Node, curl and Prometheus's promtool, and packages from npm, Go and pip. Programs are installed with apt if it is
# available and permitted; otherwise the script prints how to install them. A missing program is an error in CI; elsewhere its tests
# are skipped.
set -euo pipefail

go_minimum=1.23
node_minimum=20.19

has_curl() { command -v curl >/dev/null; }

has_redis() { command -v redis-server >/dev/null; }

# Debian has its programs outside the PATH. The package's own cluster isn't used.
has_postgres() { command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

has_sqlite() { command -v sqlite3 >/dev/null; }

# On Debian, its folder is in the PATH of root only.
has_nginx() { command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]]; }

has_chromium() {
    local name
    for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" >/dev/null && return
    done
    return 1
}

has_promtool() { command -v promtool >/dev/null || [[ -x .venv/bin/promtool ]]; }

# Only this program is taken from Debian's package, which would also run a server.
install_promtool() {
    local folder
    folder="$(mktemp -d)" || return 1
    (cd "$folder" && apt-get -qq download prometheus && dpkg-deb -x prometheus_*.deb .) >/dev/null 2>&1 &&
        install "$folder/usr/bin/promtool" .venv/bin/promtool
    rm -rf "$folder"
}

# A version that is too old is treated as missing, because it can't build the proxy.
has_go() {
    local version
    command -v go >/dev/null || return 1
    version="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null)" || return 1
    [[ "$(printf '%s\n' "$go_minimum" "${version#go}" | sort -V | head -n 1)" == "$go_minimum" ]]
}

# Go's race detector is linked with C, so it needs a compiler and the headers of the C library.
has_cc() {
    local name
    for name in gcc clang; do
        echo '#include <stdlib.h>' | "$name" -E - >/dev/null 2>&1 && return
    done
    return 1
}

has_node() {
    local version
    command -v npm >/dev/null || return 1
    version="$(node --version 2>/dev/null)" || return 1
    [[ "$(printf '%s\n' "$node_minimum" "${version#v}" | sort -V | head -n 1)" == "$node_minimum" ]]
}

# The failures of npm, go and pip, one per line.
not_fetched=""

# Fetch packages that only the tests use: TypeScript for the JavaScript client's types, what its package is tested with (among it
# a second Node), AsyncAPI's parser, axe, the clients of other protocols, the modules of the Go client, and old versions of pip.
fetch() {
    local folder
    not_fetched=""
    if has_node; then
        for folder in tests/client_library tests/js_package tests/asyncapi tests/dialect_clients tests/axe tests/guides; do
            [[ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]] ||
                npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel error >/dev/null ||
                not_fetched+="  npm could not install the packages of $folder/package-lock.json"$'\n'
        done
    fi
    if has_go; then
        (cd clients/go && go mod download) ||
            not_fetched+="  go could not fetch the modules of clients/go"$'\n'
    fi
    if [[ -x .venv/bin/python && -z "$(compgen -G '.venv/oldest-pip/*.whl')" ]]; then
        .venv/bin/python -m pip -q --disable-pip-version-check --no-input download --no-deps --require-hashes \
            -r tests/oldest-pip.lock -d .venv/oldest-pip ||
            not_fetched+="  pip could not fetch the packages of tests/oldest-pip.lock"$'\n'
    fi
    [[ -z "$not_fetched" ]]
}

as_root=""
may_install() {
    command -v apt-get >/dev/null || return 1
    [[ "$(id -u)" == 0 ]] && return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    as_root="sudo -n"
}

# Print the Debian names of the missing programs, one word each.
missing() {
    has_curl || echo curl
    has_redis || echo redis-server
    has_postgres || echo postgresql
    has_sqlite || echo sqlite3
    has_nginx || echo nginx-light
    has_chromium || echo chromium-headless-shell
    has_go || echo golang-go
    has_cc || echo gcc libc6-dev
    has_node || echo nodejs npm
    has_promtool || echo prometheus
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages="$(missing)"
fetch && [[ -z "$packages" ]] && exit 0

if [[ -n "$packages" ]] && may_install; then
    echo "Installing for the tests:" $packages
    $as_root apt-get -qq update || true
    # One at a time: a package that this release doesn't have must not prevent the others.
    for package in ${packages/chromium-headless-shell/chromium-headless-shell chromium}; do
        [[ "$package" == chromium ]] && has_chromium && continue
        [[ "$package" == prometheus ]] && { install_promtool || true; continue; }
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --yes --no-install-recommends "$package" >/dev/null || true
    done
    hash -r
    packages="$(missing)"
    fetch && [[ -z "$packages" ]] && exit 0
fi

{
    [[ -z "$packages" ]] || echo "The tests require programs that are not installed:"
    for package in $packages; do
        case "$package" in
        curl) echo "  curl: apt install curl" ;;
        prometheus) echo "  promtool: apt install prometheus, brew install prometheus" ;;
        redis-server) echo "  Redis >= 7: apt install redis-server, brew install redis" ;;
        postgresql) echo "  PostgreSQL >= 14: apt install postgresql, brew install postgresql" ;;
        sqlite3) echo "  SQLite's shell: apt install sqlite3, brew install sqlite" ;;
        nginx-light) echo "  nginx: apt install nginx-light, brew install nginx" ;;
        chromium-headless-shell) echo "  Chromium: apt install chromium, brew install --cask chromium" ;;
        nodejs) echo "  Node >= $node_minimum with npm: apt install nodejs npm, brew install node, or https://nodejs.org" ;;
        gcc) echo "  a C compiler: apt install gcc libc6-dev, xcode-select --install" ;;
        golang-go) echo "  Go >= $go_minimum: apt install golang-go, brew install go, or https://go.dev/dl" ;;
        esac
    done
    [[ -z "$not_fetched" ]] || printf 'Not fetched. Check the network and the proxy variables:\n%s' "$not_fetched"
} >&2

if [[ "${CI:-}" == true ]]; then
    exit 1
fi
echo "Continuing without them. Their tests are skipped, or fail if a version is too old." >&2
