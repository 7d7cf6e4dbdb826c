#!/usr/bin/env bash
# Installs what package-lock.json pins (npm checks its integrity) and copies the few files that the page loads.
# To move a version: npm install --omit-lockfile-registry-resolved PACKAGE@VERSION here, then run this.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

LANGUAGES="bash cpp css diff go java javascript json python rust sql typescript xml yaml"

npm ci --ignore-scripts --no-audit --no-fund --silent
rm -rf highlight marked.js purify.js LICENSE-*

mkdir highlight
cp node_modules/@highlightjs/cdn-assets/es/core.min.js highlight/core.js
for language in $LANGUAGES; do
    cp "node_modules/@highlightjs/cdn-assets/es/languages/$language.min.js" "highlight/$language.js"
done
cp node_modules/@highlightjs/cdn-assets/LICENSE LICENSE-highlight.txt

grep -v '^//# sourceMappingURL=' node_modules/marked/lib/marked.esm.js >marked.js
cp node_modules/marked/LICENSE LICENSE-marked.txt

grep -v '^//# sourceMappingURL=' node_modules/dompurify/dist/purify.es.mjs >purify.js
cp node_modules/dompurify/LICENSE LICENSE-dompurify.txt

rm -rf node_modules
sha256sum highlight/*.js marked.js purify.js LICENSE-*.txt package-lock.json >SHA256SUMS
