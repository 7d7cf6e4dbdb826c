#!/usr/bin/env bash
# Installs the packages of package-lock.json (npm checks their integrity), and copies the files that the page loads to
# ../../static/vendor. This folder itself is neither served nor part of the Python package.
# To change a version, run `npm install --omit-lockfile-registry-resolved PACKAGE@VERSION` in this folder, then this script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

LANGUAGES="bash cpp css diff go java javascript json python rust sql typescript xml yaml"
SERVED=../../static/vendor

npm ci --ignore-scripts --no-audit --no-fund --silent
rm -rf "$SERVED"

mkdir -p "$SERVED/highlight"
cp node_modules/@highlightjs/cdn-assets/es/core.min.js "$SERVED/highlight/core.js"
for language in $LANGUAGES; do
    cp "node_modules/@highlightjs/cdn-assets/es/languages/$language.min.js" "$SERVED/highlight/$language.js"
done
cp node_modules/@highlightjs/cdn-assets/LICENSE "$SERVED/LICENSE-highlight.txt"

grep -v '^//# sourceMappingURL=' node_modules/marked/lib/marked.esm.js >"$SERVED/marked.js"
cp node_modules/marked/LICENSE "$SERVED/LICENSE-marked.txt"

grep -v '^//# sourceMappingURL=' node_modules/dompurify/dist/purify.es.mjs >"$SERVED/purify.js"
cp node_modules/dompurify/LICENSE "$SERVED/LICENSE-dompurify.txt"

rm -rf node_modules
{
    (cd "$SERVED" && sha256sum highlight/*.js marked.js purify.js LICENSE-*.txt)
    sha256sum package-lock.json
} >SHA256SUMS
