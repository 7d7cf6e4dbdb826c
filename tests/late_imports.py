"""Modules that are imported when they are first used.

Each worker collects all tests. Without this, each would import the providers' SDKs, which takes longer than all the rest,
for the few files that use them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LateImport:
    """Stands for a module, and imports it when one of its public attributes is used. pytest asks each object of a test file
    for private ones."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
