"""Compile the tests and the packages once, before the workers start. In a fresh checkout, each worker would otherwise compile
the same modules at the same time."""

from __future__ import annotations

import compileall
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

ROOT = Path(__file__).parents[1]
COMPILED = ("bench", "clients/python", "gateway", "providers", "store", "tests")
SKIPPED = {"node_modules", "dialect_clients", "__pycache__"}
"""Folders that aren't compiled: they have no modules, or those of another environment."""


def compile_all(config: pytest.Config) -> None:
    """Compile all modules and tests whose bytecode is missing or old."""
    for name in COMPILED:
        for file in python_files(ROOT / name):
            if file.name.startswith("test_") or file.name == "conftest.py":
                compile_test(config, file)
            else:
                compileall.compile_file(file, quiet=2)


def python_files(folder: Path) -> Iterator[Path]:
    """Return the modules in a folder."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (Path(path) / name for name in sorted(names) if name.endswith(".py"))


def compile_test(config: pytest.Config, file: Path) -> None:
    """Compile a file in which pytest adds the details to failed assertions, and whose bytecode it keeps apart."""
    folder = rewrite.get_cache_dir(file)
    bytecode = folder / (file.name[:-3] + rewrite.PYC_TAIL)
    if bytecode.exists() and bytecode.stat().st_mtime >= file.stat().st_mtime:
        return
    state = config.stash.get(rewrite.assertstate_key, None)
    if state is not None and rewrite.try_makedirs(folder):
        source_hash, code = rewrite._rewrite_test(file, config)
        rewrite._write_pyc(state, code, source_hash, bytecode)
