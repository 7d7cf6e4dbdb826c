"""The order and the groups of the page's list of conversations, and the times of messages, run in Node."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.programs import program

CHAT = Path(__file__).parents[3] / "static" / "chat"
IMPORTS = f"""
const {{ groupsOf, withChange }} = await import("{CHAT.as_uri()}/conversation_groups.js");
const given = JSON.parse(process.argv[1]);
"""


def run(script: str, given: Any) -> Any:
    """Return what a script gives as `result`, in a time zone with summer time."""
    command = [
        str(program("node")),
        "--input-type=module",
        "-e",
        f"{IMPORTS}{script}\nconsole.log(JSON.stringify(result))",
    ]
    environment = {**os.environ, "TZ": "Europe/Berlin"}
    ran = subprocess.run([*command, json.dumps(given)], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def conversation(
    name: str, updated_at: str = "2026-11-01T00:00:00.000Z", revision: int = 1, **fields: Any
) -> dict[str, Any]:
    return {"id": name, "title": name, "updated_at": updated_at, "revision": revision, **fields}


def test_conversations_are_grouped_by_local_day() -> None:
    """Pinned ones are first. Days are those of the user's clock, also after the change to winter time."""
    conversations = [
        conversation("a", "2026-10-26T23:30:00.000Z"),  # 0:30 on the 27th
        conversation("b", "2026-10-25T23:30:00.000Z"),
        conversation("c", "2026-10-25T22:59:00.000Z"),
        conversation("p", "2020-01-01T00:00:00.000Z", pinned=True),
        conversation("d", "2026-10-20T12:00:00.000Z"),
        conversation("e", "2026-10-19T12:00:00.000Z"),
        conversation("f", "2025-10-19T12:00:00.000Z"),
        conversation("g", "2025-09-30T12:00:00.000Z"),
    ]
    groups = run("const result = groupsOf(given, new Date('2026-10-27T08:00:00+01:00'));", conversations)
    assert {group["title"]: "".join(one["id"] for one in group["conversations"]) for group in groups} == {
        "Pinned": "p",
        "Today": "a",
        "Yesterday": "b",
        "Previous 7 days": "cd",
        "October": "e",
        "October 2025": "f",
        "September 2025": "g",
    }


def test_a_change_moves_only_what_it_must() -> None:
    """A start or a new title moves a conversation to the top; a pin moves nothing; an older state is ignored; one whose
    page isn't loaded isn't added."""
    listed = [conversation(name, f"2026-11-0{9 - index}T00:00:00.000Z", 5) for index, name in enumerate("abc")]

    def after(*, complete: bool = False, kind: str = "changed", **change: Any) -> list[str]:
        event = {"type": "conversations.changed", "change": kind, **change}
        result = run("const result = withChange(...given);", [listed, event, complete])
        return [f"{one['title']}{'*' * bool(one.get('pinned'))}" for one in result]

    latest, oldest = "2026-11-10T00:00:00.000Z", "2020-01-01T00:00:00.000Z"
    assert after(conversation="c", title="C", updated_at=latest, revision=6) == ["C", "a", "b"]
    assert after(conversation="d", title="d", updated_at=latest, revision=1) == ["d", "a", "b", "c"]
    assert after(conversation="b", title="b", updated_at=listed[1]["updated_at"], revision=6, pinned=True) == [
        "a",
        "b*",
        "c",
    ]
    assert after(conversation="b", title="old", updated_at=latest, revision=4) == ["a", "b", "c"]
    assert after(conversation="z", title="z", updated_at=oldest, revision=1) == ["a", "b", "c"]
    assert after(conversation="z", title="z", updated_at=oldest, revision=1, complete=True) == ["a", "b", "c", "z"]
    assert after(conversation="b", kind="deleted") == ["a", "c"]
    assert after(conversation=None, kind="deleted") == []
