"""Reads cases.toml, and lets the runs of a case meet."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Awaitable, Callable
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


class Meeting:
    """All runs of a case wait here for each other; then something is done once."""

    def __init__(self, runs: int, act: Callable[[], Awaitable[None]]) -> None:
        self._missing = runs
        self._act = act
        self._done = asyncio.Event()
        self._present: set[object] = set()

    async def arrive(self, run: object) -> None:
        """Wait for the others, and until it is done."""
        self._present.add(run)
        await self._leave_one()
        await self._done.wait()

    async def leave(self, run: object) -> None:
        """Don't wait for this run: it has ended. Does nothing if the run has arrived."""
        if run not in self._present:
            self._present.add(run)
            await self._leave_one()

    async def _leave_one(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            await self._act()
            self._done.set()
