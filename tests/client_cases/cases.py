"""Reads cases.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Step = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A case of cases.toml. `each` has its variants."""

    name: str
    steps: tuple[Step, ...]
    codecs: tuple[str, ...] = ("json",)
    each: tuple[Any, ...] = (None,)
    needs: frozenset[str] = frozenset()
    browser: bool = False

    @property
    def gateways_lost(self) -> list[str]:
        """The gateways that the case kills or drains."""
        return [step["gateway"] for step in self.steps if step["do"] in ("kill", "drain")]


def read_cases() -> list[Case]:
    """Return the cases."""
    data = tomllib.loads(Path(__file__).with_name("cases.toml").read_text("utf-8"))
    return [
        Case(
            one["name"],
            tuple(one["steps"]),
            tuple(one.get("codecs", ["json"])),
            tuple(one.get("each", [None])),
            frozenset(one.get("needs", [])),
            one.get("browser", False),
        )
        for one in data["case"]
    ]
