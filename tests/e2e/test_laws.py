"""Laws 1 to 3, 5 to 8, 10 and 13 of docs/protocol.md, over a real socket to a real gateway process."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, RequestFailed, TurnView, client, small_buffer_socket
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.in_time import checks_time_limit, within

pytestmark = pytest.mark.e2e


async def start(client: Client, turn: str, prompt: str = "Hello", **fields: Any) -> Any:
    """Start a demo turn."""
    demo = fields.pop("demo", {})
    if "text" not in demo:
        demo = {"rate": 200, "tokens": 60, **demo}
    return await client.request("turn.start", turn=turn, input=prompt, params={"demo": demo}, **fields)


async def test_law_1_and_2_every_turn_is_contiguous_and_ends_once(gateway: GatewayProcess) -> None:
    """Laws 1 and 2: each of twenty interleaved turns arrives without a gap and ends exactly once, as the client
    checks."""
    async with client(gateway.ws_url) as c:
        for n in range(20):
            await start(c, f"t{n}", f"Question {n}")
        for n in range(20):
            ended = await c.ending(f"t{n}")
            assert ended["type"] == "turn.completed"
            assert c.turns[f"t{n}"].text() == expected(f"Question {n}", {"rate": 200, "tokens": 60})
        await c.request("ping")


async def test_law_1_frames_are_merged_for_a_slow_client(
    gateway: GatewayProcess,
) -> None:
    """Law 1: a fast turn arrives in fewer frames than events, `after` names the events that each frame covers, and the
    text is complete."""
    async with (
        client(gateway.ws_url, sock=small_buffer_socket(gateway.ws_url), max_queue=1) as c,
        client(gateway.ws_url) as other,
    ):
        demo = {"rate": 0, "tokens": 20_000}
        c.reading.clear()
        await c.send("turn.start", turn="flood", input="Hello", params={"demo": demo})
        await other.until_status("flood", "completed")
        c.reading.set()
        await c.ending("flood")
        view = c.turns["flood"]
        assert view.text() == expected("Hello", demo)
        merged = [frame for frame in view.frames if "after" in frame]
        assert merged
        assert len(view.frames) < view.seq


async def test_law_3_the_message_is_stored_before_the_end_event(gateway: GatewayProcess) -> None:
    """Law 3: when a client gets the end event, the message is in the history with the same usage."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        conversation = (await start(c, "t"))["conversation"]
        ended = await c.ending("t")
        messages = (await other.request("conversation.messages", conversation=conversation))["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert messages[1]["id"] == ended["message"]
        assert messages[1]["parts"] == [{"kind": "text", "text": c.turns["t"].text()}]
        assert messages[1]["usage"] == ended["usage"]
        assert messages[1]["ended"] == "completed"
        assert (await other.request("conversation.get", conversation=conversation))["head"] == ended["message"]


async def test_law_5_no_delta_follows_the_result_of_a_cancel(gateway: GatewayProcess) -> None:
    """Law 5: no delta follows the result, other turns continue, and the text until then is stored."""
    async with client(gateway.ws_url) as c:
        conversation = (await start(c, "stop", demo={"tokens": 5000}))["conversation"]
        await start(c, "go", "Another")
        await c.until_seq("stop", 20)
        assert await c.request("turn.cancel", turn="stop", reason="enough") == {"turns": {"stop": "cancelled"}}
        answered_at = len(c.frames)
        ended = await c.ending("stop")
        assert ended["type"] == "turn.cancelled"
        assert (ended["by"], ended["reason"]) == ("client", "enough")
        late = [f for f in c.frames[answered_at:] if f.get("turn") == "stop" and f["type"] == "turn.delta"]
        assert late == []
        text = c.turns["stop"].text()
        assert expected("Hello", {"rate": 200, "tokens": 5000}).startswith(text)
        messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["parts"] == [{"kind": "text", "text": text}]
        assert messages[-1]["ended"] == "cancelled"
        assert (await c.ending("go"))["type"] == "turn.completed"


@pytest.mark.timed
@checks_time_limit
async def test_law_5_a_cancel_from_another_connection_takes_effect_soon(gateway: GatewayProcess) -> None:
    """Law 5: other attachments get the end event soon after another connection's cancel request."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        await start(c, "t", demo={"tokens": 5000})
        await c.until_seq("t", 5)
        with within(1):  # 150 ms on a quiet machine
            await other.request("turn.cancel", turn="t")
            await c.ending("t")


@pytest.mark.parametrize("scope", ["turn", "turns", "conversation", "mine"])
async def test_law_5_every_scope_of_cancel(gateway: GatewayProcess, scope: str) -> None:
    """Law 5: a turn, a list, a conversation or all turns of the user are cancelled; the other turns continue."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]
        for turn in ("a", "b"):
            await start(c, turn, demo={"tokens": 3000}, conversation=conversation)
        await start(c, "other", demo={"tokens": 100})
        scopes: dict[str, dict[str, Any]] = {
            "turn": {"turn": "a"},
            "turns": {"turns": ["a", "b", "nobody"]},
            "conversation": {"conversation": conversation},
            "mine": {"mine": True},
        }
        stopped: dict[str, str] = {
            "turn": {"a": "cancelled"},
            "turns": {"a": "cancelled", "b": "cancelled", "nobody": "not_found"},
            "conversation": {"a": "cancelled", "b": "cancelled"},
            "mine": {"a": "cancelled", "b": "cancelled", "other": "cancelled"},
        }[scope]
        assert await c.request("turn.cancel", **scopes[scope]) == {"turns": stopped}
        assert (await c.ending("a"))["type"] == "turn.cancelled"
        if scope != "mine":
            assert (await c.ending("other"))["type"] == "turn.completed"
        assert await c.request("turn.cancel", turn="a") == {"turns": {"a": "already_ended"}}
        await c.request("turn.cancel", mine=True)


async def test_law_5_cancel_directly_after_the_start(
    gateway: GatewayProcess,
) -> None:
    """Law 5: a cancel request sent on the same socket directly after the start, without waiting for its result, cancels
    the turn."""
    async with client(gateway.ws_url) as c:
        await c.send("turn.start", id="s", turn="t", input="Hi", params={"demo": {"first_ms": 60_000}})
        await c.send("turn.cancel", id="c", turn="t")
        assert await c.answer("c") == {"turns": {"t": "cancelled"}}
        assert (await c.answer("s"))["turn"] == "t"
        ended = await c.ending("t")
        assert ended["type"] == "turn.cancelled"
        assert c.turns["t"].text() == ""


async def test_law_5_cancel_of_a_queued_turn(gateway: GatewayProcess) -> None:
    """Law 5: a turn in its conversation's queue is cancelled without having run."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]
        await start(c, "a", demo={"tokens": 3000}, conversation=conversation)
        queued = await start(c, "b", conversation=conversation, on_busy="queue")
        assert queued["status"] == "queued"
        assert await c.request("turn.cancel", turn="b") == {"turns": {"b": "cancelled"}}
        assert (await c.ending("b"))["type"] == "turn.cancelled"
        assert c.turns["a"].ended is None
        await c.request("turn.cancel", turn="a")


async def test_law_6_a_repeated_start_runs_once(gateway: GatewayProcess) -> None:
    """Law 6: a start with the same id and content is `attached` on any connection; with other content it is a
    `conflict`."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        first = await start(c, "t", metadata={"try": 1})
        assert first["status"] == "running"
        again = await start(c, "t", metadata={"try": 2}, on_disconnect="cancel")
        assert again == {**first, "status": "attached"}
        assert (await start(other, "t"))["status"] == "attached"
        with pytest.raises(RequestFailed) as refused:
            await start(other, "t", "Something else")
        assert refused.value.code == "conflict"
        for each in (c, other):
            await each.ending("t")
            assert each.turns["t"].text() == expected("Hello", {"rate": 200, "tokens": 60})
        messages = await c.request("conversation.messages", conversation=first["conversation"])
        assert len(messages["messages"]) == 2
        assert (await start(other, "t"))["status"] == "attached"


async def test_law_6_concurrent_starts_run_once(gateway: GatewayProcess) -> None:
    """Law 6: of concurrent starts with one id exactly one runs, and all get the same turn."""
    async with client(gateway.ws_url) as a, client(gateway.ws_url) as b:
        answers = await asyncio.gather(start(a, "t"), start(b, "t"), start(a, "t"), start(b, "t"))
        assert sorted(answer["status"] for answer in answers) == ["attached"] * 3 + ["running"]
        assert len({answer["conversation"] for answer in answers}) == 1
        await a.ending("t")
        await b.ending("t")
        assert a.turns["t"].text() == b.turns["t"].text() == expected("Hello", {"rate": 200, "tokens": 60})


async def test_law_7_attach_from_any_position(gateway: GatewayProcess) -> None:
    """Law 7: a client that is disconnected after any event and attaches again while the turn runs gets each event
    once."""
    pick = random.Random(7)
    demo = {"rate": 300, "tokens": 300}
    async with client(gateway.ws_url) as c:
        await start(c, "t", demo=demo)
        view = TurnView()
        while view.ended is None:
            async with client(gateway.ws_url) as resuming:
                resuming.resume("t", view)
                held = view.position if view.epoch else {"epoch": 0, "seq": 0}
                answer = await resuming.request("turn.attach", positions={"t": held})
                assert answer["turns"]["t"]["from"] == held["seq"]
                view = resuming.turns["t"]
                wanted = view.seq + pick.randint(1, 40)
                await resuming.until(lambda: view.seq >= wanted or view.ended is not None)  # noqa: B023
        assert view.text() == expected("Hello", demo)
        assert view.resets == 0


async def test_law_7_an_unknown_position_is_answered_with_a_reset(gateway: GatewayProcess) -> None:
    """Law 7: an unknown epoch gets `from` 0, a reset and a replay; an unknown turn is `not_found`."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        await start(c, "t")
        await c.ending("t")
        answer = await other.request("turn.attach", turn="t", epoch=5, after=3)
        assert answer["turns"]["t"]["from"] == 0
        await other.ending("t")
        assert other.turns["t"].resets == 1
        assert other.turns["t"].text() == c.turns["t"].text()
        answer = await other.request(
            "turn.attach", positions={"t": c.turns["t"].position, "nobody": {"epoch": 1, "seq": 0}}
        )
        assert answer["turns"]["t"]["from"] == c.turns["t"].seq
        assert answer["turns"]["nobody"]["error"]["code"] == "not_found"


async def test_law_7_a_replay_is_merged(gateway: GatewayProcess) -> None:
    """Law 7: a long answer is replayed in a few frames."""
    demo = {"rate": 0, "tokens": 5000}
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as late:
        await start(c, "t", demo=demo)
        await c.ending("t")
        await late.request("turn.attach", turn="t")
        await late.ending("t")
        assert late.turns["t"].text() == expected("Hello", demo)
        assert len(late.turns["t"].frames) <= 10


async def test_law_8_a_turn_outlives_its_connection(gateway: GatewayProcess) -> None:
    """Law 8: the socket is closed in the middle of the turn, and the turn completes normally."""
    async with client(gateway.ws_url) as c:
        conversation = (await start(c, "t"))["conversation"]
        await c.until_seq("t", 10)
    async with client(gateway.ws_url) as later:
        await later.request("turn.attach", turn="t")
        assert (await later.ending("t"))["type"] == "turn.completed"
        assert later.turns["t"].text() == expected("Hello", {"rate": 200, "tokens": 60})
        got = await later.request("turn.get", turn="t")
        assert (got["status"], got["conversation"]) == ("completed", conversation)


async def test_law_8_cancel_on_disconnect_of_the_last_attachment(tmp_path: Path) -> None:
    """Law 8: with `on_disconnect: cancel` a turn is cancelled after no client has been attached for the grace period. A
    turn that another client is attached to continues, and so does a turn without this option."""
    async with (
        gateway_process(tmp_path, {"TURNWIRE_DISCONNECT_GRACE_S": "0.4"}) as gateway,
        client(gateway.ws_url) as observer,
    ):
        long = {"tokens": 5000}
        async with client(gateway.ws_url) as c:
            conversation = (await start(c, "left", demo=long, on_disconnect="cancel"))["conversation"]
            await start(c, "kept", demo=long, on_disconnect="cancel")
            await start(c, "goes-on", demo=long)
            await observer.request("turn.attach", turn="kept")
        await observer.until_status("left", "cancelled")
        for turn in ("kept", "goes-on"):
            assert (await observer.request("turn.get", turn=turn))["status"] == "running"
        messages = (await observer.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["ended"] == "cancelled"
        await observer.request("turn.attach", turn="left")
        assert (await observer.ending("left"))["by"] == "disconnect"
        await observer.request("turn.cancel", mine=True)


async def test_law_10_a_large_result_is_sent_in_pieces(gateway: GatewayProcess) -> None:
    """Law 10: a page of messages larger than a frame is sent in pieces; the client checks the size of every frame."""
    demo = {"rate": 0, "text": "\u0001\u0002 tab\t 漢字 🙂 " * 1000}
    for codec in ("json", "msgpack"):
        async with client(gateway.ws_url, codec=codec) as c:
            conversation = (await start(c, f"t-{codec}", "ü" * 12_000, demo=demo))["conversation"]
            await c.ending(f"t-{codec}")
            assert c.turns[f"t-{codec}"].frames[0]["input"]["truncated"] is True
            page = await c.request("conversation.messages", conversation=conversation)
            assert page["messages"][0]["parts"] == [{"kind": "text", "text": "ü" * 12_000}]
            assert page["messages"][1]["parts"] == [{"kind": "text", "text": demo["text"]}]
            assert any(frame["type"] == "result.piece" for frame in c.frames)


async def test_law_13_a_providers_failure_has_a_fixed_code(gateway: GatewayProcess) -> None:
    """Law 13: a provider's failure has one of the protocol's codes and only documented fields."""
    async with client(gateway.ws_url) as c:
        for fail, code in {
            "mid": "upstream_error",
            "overloaded": "upstream_overloaded",
            "cut": "upstream_incomplete",
        }.items():
            await start(c, fail, demo={"fail": fail, "fail_after": 5})
            ended = await c.ending(fail)
            assert ended["type"] == "turn.failed"
            assert ended["error"]["code"] == code
            assert set(ended["error"]) <= {"code", "message", "retryable", "retry_after_ms"}


async def test_json_and_messagepack_have_the_same_events(gateway: GatewayProcess) -> None:
    """A scripted turn has the same events over both codecs and without a subprotocol, except for ids and times."""
    seen = {}
    for codec in ("json", "msgpack", None):
        async with client(gateway.ws_url, codec=codec) as c:
            demo = {"rate": 100, "tokens": 20, "thinking": 5, "tool": True}
            tools = [{"name": "clock", "parameters": {"type": "object"}}]
            turn = f"t-{codec}"
            await start(c, turn, demo=demo, tools=tools)
            await c.ending(turn)
            seen[codec] = _comparable(c.turns[turn])
    assert seen["json"] == seen["msgpack"] == seen[None]
    kinds = [frame["kind"] for frame in seen["json"] if frame["type"] == "turn.part"]
    assert {"reasoning", "tool_call"} <= set(kinds)


def _comparable(view: TurnView) -> list[dict[str, Any]]:
    """Return the events without the fields that differ between turns. Adjacent deltas are joined, as frames may be
    merged."""
    joined: list[dict[str, Any]] = []
    for frame in view.frames:
        volatile = {"turn", "epoch", "conversation", "message", "parent", "input", "call", "timing", "after"}
        kept = {key: value for key, value in frame.items() if key not in volatile}
        if kept["type"] == "turn.delta" and joined and joined[-1]["type"] == "turn.delta":
            if joined[-1]["part"] == kept["part"]:
                joined[-1] = {**kept, "text": joined[-1]["text"] + kept["text"]}
                continue
        joined.append(kept)
    return joined
