#!/usr/bin/env bash
# Runs the steps of CI on another release of Debian, with its Python, in a folder that debootstrap creates:
# `tests/debian.sh trixie` is `make test-313`. The folder is used again by the next run; delete it to update Debian.
# Requires root for chroot and for mounts, which end with this script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

suite="${1:?name a release of Debian, for example: tests/debian.sh trixie}"
folder="${TURNWIRE_DEBIAN:-/var/tmp/turnwire-$suite}"
authorities=/etc/ssl/certs/ca-certificates.crt

[[ "$(id -u)" == 0 ]] || {
    echo "Root is required for chroot: sudo make test-313" >&2
    exit 1
}
command -v debootstrap >/dev/null || apt-get -qq install --yes --no-install-recommends debootstrap >/dev/null || {
    echo "debootstrap is missing: apt install debootstrap" >&2
    exit 1
}

if [[ ! -e "$folder/.complete" ]]; then
    echo "Filling $folder with Debian $suite"
    rm -rf "$folder"
    debootstrap --variant=minbase --include=ca-certificates,git,make,python3,python3-venv "$suite" "$folder" >/dev/null || {
        echo "debootstrap could not fill $folder with Debian $suite; see $folder/debootstrap/debootstrap.log" >&2
        exit 1
    }
    touch "$folder/.complete"
fi

# A clone of the committed files, and the recorded streams if this machine has them, where .ci/run looks for them.
rm -rf "$folder/src"
mkdir -p "$folder/src/shared"
git clone --quiet . "$folder/src/turnwire"
recorded="${RECORDED_STREAMS:-$PWD/../shared/fixtures}"
[[ ! -d "$recorded" ]] || cp -r "$recorded" "$folder/src/shared/fixtures"

# A network whose proxy inspects TLS has its own certificate authorities.
cp -L "$authorities" "$folder$authorities"
cp -L /etc/resolv.conf "$folder/etc/resolv.conf"

export folder authorities
exec unshare --mount --propagation private bash -euo pipefail -c '
    mount -t proc proc "$folder/proc"
    mount --rbind /dev "$folder/dev"
    mount --rbind /sys "$folder/sys"
    inherited=()
    for name in http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY PIP_INDEX_URL; do
        [[ -z "${!name:-}" ]] || inherited+=("$name=${!name}")
    done
    exec chroot "$folder" env -i "${inherited[@]}" CI=true HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SSL_CERT_FILE="$authorities" PIP_CERT="$authorities" NODE_EXTRA_CA_CERTS="$authorities" \
        bash /src/turnwire/.ci/run
'
