#!/usr/bin/env bash
# Installs the packages of package-lock.json (npm checks their integrity), and copies the files that the page loads to
# ../../static/vendor. This folder itself is neither served nor part of the Python package.
# To change a version, run `npm install --omit-lockfile-registry-resolved PACKAGE@VERSION` in this folder, then this script.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

LANGUAGES="bash c cpp csharp css dart diff dockerfile elixir go graphql haskell ini java javascript json julia kotlin lua makefile"
LANGUAGES+=" markdown nginx perl php powershell protobuf python r ruby rust scala scss sql swift typescript xml yaml"
SERVED=../../static/vendor

npm ci --ignore-scripts --no-audit --no-fund --silent
rm -rf "$SERVED"

mkdir -p "$SERVED/highlight"
cp node_modules/@highlightjs/cdn-assets/es/core.min.js "$SERVED/highlight/core.js"
for language in $LANGUAGES; do
    cp "node_modules/@highlightjs/cdn-assets/es/languages/$language.min.js" "$SERVED/highlight/$language.js"
done
cp node_modules/@highlightjs/cdn-assets/LICENSE "$SERVED/LICENSE-highlight.txt"

mkdir -p "$SERVED/katex/fonts"
cp node_modules/katex/dist/katex.min.js "$SERVED/katex/katex.js"
# Every browser that runs the page reads woff2.
sed -E 's/,url\([^)]*\.(woff|ttf)\) format\("[a-z]+"\)//g' node_modules/katex/dist/katex.min.css >"$SERVED/katex/katex.css"
cp node_modules/katex/dist/fonts/*.woff2 "$SERVED/katex/fonts/"
cp node_modules/katex/LICENSE "$SERVED/LICENSE-katex.txt"

cp node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js "$SERVED/mermaid.js"
cp node_modules/@mermaid-js/tiny/LICENSE "$SERVED/LICENSE-mermaid.txt"

grep -v '^//# sourceMappingURL=' node_modules/marked/lib/marked.esm.js >"$SERVED/marked.js"
cp node_modules/marked/LICENSE "$SERVED/LICENSE-marked.txt"

grep -v '^//# sourceMappingURL=' node_modules/dompurify/dist/purify.es.mjs >"$SERVED/purify.js"
cp node_modules/dompurify/LICENSE "$SERVED/LICENSE-dompurify.txt"

rm -rf node_modules
{
    (cd "$SERVED" && sha256sum highlight/*.js katex/*.* katex/fonts/* marked.js mermaid.js purify.js LICENSE-*.txt)
    sha256sum package-lock.json
} >SHA256SUMS
