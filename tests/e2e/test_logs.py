"""The log of a gateway process: every line is an event with its ids, and has no content of a user or provider."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway.protocol.plain_text import is_plain
from tests.client import RequestFailed, client
from tests.credentials import IDENTITY_SECRET, SECRET, KeyFile, bearer, token
from tests.gateway_process import gateway_process
from tests.redis_process import redis_process
from tests.upstream import Upstream, chat, error_response

pytestmark = pytest.mark.e2e

CANARY = "canary-7f3a"


async def test_law_13_log_lines_have_ids_and_no_content(tmp_path: Path) -> None:
    """Law 13: at level debug and as JSON, no line has a prompt, answer, key, token or provider's text; lines have the
    ids of connection, turn, user and request."""
    async with Upstream() as upstream:
        environment = {
            **{"TURNWIRE_LOG_FORMAT": "json", "TURNWIRE_LOG_LEVEL": "debug"},
            **{"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET},
            **{"KIMI_API_KEY": f"{CANARY}-key", "KIMI_BASE_URL": upstream.openai_url},
        }
        upstream.play(chat(f"{CANARY}-answer"), error_response(400, {"error": {"message": f"{CANARY}-error"}}))
        credential = token("ann")
        async with gateway_process(tmp_path, environment) as gateway:
            async with client(gateway.ws_url, additional_headers=bearer(credential)) as c:
                for turn in ("t1", "t2"):
                    await c.request("turn.start", turn=turn, input=f"{CANARY}-prompt", model="kimi/any")
                    await c.ending(turn)
            async with httpx2.AsyncClient() as http:
                answer = await http.post(
                    f"{gateway.url}/v1/turns",
                    json={"input": f"{CANARY}-http", "params": {"demo": {"text": "Yes."}}},
                    headers=bearer(credential),
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
    assert ended["t1"]["request_id"] == opened["request_id"]
    served = next(event for event in events if event["event"] == "request served" and event["path"] == "/v1/turns")
    assert (served["request_id"], served["status"]) == (answer.headers["x-request-id"], 200)
    failed = next(event for event in events if event["event"] == "attempt failed")
    assert (failed["turn"], failed["user"]) == ("t2", "ann")
    assert ended["t2"]["status"] == "failed"
    assert len(ended) == 3


@pytest.mark.parametrize("form", ["console", "json"])
async def test_control_characters_are_not_logged(tmp_path: Path, form: str) -> None:
    """Control characters in names that clients choose are refused, and the socket stays open. Those in a provider's
    error don't reach the log. Neither can forge a line of the log."""
    escape = "\x1b]0;owned\x07\nforged\u202e"
    async with Upstream() as upstream:
        upstream.play(
            error_response(400, {"error": {"message": escape, "code": escape, "type": escape, "param": escape}})
        )
        environment = {
            **{"TURNWIRE_LOG_FORMAT": form, "TURNWIRE_LOG_LEVEL": "debug"},
            **{"KIMI_API_KEY": "sk-x", "KIMI_BASE_URL": upstream.openai_url},
        }
        async with gateway_process(tmp_path, environment) as gateway:
            async with client(gateway.ws_url) as c:
                for name, kind, fields in (
                    ("model", "turn.start", {"turn": "t1", "input": "x", "model": escape}),
                    ("conversation", "turn.start", {"turn": "t1", "input": "x", "conversation": escape}),
                    ("turn", "turn.get", {"turn": escape}),
                    ("turns[0]", "turn.cancel", {"turns": [escape]}),
                    ("positions", "turn.attach", {"positions": {escape: {"epoch": 1, "seq": 0}}}),
                ):
                    with pytest.raises(RequestFailed) as refused:
                        await c.request(kind, **fields)
                    assert (refused.value.code, refused.value.error["path"]) == ("invalid_request", name)
                await c.send("turn.start", id=escape, turn="t1", input="x")
                await c.until(lambda: any(f["type"] == "error" and f["error"]["path"] == "id" for f in c.frames))
                await c.request("turn.start", turn="t2", input="x", model="kimi/any")
                assert (await c.ending("t2"))["type"] == "turn.failed"
            async with httpx2.AsyncClient(base_url=gateway.url) as http:
                answer = await http.get("/v1/turns/%1B%5B2J")
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
                revoked = await http.post("/v1/revocations", json={"user": escape})
                assert (revoked.status_code, revoked.json()["error"]["path"]) == (400, "user")
    written = "".join(gateway.log)
    assert "turn ended" in written
    assert {one for one in written if not is_plain(one)} == {"\n"}
    assert not any(line.startswith("forged") for line in gateway.log)


PAGE = Origin("https://app.example")


async def test_no_secret_is_logged_returned_or_counted(tmp_path: Path) -> None:
    """At level debug, no log line, metric, frame or response has a token, key, ticket, identity or password, except the
    response that issues a ticket; and no log line or metric has content. This holds after success and refusal, and when
    the provider quotes a key or content. For log lines, frames and responses, it also holds when Redis is killed."""
    content, password, provider_key = f"{CANARY}-content", f"{CANARY}-redis", f"{CANARY}-key"
    file = KeyFile(tmp_path)
    key = file.add_service()
    good, bad, identity = token("ann"), token("ann", "x" * 40), token("bob", IDENTITY_SECRET)
    operator = token("operator", scope="admin")
    seen: list[str] = []
    async with Upstream() as upstream:
        quoted = {"error": {"message": f"Incorrect key {provider_key} for {content}", "code": provider_key}}
        upstream.play(
            error_response(401, quoted), error_response(500, quoted), chat(content), chat(f'"{content}', finish=content)
        )
        environment = {
            **{"TURNWIRE_LOG_LEVEL": "debug", "TURNWIRE_ALLOWED_ORIGINS": PAGE, "TURNWIRE_PROVIDER_ATTEMPTS": "1"},
            **{"TURNWIRE_AUTH": "jwt,keys", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_API_KEYS": str(file.path)},
            **{"TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET, "TURNWIRE_ADMIN_TOKEN": operator},
            **{"KIMI_API_KEY": provider_key, "KIMI_BASE_URL": upstream.openai_url},
        }
        with redis_process(tmp_path / "redis", password=password) as redis:
            async with (
                gateway_process(tmp_path, environment, store=redis.url, allow_kill=True) as gateway,
                httpx2.AsyncClient(base_url=gateway.url) as http,
            ):

                async def post(path: str, headers: dict[str, str], **body: Any) -> httpx2.Response:
                    answer = await http.post(path, headers=headers, json=body)
                    seen.append(answer.text)
                    return answer

                async def refused(query: str, **options: Any) -> None:
                    with suppress(InvalidStatus, ConnectionClosed):
                        async with connect(gateway.ws_url + query, **options) as socket:
                            await socket.send(json.dumps({"type": "fly", "x": content}))
                            seen.append(str(await socket.recv()))
                            seen.append(str(await socket.recv()))

                once = (await http.post("/v1/tickets", headers=bearer(good))).json()["ticket"]
                async with client(f"{gateway.ws_url}?ticket={once}", origin=PAGE) as c:
                    for n in range(4):
                        await c.request("turn.start", turn=f"t{n}", input=content, model="kimi/any")
                        await c.ending(f"t{n}")
                    with pytest.raises(RequestFailed, match="unauthenticated"):
                        await c.request("auth", token=bad)
                    seen += [json.dumps(frame) for frame in c.frames]
                for query in (f"?ticket={once}", f"?token={good}", f"?secret={content}"):
                    await refused(query, origin=PAGE)
                for credential in (good, bad, key, key[:-1]):
                    headers = {**bearer(credential), "X-Turnwire-Identity": identity}
                    await refused("", additional_headers=headers)
                    await post(f"/v1/turns?access_token={credential}", headers, input=content)
                    await post("/v1/turns", headers, input=content, **{"as": credential, content: content})
                metrics = (await http.get("/metrics", headers=bearer(operator))).text
                assert "turnwire_refusals_total" in metrics
                async with client(gateway.ws_url, additional_headers=bearer(good)) as c:
                    redis.kill()
                    with pytest.raises(RequestFailed, match="store_unavailable"):
                        await c.request("conversation.create", title=content)
                    seen += [json.dumps(frame) for frame in c.frames]
                assert (await post("/v1/turns", bearer(good), input=content)).status_code == 503
                await refused("", additional_headers=bearer(good))
    written = "".join(gateway.log)
    for event in ("connection opened", "attempt failed", "token rejected", "store failed"):
        assert event in written
    secrets = [good, bad, key, once, identity, operator, SECRET, IDENTITY_SECRET, password, provider_key]
    secrets += [key.split("_", 2)[2], good.split(".")[2]]
    assert [secret for secret in secrets if secret in written + metrics + "".join(seen)] == []
    assert content not in written + metrics
