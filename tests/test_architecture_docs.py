"""Check docs/architecture.md against the code: the files and functions that it names exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATH = re.compile(r"`((?:gateway|providers|store|tests)/[\w/]*(?:\.\w+)?|pyproject\.toml)`")
STEP = re.compile(r"^(?:\d+\.|[-|]) .*?(?=^(?:\d+\.|[-|#\n]))", re.M | re.S)
NAME = re.compile(r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)`")
WORDS = {"renew", "append", "owner_lost", "code", "turn.cancel"}
"""Other words in backticks: methods of the store, an error code, a request, and the word `code` itself."""


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of a file, or of all files of a folder.

    They are its classes, functions and variables, and its methods as `method` and as `Class.method`.
    """
    full_path = ROOT / path
    if full_path.is_dir():
        return frozenset().union(*(names_in(str(each.relative_to(ROOT))) for each in full_path.rglob("*.py")))
    found: set[str] = set()
    for node in ast.parse(full_path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found |= {f"{node.name}.{inner.name}", inner.name}
    return frozenset(found)


def test_every_path_exists() -> None:
    """Every path in the document exists."""
    paths = set(PATH.findall(PAGE))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("step", STEP.findall(PAGE + "\n#"), ids=lambda step: step[:60].replace("\n", " "))
def test_every_name_of_a_step_is_in_one_of_its_files(step: str) -> None:
    """A name in a numbered step is defined in one of the step's files. Any other name is defined in a package."""
    paths = [path for path in PATH.findall(step) if path.endswith(".py")]
    is_numbered = step[0].isdigit() and len(paths) > 0
    known = frozenset().union(*(names_in(path) for path in paths if is_numbered))
    known |= frozenset().union(*(names_in(package) for package in ("gateway", "providers", "store") if not is_numbered))
    for name in NAME.findall(step):
        if name in WORDS or "/" in name or not re.search(r"[._A-Z]|^[a-z]+$", name):
            continue
        assert name in known, name
