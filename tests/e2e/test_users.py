"""The export and the erasure of a user, on running gateways: over HTTP, by the commands, and proven by a canary."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from tests.client import Client, client
from tests.credentials import IDENTITY_SECRET, SECRET, KeyFile, bearer, token
from tests.gateway_process import GatewayProcess, clean_environment, gateway_process
from tests.redis_process import RedisProcess, redis_process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
USER = "canary|user/1"
AUTH = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "TURNWIRE_LOG_USERS": "hash"}
ADMIN = bearer(token("ops", scope="admin"))
PATH = f"/v1/users/{quote(USER, safe='')}"
DATA = "Y2FuYXJ5" * 1000
"""The data of an image, larger than what a page shows."""


def connect(gateway: GatewayProcess, user: str = USER, **claims: Any) -> Any:
    """Connect as the user."""
    return client(gateway.ws_url, additional_headers=bearer(token(user, **claims)))


async def create_data(c: Client) -> dict[str, str]:
    """Create all kinds of data of a user: turns with and without a conversation, an image, a rating. Return the ids."""
    image = {"kind": "image", "media_type": "image/png", "data": DATA}
    parts = [{"kind": "text", "text": "a canaryword of mine"}, image]
    made = await c.request("turn.start", turn="t1", input=parts, metadata={"k": "canary"})
    ended = await c.ending("t1")
    await c.request("turn.start", turn="t2", messages=[{"role": "user", "parts": [{"kind": "text", "text": "canary"}]}])
    await c.ending("t2")
    page = await c.request("conversation.messages", conversation=made["conversation"])
    answer = page["messages"][-1]["id"]
    await c.request("feedback.put", message=answer, rating="up", comment="canarycomment")
    assert ended["type"] == "turn.completed"
    return {"conversation": made["conversation"], "answer": answer}


async def export(http: httpx2.AsyncClient, path: str = f"{PATH}/export", **headers: str) -> list[dict[str, Any]]:
    """Return the lines of an export."""
    got = await http.get(path, headers=headers or ADMIN)
    assert got.status_code == 200, got.text
    assert got.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in got.text.splitlines()]


@asynccontextmanager
async def on_redis(folder: Path) -> AsyncIterator[tuple[RedisProcess, GatewayProcess, GatewayProcess]]:
    """Start two gateways on one Redis. On exit, stop them."""
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(redis_process(folder / "redis"))
        redis.execute("CONFIG", "SET", "rdbcompression", "no")
        one, two = [await stack.enter_async_context(gateway_process(folder, AUTH, store=redis.url)) for _ in range(2)]
        yield redis, one, two


async def test_an_erased_user_leaves_no_trace_in_redis(tmp_path: Path) -> None:
    """A turn that runs on the other instance is cancelled, the sockets are closed for good on both, and neither a key, a value,
    the dump nor a log names the user. An export has everything before, and nothing after. Erasing again is harmless."""
    async with on_redis(tmp_path) as (redis, one, two):
        async with (
            connect(one) as here,
            connect(two) as there,
            connect(one, "bob") as bob,
            httpx2.AsyncClient(base_url=two.url) as http,
        ):
            ids = await create_data(here)
            revoked = {"user": USER, "before": "2000-01-01T00:00:00Z"}  # outlives the erasure, and locks nobody out
            assert (await http.post("/v1/revocations", json=revoked, headers=ADMIN)).status_code == 200
            await bob.request("conversation.create", title="something of bob")
            assert (await http.post("/v1/tickets", headers=bearer(token(USER)))).status_code == 200
            lines = await export(http)
            assert [line["kind"] for line in lines] == ["user", "conversation", "message", "message", "usage", "end"]
            assert lines[0]["user"] == USER
            assert lines[1]["id"] == ids["conversation"]
            assert (lines[2]["rating"], lines[2]["comment"], lines[2]["conversation"]) == (
                "up",
                "canarycomment",
                ids["conversation"],
            )
            assert lines[3]["parts"][1]["data"] == DATA
            assert (lines[4]["turns"], lines[5]["messages"]) == (2, 2)
            await here.request("conversation.attach", conversation=ids["conversation"])
            await there.request("turn.start", turn="t3", input="x", params={"demo": {"rate": 20, "tokens": 5000}})
            await there.until_seq("t3", 4)
            erased = await http.delete(PATH, headers=ADMIN, timeout=30)
            assert (erased.status_code, erased.json()) == (200, {})
            for socket in (here, there):
                assert (await socket.until_closed())[0] == 4403
            redis.execute("SAVE")
            assert b"canary" not in Path(redis.execute("CONFIG", "GET", "dir")[1].decode(), "dump.rdb").read_bytes()
            named = [key for key in redis.keys() if b"canary" in key or b"canary" in redis.execute("DUMP", key)]
            assert named == []
            assert [line["kind"] for line in await export(http)] == ["user", "end"]
            assert (await http.delete(PATH, headers=ADMIN, timeout=30)).status_code == 200
            assert len((await bob.request("conversation.list", query="bob"))["conversations"]) == 1
            async with connect(one) as again:
                assert (await again.request("conversation.list"))["conversations"] == []
                await again.request("turn.start", turn="t1", input="a new beginning")
                assert (await again.ending("t1"))["type"] == "turn.completed"
        log = "".join(one.log + two.log)
        assert "user erased" in log
        assert "canary" not in log


async def test_an_erased_user_leaves_no_trace_in_files(tmp_path: Path) -> None:
    """With the embedded store, the commands export and erase; nothing is in any file of the folder, nor in the log."""
    admin_token = tmp_path / "token"
    admin_token.write_text(token("ops", scope="admin"))
    folder = tmp_path / "data"
    folder.mkdir()
    async with gateway_process(folder, AUTH) as gateway:

        async def admin(*arguments: str) -> str:
            command = (sys.executable, "-m", "gateway", "admin", "--url", gateway.url, "--token", f"@{admin_token}")
            environment = clean_environment({})
            done = await asyncio.to_thread(
                subprocess.run,
                (*command, *arguments),
                env=environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        async with connect(gateway) as c:
            await create_data(c)
            lines = (await admin("export", USER)).splitlines()
            assert [json.loads(line)["kind"] for line in lines][-1] == "end"
            assert any(b"canary" in path.read_bytes() for path in folder.iterdir())
            assert await admin("erase", USER) == f"{USER}: erased\n"
            assert (await c.until_closed())[0] == 4403
        assert [path.name for path in folder.iterdir() if b"canary" in path.read_bytes().lower()] == []
        assert len((await admin("export", USER)).splitlines()) == 2
    assert "canary" not in "".join(gateway.log)


async def test_who_may_export_and_erase(tmp_path: Path) -> None:
    """Users may do it for themselves, by `me` or by name, if their credential could read or delete each conversation; for
    others the scope `admin` is needed."""
    async with gateway_process(tmp_path, AUTH) as gateway, httpx2.AsyncClient(base_url=gateway.url) as http:
        async with connect(gateway, "ann") as ann:
            await create_data(ann)
        for path in ("/v1/users/me", "/v1/users/ann"):
            lines = await export(http, f"{path}/export", **bearer(token("ann", scope="read")))
            assert (lines[0]["user"], len(lines)) == ("ann", 6)
            refused = await http.delete(path, headers=bearer(token("ann", scope="read")))
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        for method, path in (("GET", "/v1/users/ann/export"), ("DELETE", "/v1/users/ann")):
            assert (await http.request(method, path, headers=bearer(token("bob")))).status_code == 403
            assert (await http.request(method, path)).status_code == 401
        assert (await http.head("/v1/users/me/export", headers=bearer(token("ann")))).status_code == 200
        for path in ("/v1/users/", "/v1/users/" + "x" * 2000, "/v1/users/a%00b"):
            assert (await http.delete(path, headers=ADMIN)).status_code == 400, path
        assert (await http.delete("/v1/users/me", headers=bearer(token("ann")), timeout=30)).status_code == 200
        assert len(await export(http, "/v1/users/ann/export")) == 2


async def test_a_user_cannot_burden_the_store_with_erasures(tmp_path: Path) -> None:
    """An erasure looks through all data of the store. A user who repeats it is refused for a while; an administrator isn't."""
    async with gateway_process(tmp_path, AUTH) as gateway, httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
        many = await asyncio.gather(*(http.delete("/v1/users/me", headers=bearer(token("ann"))) for _ in range(10)))
        assert sorted(one.status_code for one in many) == [200, *[429] * 9]
        again = await http.delete("/v1/users/ann", headers=bearer(token("ann")))
        assert (again.status_code, again.json()["error"]["code"]) == (429, "rate_limited")
        assert 0 < int(again.headers["retry-after"]) <= 60
        assert (await http.delete("/v1/users/me", headers=bearer(token("bob")))).status_code == 200
        for path in ("/v1/users/ann", "/v1/users/ann", "/v1/users/me"):
            assert (await http.delete(path, headers=bearer(token("ops", scope="admin chat")))).status_code == 200


async def test_a_retention_claim_that_is_wrong_is_refused(tmp_path: Path) -> None:
    """The error names the claim and its bounds; a valid one is stored with the user's conversations."""
    async with gateway_process(tmp_path, AUTH) as gateway, httpx2.AsyncClient(base_url=gateway.url) as http:
        for wrong in (-1, 36_501, 1.5, "7", True, [7]):
            refused = await http.get("/v1/models", headers=bearer(token("ann", retention_days=wrong)))
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthenticated")
            assert "retention_days" in refused.json()["error"]["message"]
        headers = bearer(token("ann", retention_days=7))
        await http.post("/v1/conversations", json={"title": "x"}, headers=headers)
        assert (await export(http, "/v1/users/me/export", **headers))[1]["retention_days"] == 7


async def test_a_service_exports_and_erases_the_users_that_it_acts_for(tmp_path: Path) -> None:
    """It names the user in a signed header, or, with the scope `as`, in the path. Its own scopes must allow the request."""
    keys = KeyFile(tmp_path)
    service, reader = bearer(keys.add_service()), bearer(keys.add_service("reader", {"as", "read"}))
    secrets = {
        "TURNWIRE_AUTH": "jwt,keys",
        "TURNWIRE_API_KEYS": str(keys.path),
        "TURNWIRE_IDENTITY_SECRET": IDENTITY_SECRET,
    }
    settings = {**AUTH, **secrets}
    async with gateway_process(tmp_path, settings) as gateway, httpx2.AsyncClient(base_url=gateway.url) as http:

        async def titles(user: str) -> list[str]:
            lines = await export(http, f"/v1/users/{user}/export", **service)
            assert lines[0]["user"] == user
            return [line["title"] for line in lines if line["kind"] == "conversation"]

        for user in ("ann", "bob", "eve"):
            made = await http.post("/v1/conversations", json={"title": f"of {user}"}, headers=bearer(token(user)))
            assert made.status_code == 201
        named = {**service, "X-Turnwire-Identity": token("ann", IDENTITY_SECRET)}
        assert (await export(http, "/v1/users/me/export", **named))[0]["user"] == "ann"
        refused = await http.delete("/v1/users/bob", headers=named)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await http.delete("/v1/users/me", headers=named, timeout=30)).status_code == 200
        assert [await titles(user) for user in ("ann", "bob", "eve")] == [[], ["of bob"], ["of eve"]]
        assert (await export(http, "/v1/users/bob/export", **reader))[1]["title"] == "of bob"
        for path in ("/v1/users/bob", "/v1/users/service:other"):
            assert (await http.delete(path, headers=reader)).status_code == 403, path
        assert (await http.delete("/v1/users/bob", headers=service, timeout=30)).status_code == 200
        assert [await titles(user) for user in ("bob", "eve")] == [[], ["of eve"]]


async def test_a_user_may_be_named_me(tmp_path: Path) -> None:
    """An administrator reaches it with `exact`; without it, `me` is the administrator itself."""
    async with gateway_process(tmp_path, AUTH) as gateway, httpx2.AsyncClient(base_url=gateway.url) as http:
        assert (
            await http.post("/v1/conversations", json={"title": "x"}, headers=bearer(token("me")))
        ).status_code == 201
        own = await export(http, "/v1/users/me/export", **bearer(token("ops", scope="admin read")))
        assert (own[0]["user"], len(own)) == ("ops", 2)
        lines = await export(http, "/v1/users/me/export?exact=true")
        assert (lines[0]["user"], lines[1]["title"]) == ("me", "x")
        refused = await http.get("/v1/users/me/export?exact=true", headers=bearer(token("bob")))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")
        assert (await http.delete("/v1/users/me?exact=true", headers=ADMIN, timeout=30)).status_code == 200
        assert len(await export(http, "/v1/users/me/export?exact=true")) == 2
