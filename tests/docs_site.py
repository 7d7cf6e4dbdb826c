"""Build the site of the documents: `make docs`. It has a search, and needs nothing from elsewhere.

The sources are README.md, CHANGELOG.md and docs/. A link to another file leads to a copy of it, and one to a folder
becomes text. The build fails if a link or an anchor leads nowhere, or if a page would load something from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "build" / "guide"
SITE = ROOT / "site"
POLICY = "content-security-policy.txt"
"""The file of the site with the policy that its pages are served with. `gateway/http/guide.py` reads it."""

_LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s:#]+)((?:#[^()\s]*)?)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"<script(?![^>]*\bsrc=)([^>]*)>(.*?)</script>", re.DOTALL)
_ELSEWHERE = re.compile(
    r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>|url\(\s*[\"']?(?:https?:)?//"
)


def page_of(path: Path) -> Path | None:
    """Return the place in the site's sources of a document or a picture of the project, or None if it isn't a page."""
    if path == ROOT / "README.md":
        return Path("index.md")
    if path == ROOT / "CHANGELOG.md":
        return Path("CHANGELOG.md")
    docs = ROOT / "docs"
    return path.relative_to(docs) if docs in path.parents and path.suffix in {".md", ".png"} else None


def rewritten(path: Path) -> str:
    """Return the text of a document, with links that work in the site. Raises `ValueError` for a link that leads nowhere."""
    own = page_of(path)
    assert own is not None

    def replace(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        found = (path.parent / target).resolve()
        if not found.exists():
            raise ValueError(f"{path.relative_to(ROOT)}: {target} doesn't exist")
        if found.is_dir():
            return text[1:-1]
        place = page_of(found)
        if place is None:
            place, anchor = Path("files") / f"{found.relative_to(ROOT)}.txt", ""
            (SOURCES / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, SOURCES / place)
        return f"{text}({os.path.relpath(place, own.parent)}{anchor})"

    pieces, end = [], 0
    whole = path.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(whole):
        pieces += [_LINK.sub(replace, whole[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(replace, whole[end:])])


def write_sources() -> None:
    """Write the sources of the site. Raises `ValueError` for a link that leads nowhere."""
    shutil.rmtree(SOURCES, ignore_errors=True)
    for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*")):
        place = page_of(path)
        if place is None:
            continue
        (SOURCES / place).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            (SOURCES / place).write_text(rewritten(path), encoding="utf-8")
        else:
            shutil.copy(path, SOURCES / place)


def policy(pages: list[str]) -> str:
    """Return the content security policy of pages: their inline scripts are allowed by their hashes."""
    hashes = {
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for page in pages
        for attributes, script in _INLINE.findall(page)
        if "application/json" not in attributes
    }
    scripts = " ".join(f"'sha256-{one}'" for one in sorted(hashes))
    return (
        f"default-src 'self'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def main() -> None:
    """Build the site with the given program, by default `mkdocs`. Exit with a message if something is wrong."""
    try:
        write_sources()
    except ValueError as error:
        sys.exit(f"make docs: {error}")
    program = sys.argv[1] if len(sys.argv) > 1 else "mkdocs"
    built = subprocess.run([program, "build", "--strict", "--quiet", "--clean"], cwd=ROOT, check=False)
    if built.returncode != 0:
        sys.exit("make docs: mkdocs has found mistakes; its messages are above")
    for unused in (*SITE.glob("sitemap.xml*"), SITE / "404.html", *SITE.rglob("*.map")):
        unused.unlink(missing_ok=True)
    pages = [path.read_text(encoding="utf-8") for path in SITE.rglob("*.html")]
    styles = [path.read_text(encoding="utf-8") for path in SITE.rglob("*.css")]
    if elsewhere := sorted({found.group() for text in (*pages, *styles) for found in _ELSEWHERE.finditer(text)}):
        sys.exit("make docs: the site would load something from elsewhere: " + ", ".join(elsewhere))
    (SITE / POLICY).write_text(policy(pages), encoding="utf-8")


if __name__ == "__main__":
    main()
