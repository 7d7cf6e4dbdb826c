#!/usr/bin/env bash
# Makes sure of the programs that the tests run beside Python: Redis, nginx, Chromium, Go, Node and curl.
# Installs with apt what is missing, where it may; else says what to install. In CI a missing one is an error,
# elsewhere its tests are skipped.
set -euo pipefail

go_minimum=1.23
node_minimum=20.19

has_curl() { command -v curl >/dev/null; }

has_redis() { command -v redis-server >/dev/null; }

# Debian keeps it where only root looks.
has_nginx() { command -v nginx >/dev/null || [[ -x /usr/sbin/nginx ]]; }

has_chromium() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
        command -v google-chrome >/dev/null || command -v google-chrome-stable >/dev/null
}

# Too old is missing: an old Go can't build the proxy.
has_go() {
    local version
    command -v go >/dev/null || return 1
    version="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null)" || return 1
    [[ "$(printf '%s\n' "$go_minimum" "${version#go}" | sort -V | head -n 1)" == "$go_minimum" ]]
}

has_node() {
    local version
    command -v npm >/dev/null || return 1
    version="$(node --version 2>/dev/null)" || return 1
    [[ "$(printf '%s\n' "$node_minimum" "${version#v}" | sort -V | head -n 1)" == "$node_minimum" ]]
}

# TypeScript, for the browser client's types, and AsyncAPI's parser: only the tests need them.
install_node_packages() {
    local folder
    has_node || return 0
    for folder in tests/client_library tests/asyncapi; do
        [[ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ]] ||
            npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts --loglevel error >/dev/null || true
    done
}

as_root=""
may_install() {
    command -v apt-get >/dev/null || return 1
    [[ "$(id -u)" == 0 ]] && return 0
    command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
    as_root="sudo -n"
}

# The missing ones by their Debian names, a word each.
missing() {
    has_curl || echo curl
    has_redis || echo redis-server
    has_nginx || echo nginx-light
    has_chromium || echo chromium
    has_go || echo golang-go
    has_node || echo nodejs npm
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
packages="$(missing)"
install_node_packages
[[ -z "$packages" ]] && exit 0

if may_install; then
    echo "Installing for the tests:" $packages
    $as_root apt-get -qq update || true
    # One at a time: a package that this release doesn't have must not keep the others away.
    for package in $packages; do
        $as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get -qq install --yes --no-install-recommends "$package" >/dev/null || true
    done
    hash -r
    packages="$(missing)"
    install_node_packages
    [[ -z "$packages" ]] && exit 0
fi

{
    echo "The tests need programs that are not here:"
    for package in $packages; do
        case "$package" in
        curl) echo "  curl: apt install curl" ;;
        redis-server) echo "  Redis >= 7: apt install redis-server, brew install redis" ;;
        nginx-light) echo "  nginx: apt install nginx-light, brew install nginx" ;;
        chromium) echo "  Chromium: apt install chromium, brew install --cask chromium" ;;
        nodejs) echo "  Node >= $node_minimum with npm: apt install nodejs npm, brew install node, or https://nodejs.org" ;;
        golang-go) echo "  Go >= $go_minimum: apt install golang-go, brew install go, or https://go.dev/dl" ;;
        esac
    done
} >&2

if [[ "${CI:-}" == true ]]; then
    exit 1
fi
echo "Going on without them: their tests are skipped, or fail where a version is too old." >&2
