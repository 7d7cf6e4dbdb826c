"""The import layers of `static/`: a file imports only from its own folder and from the folders listed for it."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "static"

# The client library is `turnwire.js`, at the top, and `client`. Everything else uses it by `turnwire.js` alone.
LAYERS: dict[str, set[str]] = {
    "": {"client"},
    "client": set(),
    "shared": set(),
    "markdown": {"shared", "vendor", "diagram"},
    "diagram": set(),
    "devtools": {"", "shared"},
    "chat": {"", "shared", "markdown", "devtools"},
    "docs": {"shared"},
}

COMMENT = re.compile(r"/\*.*?\*/|^ *// .*?$", re.DOTALL | re.MULTILINE)
IMPORT = re.compile(r"""(?:\bfrom|\bimport|\bimport\(|\bURL\()\s*["'`](\.{1,2}/[^"'`]+)["'`]""")


def folder_of(path: str) -> str:
    """Return the top folder of a path in `static/`; empty for a file at the top."""
    return path.partition("/")[0] if "/" in path else ""


def imports_of(path: str) -> set[str]:
    """Return the paths in `static/` that a script imports, statically or dynamically."""
    source = COMMENT.sub("", (STATIC / path).read_text(encoding="utf-8"))
    return {posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) for name in IMPORT.findall(source)}


SCRIPTS = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js"))


@pytest.mark.parametrize("folder", LAYERS)
def test_a_folder_imports_only_lower_layers(folder: str) -> None:
    """A script imports only from its own folder and from those listed in `LAYERS`."""
    scripts = [path for path in SCRIPTS if folder_of(path) == folder]
    assert scripts
    violations = {
        path: sorted(other for other in imports_of(path) if folder_of(other) not in {folder, *LAYERS[folder]})
        for path in scripts
    }
    assert {path: others for path, others in violations.items() if others} == {}


def test_every_folder_has_a_layer() -> None:
    """Each folder with scripts, except `vendor`, has an entry in `LAYERS`."""
    assert {folder_of(path) for path in SCRIPTS} == {*LAYERS, "vendor"}


def test_imports_name_existing_files() -> None:
    """Each import names an existing file, unless the name is computed."""
    missing = {
        (path, other)
        for path in SCRIPTS
        if folder_of(path) != "vendor"
        for other in imports_of(path)
        if "${" not in other and not (STATIC / other).is_file()
    }
    assert missing == set()
