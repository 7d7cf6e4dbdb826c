"""The Lua scripts that run in Redis: read from `lua/`, joined with shared functions, identified by their hash."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct, structs

from store.records import DAY_MS, Counters

FOLDER = Path(__file__).parent / "lua"
SHARED = frozenset({"clock", "conversation", "entries", "limits", "turn_fields"})
NAMES = tuple(sorted({path.stem for path in FOLDER.glob("*.lua")} - SHARED))

RUNNING_MS = 48 * 3_600_000
TURN_MS = 24 * 3_600_000
USAGE_MS_MIN = 31 * 24 * 3_600_000

_USES = re.compile(r"^-- uses: (.+)$", re.MULTILINE)


class Script(Struct, frozen=True):
    """A complete script and the hash by which Redis knows it after it has been loaded."""

    name: str
    source: bytes
    sha: bytes


@cache
def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def load_scripts(*, channels: str, history_ms: int, log_ms: int) -> MappingProxyType[str, Script]:
    """Return every script by its name. `channels` is the prefix of every channel's name and has no quote in it."""
    constants = {
        "DAY_MS": DAY_MS,
        "HISTORY_MS": history_ms,
        "LOG_MS": log_ms,
        "RUNNING_MS": RUNNING_MS,
        "TURN_MS": TURN_MS,
        "USAGE_MS": max(USAGE_MS_MIN, history_ms),
    }
    head = "".join(f"local {name} = {value}\n" for name, value in constants.items())
    head += f"local CHANNEL = '{channels}'\n"
    counters = ", ".join(f"'{field.name}'" for field in structs.fields(Counters))
    return MappingProxyType({name: _script(name, head, counters) for name in NAMES})


def _script(name: str, head: str, counters: str) -> Script:
    own = _read(name)
    uses = _USES.search(own)
    shared = [_read(other) for other in uses.group(1).split(", ")] if uses else []
    source = "\n".join([head, *shared, own]).replace("{COUNTERS}", f"{{{counters}}}").encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
