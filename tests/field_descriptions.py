"""The descriptions of the fields of `turn.start` in the API documents, copied from docs/protocol.md.

`make settings` copies them; tests/unit/gateway/http/test_field_descriptions.py checks that they are current.
"""

from __future__ import annotations

import re
from pathlib import Path

from gateway.http.schemas import DESCRIPTIONS

PROTOCOL = Path(__file__).parents[1] / "docs" / "protocol.md"
_TABLE = re.compile(r"^### `turn\.start`\n\n\| field.*\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE)
_SECTION = re.compile(r"^\[TurnStart\]\n(?:(?!\[).*\n)*", re.MULTILINE)


def updated_file() -> str:
    """Return the whole file with the descriptions from the protocol."""
    table = _TABLE.search(PROTOCOL.read_text(encoding="utf-8"))
    assert table is not None
    lines = []
    for row in table[1].splitlines():
        names, meaning = re.split(r" \| ", row.removeprefix("| ").removesuffix(" |"), maxsplit=1)
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).replace("; see below", "").replace('"', '\\"')
        lines += [f'{name} = "{text}"\n' for name in re.findall(r"`(\w+)`", names)]
    return _SECTION.sub(lambda _: f"[TurnStart]\n{''.join(lines)}\n", DESCRIPTIONS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    DESCRIPTIONS.write_text(updated_file(), encoding="utf-8")
