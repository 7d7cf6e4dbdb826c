"""The Lua scripts that run in Redis: read from `lua/`, joined with shared functions, identified by their hash."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from store.records import DAY_MS, Counters

FOLDER = Path(__file__).parent / "lua"
SHARED = frozenset({"absent", "clock", "cold", "conversation", "entries", "limits", "outbox", "turn_fields"})
NAMES = tuple(sorted({path.stem for path in FOLDER.glob("*.lua")} - SHARED))

NEVER_MS = 36_500 * DAY_MS
"""A time to live of a hundred years, for keys that aren't to expire."""
RUNNING_TTL_MS = 48 * 3_600_000
TURN_TTL_MS = 24 * 3_600_000
USAGE_TTL_MS_MIN = 31 * DAY_MS

_USES = re.compile(r"^-- uses: (.+)$", re.MULTILINE)


class Script(Struct, frozen=True):
    """A complete script and the hash by which Redis knows it after it has been loaded."""

    name: str
    source: bytes
    sha: bytes


@cache
def _read(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def load_scripts(
    *,
    channels: str,
    history_ttl_ms: int,
    log_ttl_ms: int,
    retention_days: int = 0,
    archived: bool = False,
    sharded: bool = False,
) -> MappingProxyType[str, Script]:
    """Return every script by its name. `channels` is the prefix of every channel's name and has no quote in it.

    If `history_ttl_ms` is 0, a history never expires. `retention_days` applies to conversations that have none of their own;
    0 means forever. `archived`: an archive is set, so what changes is noted in outboxes. `sharded`: the scripts publish with
    SPUBLISH. Then the prefix of a channel is the script's key, because the channel has to be in the key's slot.
    """
    history_ttl_ms = history_ttl_ms or NEVER_MS
    constants = {
        "ARCHIVE": str(archived).lower(),
        "DAY_MS": DAY_MS,
        "HISTORY_TTL_MS": history_ttl_ms,
        "LOG_TTL_MS": log_ttl_ms,
        "RETENTION_DAYS": retention_days,
        "RUNNING_TTL_MS": RUNNING_TTL_MS,
        "TURN_TTL_MS": TURN_TTL_MS,
        "USAGE_TTL_MS": max(USAGE_TTL_MS_MIN, history_ttl_ms),
    }
    head = "".join(f"local {name} = {value}\n" for name, value in constants.items())
    publish, prefix = ("SPUBLISH", "KEYS[1]") if sharded else ("PUBLISH", f"'{channels}'")
    head += f"local PUBLISH, CHANNEL = '{publish}', {prefix}\n"
    counters = ", ".join(f"'{name}'" for name in Counters.__struct_fields__)
    return MappingProxyType({name: _script(name, head, counters) for name in NAMES})


def _script(name: str, head: str, counters: str) -> Script:
    main = _read(name)
    uses = _USES.search(main)
    shared = [_read(other) for other in uses.group(1).split(", ")] if uses else []
    source = "\n".join([head, *shared, main]).replace("{COUNTERS}", f"{{{counters}}}").encode()
    return Script(name, source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())
