"""What a gateway process writes: every line an event with the ids that it belongs to, and nothing that anybody said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.gateway_process import gateway_process
from tests.upstream import Upstream, chat, refusal

pytestmark = pytest.mark.e2e

CANARY = "canary-7f3a"


async def test_every_line_has_its_ids_and_no_content(tmp_path: Path) -> None:
    """Law 13: prompts, answers, keys, tokens and a provider's words are in no line, at level debug and as JSON;
    connection, turn, user and request are."""
    async with Upstream() as upstream:
        environment = {
            **{"TURNWIRE_LOG_FORMAT": "json", "TURNWIRE_LOG_LEVEL": "debug"},
            **{"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET},
            **{"KIMI_API_KEY": f"{CANARY}-key", "KIMI_BASE_URL": upstream.openai_url},
        }
        upstream.plays(chat(f"{CANARY}-answer"), refusal(400, {"error": {"message": f"{CANARY}-error"}}))
        credential = token("ann")
        async with gateway_process(tmp_path, environment) as gateway:
            async with client(gateway.ws_url, additional_headers=bearer(credential)) as c:
                for turn in ("t1", "t2"):
                    await c.request("turn.start", turn=turn, input=f"{CANARY}-prompt", model="kimi/any")
                    await c.ending(turn)
            async with httpx2.AsyncClient() as http:
                answer = await http.post(
                    f"{gateway.url}/v1/turns", json={"input": f"{CANARY}-http"}, headers=bearer(credential)
                )
                assert answer.status_code == 200
    lines = [line for line in gateway.log if not line.startswith("Turnwire is ready")]
    assert CANARY not in "".join(gateway.log)
    assert credential not in "".join(gateway.log)
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    ended = {event["turn"]: event for event in events if event["event"] == "turn ended"}
    assert ended["t1"]["status"] == "completed"
    assert {"user": "ann", "level": "info", "logger": "turnwire.turn"}.items() <= ended["t1"].items()
    assert ended["t1"]["request"].startswith("r")
    opened = next(event for event in events if event["event"] == "connection opened")
    assert ended["t1"]["connection"] == opened["connection"]
    failed = next(event for event in events if event["event"] == "an attempt failed")
    assert (failed["turn"], failed["user"]) == ("t2", "ann")
    assert ended["t2"]["status"] == "failed"
    assert len(ended) == 3
