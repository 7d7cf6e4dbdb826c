"""Images that models send, through a real upstream and socket, on SQLite and Redis, while a turn runs and afterward."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from providers.fit.media import OWN_IMAGE_NOTE
from providers.media import NOTES
from tests.client import TurnView, client
from tests.credentials import SECRET, bearer, token
from tests.e2e.upstream_gateway import gateway_with_upstream
from tests.gateway_process import gateway_process
from tests.run_queue import RunQueue
from tests.upstream import Script, Upstream, chat, responses, sse
from tests.world import world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

PNG = b"\x89PNG\r\n\x1a\n" + os.urandom(300_000)
ENCODED = base64.b64encode(PNG).decode()


def picture(data: str = ENCODED, media_type: str = "image/png") -> dict[str, Any]:
    return {"images": [{"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}]}


def image_item(data: str = ENCODED) -> Script:
    item = {
        "type": "image_generation_call",
        "id": "ig_1",
        "status": "completed",
        "result": data,
        "output_format": "png",
    }
    body = {"id": "resp_1", "status": "completed", "output": [item], "usage": {"input_tokens": 3, "output_tokens": 9}}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "resp_1", "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": body},
    ]
    return Script(tuple(sse(event, event["type"]) for event in events))


def image_block(data: str = ENCODED) -> Script:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "image", "source": source}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    return Script(tuple(sse(event, event["type"]) for event in events))


def part_frame(view: TurnView, kind: str = "image") -> dict[str, Any]:
    return next(frame for frame in view.frames if frame["type"] == "turn.part" and frame["kind"] == kind)


MODELS = {
    "openai/some-model": (chat(picture()), chat("Yes.")),
    "gpt-6-sol": (image_item(), responses("Yes.")),
    "anthropic/some-model": (image_block(), None),
}


@pytest.mark.parametrize("model", MODELS)
async def test_an_image_is_shown_stored_and_sent_back(tmp_path: Path, model: str) -> None:
    """In every dialect, the image is a part with an address that has its bytes. In the request of the conversation's
    next turn, the user's message has the image, and the model's message has a note instead. The user can also send
    the image by its address."""
    first, _ = MODELS[model]
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        upstream.play(first)
        talk = (await c.request("conversation.create"))["id"]
        await c.request("turn.start", turn="t1", conversation=talk, model=model, input="Draw")
        assert (await c.ending("t1"))["type"] == "turn.completed"
        shown = part_frame(c.turns["t1"])
        assert (shown["media_type"], shown["size"]) == ("image/png", len(PNG))
        assert all(len(json.dumps(frame)) < 16_384 for frame in c.turns["t1"].frames)
        stored = (await c.request("conversation.messages", conversation=talk))["messages"][-1]["parts"]
        assert stored == [{"kind": "image", "media_type": "image/png", "url": shown["url"]}]
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
            answer = await http.get(shown["url"])
        assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", PNG)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]
        look = [{"kind": "text", "text": "Look"}, {"kind": "image", "media_type": "image/png", "url": shown["url"]}]
        for name, asked in (("t2", "And now?"), ("t3", look)):
            upstream.play(MODELS[model][1] or image_block())  # the second answer may be the image again
            await c.request("turn.start", turn=name, conversation=talk, model=model, input=asked)
            assert (await c.ending(name))["type"] == "turn.completed"
        second, third = (json.dumps(request.body) for request in upstream.requests[1:3])
        assert OWN_IMAGE_NOTE in second
        assert (second.count(ENCODED), third.count(ENCODED)) == (1, 2 if MODELS[model][1] else 3)


async def test_a_stateless_turn_keeps_its_image(tmp_path: Path) -> None:
    """The address works after the ending, in `turn.get`, and in the history that the client sends back."""
    asked: list[dict[str, Any]] = [{"role": "user", "parts": [{"kind": "text", "text": "Draw"}]}]
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        upstream.play(chat("Here: ", picture()), chat("Yes."))
        await c.request("turn.start", turn="t1", model="openai/m", messages=asked)
        await c.ending("t1")
        shown = part_frame(c.turns["t1"])
        message = (await c.request("turn.get", turn="t1"))["message"]
        assert message["parts"][1]["url"] == shown["url"]
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
            assert (await http.get(shown["url"])).content == PNG
            assert (await http.get(shown["url"].replace("turn=t1", "turn=t2"))).status_code == 404
            assert (await http.get(shown["url"].replace("parts/1", "parts/0"))).status_code == 404
        again = [{"kind": "image", "media_type": "image/png", "url": shown["url"]}]
        history = [*asked, {"role": "assistant", "parts": message["parts"]}, {"role": "user", "parts": again}]
        await c.request("turn.start", turn="t2", model="openai/m", messages=history)
        assert (await c.ending("t2"))["type"] == "turn.completed"
        sent = json.dumps(upstream.requests[1].body["messages"])
        assert (sent.count(ENCODED), sent.count(OWN_IMAGE_NOTE)) == (2, 1)


async def test_law_12_an_image_belongs_to_its_user(tmp_path: Path) -> None:
    """Law 12: another user doesn't find the image of a running turn or of a stateless one, even with the turn's id."""
    asked = [{"role": "user", "parts": [{"kind": "text", "text": "Draw"}]}]
    settings = {"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET, "OPENAI_API_KEY": "k"}
    async with Upstream() as upstream:
        upstream.play(chat(picture(), *["more "] * 200).replace(rate=20), chat(picture()))
        settings["OPENAI_BASE_URL"] = upstream.openai_url
        async with (
            gateway_process(tmp_path, settings) as gateway,
            client(gateway.ws_url, additional_headers=bearer(token("ann"))) as ann,
            httpx2.AsyncClient(base_url=gateway.url, headers=bearer(token("ann"))) as her,
            httpx2.AsyncClient(base_url=gateway.url, headers=bearer(token("eve"))) as other,
        ):
            await ann.request("turn.start", turn="t1", model="openai/m", input="Draw")
            await ann.until(lambda: "image" in ann.turns["t1"].kinds.values())
            await ann.request("turn.start", turn="t2", model="openai/m", messages=asked)
            await ann.ending("t2")
            for name in ("t1", "t2"):
                url = part_frame(ann.turns[name])["url"]
                assert (await her.get(url)).content == PNG
                missing = await other.get(url)
                assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
            await ann.request("turn.cancel", turn="t1")


async def test_law_7_an_image_of_a_running_turn_is_read_on_any_instance(tmp_path: Path) -> None:
    """Law 7: on Redis, a client of another instance gets the image's part while the turn runs, every instance serves
    the image's bytes, and a client that resumes after the image continues without a gap."""
    async with world(tmp_path) as w, client(w.urls()[0]) as here, client(w.urls()[1]) as there:
        w.upstream.play(chat("Here: ", picture(), *["more "] * 200).replace(rate=20))
        talk = (await here.request("conversation.create"))["id"]
        await here.request("turn.start", turn="t", conversation=talk, model="openai/m", input="Draw")
        await there.request("turn.attach", turn="t")
        pages = [url.replace("ws://", "http://").removesuffix("/ws") for url in w.urls()]
        for c in (here, there):
            await c.until(lambda: "image" in c.turns["t"].kinds.values())  # noqa: B023
        url = part_frame(here.turns["t"])["url"]
        assert part_frame(there.turns["t"])["url"] == url
        for page in pages:
            async with httpx2.AsyncClient(base_url=page, timeout=30) as http:
                answer = await http.get(url)
                assert (answer.status_code, answer.content) == (200, PNG)
                assert (await http.get(url.replace("parts/1", "parts/7"))).status_code == 404
        view = (await there.request("turn.get", turn="t"))["message"]["parts"]
        assert view[1] == {"kind": "image", "media_type": "image/png", "url": url}
        async with client(w.urls()[1]) as late:
            late.resume("t", held := TurnView())
            held.epoch, held.seq = there.turns["t"].epoch, part_frame(there.turns["t"])["seq"]
            answered = await late.request("turn.attach", positions={"t": held.position})
            assert answered["turns"]["t"]["from"] == part_frame(there.turns["t"])["seq"]
            await here.request("turn.cancel", turn="t")
            await late.until(lambda: held.ended is not None)
        for page in pages:
            async with httpx2.AsyncClient(base_url=page, timeout=30) as http:
                assert (await http.get(url)).content == PNG


@pytest.mark.parametrize("background", [True, False])
async def test_law_9_an_image_survives_its_owner(tmp_path: Path, background: bool) -> None:
    """Law 9: the owner is killed after an image. A background response, which the provider keeps, is continued; any
    other answer ends with `owner_lost`. Both have the whole image."""
    words = [f"w{n} " for n in range(60)]
    text = responses(*words)
    created, *rest = text.blocks
    script = text.replace(
        blocks=(created, image_item().blocks[1].replace(b'"output_index": 0', b'"output_index": 1'), *rest)
    )
    rows = tmp_path / "models.toml"
    rows.write_text(f"[providers.openai.quirks]\nbackground = {str(background).lower()}\n")
    async with (
        world(tmp_path, TURNWIRE_MODELS=str(rows)) as w,
        client(w.urls()[1]) as there,
        client(w.urls()[0]) as here,
    ):
        w.upstream.play(script.replace(rate=40))
        talk = (await there.request("conversation.create"))["id"]
        await here.request("turn.start", turn="t", conversation=talk, model="gpt-6-sol", input="Draw")
        await here.until_seq("t", 12)
        await there.request("turn.attach", turn="t")
        await there.until(lambda: "text" in there.turns["t"].kinds.values())
        page = w.urls()[1].replace("ws://", "http://").removesuffix("/ws")
        w.kill(0)
        ending = await there.ending("t", timeout_s=30)
        assert ending["type"] == ("turn.completed" if background else "turn.failed"), ending
        view = there.turns["t"]
        assert (list(view.kinds.values()), view.resets) == (["image", "text"], 0)
        assert view.text() == "".join(words) or not background
        async with httpx2.AsyncClient(base_url=page, timeout=30) as http:
            assert (await http.get(part_frame(view)["url"])).content == PNG


async def test_an_image_that_may_hold_a_script_is_not_served(tmp_path: Path) -> None:
    """A text takes the place of HTML and SVG, and the endpoint has nothing to serve."""
    page = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>").decode()
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        upstream.play(chat(picture(page, "image/svg+xml"), picture(page, "text/html"), picture("***")))
        talk = (await c.request("conversation.create"))["id"]
        await c.request("turn.start", turn="t", conversation=talk, model="openai/m", input="Draw")
        ending = await c.ending("t")
        assert ending["type"] == "turn.completed"
        assert c.turns["t"].text() == f"{NOTES['image']}\n\n{NOTES['other']}"
        async with httpx2.AsyncClient(base_url=gateway.url) as http:
            assert (await http.get(f"/v1/messages/{ending['message']}/parts/0")).status_code == 404


@pytest.mark.timed
async def test_law_11_a_large_image_delays_no_other_turn(tmp_path: Path) -> None:
    """Law 11: while large images arrive, another client's pings are answered within 0.1 s. A text takes the place of
    the second image, which exceeds the answer's maximum size. An image of 20 MB fails the turn with `upstream_error`.

    The time that a process waits for a core isn't counted.
    """
    large = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(4_500_000)).decode()
    other = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(4_500_000)).decode()
    huge = base64.b64encode(os.urandom(20_000_000)).decode()
    async with Upstream() as upstream, gateway_with_upstream(upstream, tmp_path) as (gateway, c):
        async with client(gateway.ws_url) as pinging:
            upstream.play(chat(picture(large), picture(other), "Two."), chat(picture(huge)))
            delays: list[float] = []
            queue = RunQueue(gateway.process.pid, os.getpid())

            async def ping() -> None:
                while True:
                    began = queue.sample()
                    await pinging.request("ping")
                    ended = queue.sample()
                    delays.append(ended - began - queue.waited_s(began, ended))
                    await asyncio.sleep(0.005)

            pings = asyncio.create_task(ping())
            await c.request("turn.start", turn="t1", model="openai/m", input="Draw")
            assert (await c.ending("t1"))["type"] == "turn.completed"
            await c.request("turn.start", turn="t2", model="openai/m", input="Draw")
            failed = await c.ending("t2")
            pings.cancel()
            queue.close()
        view = c.turns["t1"]
        assert list(view.kinds.values()) == ["image", "text", "text"]
        assert view.text() == "[The model sent an image that is too large for this answer.]Two."
        assert (failed["error"]["code"], failed["error"]["retryable"]) == ("upstream_error", False)
        assert len(upstream.requests) == 2, "the image isn't requested, and paid for, again"
        assert sorted(delays)[len(delays) * 99 // 100] < 0.1
        async with httpx2.AsyncClient(base_url=gateway.url, timeout=30) as http:
            assert base64.b64encode((await http.get(part_frame(view)["url"])).content).decode() == large
