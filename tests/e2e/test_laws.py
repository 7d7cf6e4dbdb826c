"""The laws of docs/protocol.md, each over a real socket to a real gateway process."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client, RequestFailed, TurnView, client, small_buffer_socket
from tests.demo import expected
from tests.gateway_process import GatewayProcess, gateway_process
from tests.in_time import bounds_a_time, within

pytestmark = pytest.mark.e2e


async def start(client: Client, turn: str, prompt: str = "Hello", **fields: Any) -> Any:
    """Start a demo turn."""
    demo = fields.pop("demo", {})
    if "text" not in demo:
        demo = {"rate": 200, "tokens": 60, **demo}
    return await client.request("turn.start", turn=turn, input=prompt, params={"demo": demo}, **fields)


async def test_law_1_and_2_every_turn_is_contiguous_and_ends_once(gateway: GatewayProcess) -> None:
    """Laws 1 and 2: twenty interleaved turns each arrive without a gap and end exactly once (the client checks)."""
    async with client(gateway.ws_url) as c:
        for n in range(20):
            await start(c, f"t{n}", f"Question {n}")
        for n in range(20):
            ended = await c.ending(f"t{n}")
            assert ended["type"] == "turn.completed"
            assert c.turns[f"t{n}"].text() == expected(f"Question {n}", {"rate": 200, "tokens": 60})
        await c.request("ping")


async def test_law_1_merges_for_a_client_that_is_behind_without_losing_a_character(
    gateway: GatewayProcess,
) -> None:
    """Law 1: a flood arrives in fewer frames than events, `after` says what each covers, the text is whole."""
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


async def test_law_3_whoever_sees_an_ending_finds_the_message(gateway: GatewayProcess) -> None:
    """Law 3: at the moment of the ending the message is in the history, with the ending's usage."""
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


async def test_law_5_the_answer_to_a_cancel_stands_behind_the_last_delta(gateway: GatewayProcess) -> None:
    """Law 5: after the answer no delta follows, the others go on, and what was said is kept."""
    async with client(gateway.ws_url) as c:
        conversation = (await start(c, "stop", demo={"tokens": 5000}))["conversation"]
        await start(c, "go", "Another")
        await c.deltas("stop", 20)
        assert await c.request("turn.cancel", turn="stop", reason="enough") == {"turns": {"stop": "cancelled"}}
        answered_at = len(c.frames)
        ended = await c.ending("stop")
        assert ended["type"] == "turn.cancelled"
        assert (ended["by"], ended["reason"]) == ("client", "enough")
        late = [f for f in c.frames[answered_at:] if f.get("turn") == "stop" and f["type"] == "turn.delta"]
        assert late == []
        said = c.turns["stop"].text()
        assert expected("Hello", {"rate": 200, "tokens": 5000}).startswith(said)
        messages = (await c.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["parts"] == [{"kind": "text", "text": said}]
        assert messages[-1]["ended"] == "cancelled"
        assert (await c.ending("go"))["type"] == "turn.completed"


@pytest.mark.timed
@bounds_a_time
async def test_law_5_cancel_works_from_another_connection_within_150_ms(gateway: GatewayProcess) -> None:
    """Law 5: every other attachment has the ending soon after another connection asked."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        await start(c, "t", demo={"tokens": 5000})
        await c.deltas("t", 5)
        with within(1):  # 150 ms on a quiet machine; this one is shared
            await other.request("turn.cancel", turn="t")
            await c.ending("t")


@pytest.mark.parametrize("scope", ["turn", "turns", "conversation", "mine"])
async def test_law_5_every_scope_of_cancel(gateway: GatewayProcess, scope: str) -> None:
    """Law 5: one turn, a list, a conversation or all of a user's are stopped; the rest goes on."""
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


async def test_law_5_cancel_right_behind_the_start_and_before_the_first_token(
    gateway: GatewayProcess,
) -> None:
    """Law 5: a cancel that follows its start on the same socket, without waiting, stops the turn."""
    async with client(gateway.ws_url) as c:
        await c.send("turn.start", id="s", turn="t", input="Hi", params={"demo": {"first_ms": 60_000}})
        await c.send("turn.cancel", id="c", turn="t")
        assert await c.answer("c") == {"turns": {"t": "cancelled"}}
        assert (await c.answer("s"))["turn"] == "t"
        ended = await c.ending("t")
        assert ended["type"] == "turn.cancelled"
        assert c.turns["t"].text() == ""


async def test_law_5_cancel_while_queued(gateway: GatewayProcess) -> None:
    """Law 5: a turn that waits in its conversation's queue is stopped without having run."""
    async with client(gateway.ws_url) as c:
        conversation = (await c.request("conversation.create"))["id"]
        await start(c, "a", demo={"tokens": 3000}, conversation=conversation)
        queued = await start(c, "b", conversation=conversation, on_busy="queue")
        assert queued["status"] == "queued"
        assert await c.request("turn.cancel", turn="b") == {"turns": {"b": "cancelled"}}
        assert (await c.ending("b"))["type"] == "turn.cancelled"
        assert c.turns["a"].ended is None
        await c.request("turn.cancel", turn="a")


async def test_law_6_a_repeated_start_never_asks_again(gateway: GatewayProcess) -> None:
    """Law 6: the same id and content is `attached`, here and elsewhere; another content is `conflict`."""
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


async def test_law_6_two_starts_at_the_same_moment(gateway: GatewayProcess) -> None:
    """Law 6: of simultaneous starts with one id exactly one runs, and all get the same turn."""
    async with client(gateway.ws_url) as a, client(gateway.ws_url) as b:
        answers = await asyncio.gather(start(a, "t"), start(b, "t"), start(a, "t"), start(b, "t"))
        assert sorted(answer["status"] for answer in answers) == ["attached"] * 3 + ["running"]
        assert len({answer["conversation"] for answer in answers}) == 1
        await a.ending("t")
        await b.ending("t")
        assert a.turns["t"].text() == b.turns["t"].text() == expected("Hello", {"rate": 200, "tokens": 60})


async def test_law_7_attach_without_a_seam_from_every_position(gateway: GatewayProcess) -> None:
    """Law 7: dropped after any event and attached anew while the turn runs, a client has each event once."""
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


async def test_law_7_a_position_that_cant_be_continued_is_answered(gateway: GatewayProcess) -> None:
    """Law 7: an epoch that never was gives `from` 0, a reset, and a replay; an unknown turn gives `not_found`."""
    async with client(gateway.ws_url) as c, client(gateway.ws_url) as other:
        await start(c, "t")
        await c.ending("t")
        answer = await other.request("turn.attach", turn="t", epoch=5, after=3)
        assert answer["turns"]["t"]["from"] == 0
        await other.ending("t")
        assert other.turns["t"].text() == c.turns["t"].text()
        answer = await other.request(
            "turn.attach", positions={"t": c.turns["t"].position, "nobody": {"epoch": 1, "seq": 0}}
        )
        assert answer["turns"]["t"]["from"] == c.turns["t"].seq
        assert answer["turns"]["nobody"]["error"]["code"] == "not_found"


async def test_law_7_replay_is_merged(gateway: GatewayProcess) -> None:
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
    """Law 8: the socket goes in the middle, the turn ends as if nothing had happened."""
    async with client(gateway.ws_url) as c:
        conversation = (await start(c, "t"))["conversation"]
        await c.deltas("t", 10)
    async with client(gateway.ws_url) as later:
        await later.request("turn.attach", turn="t")
        assert (await later.ending("t"))["type"] == "turn.completed"
        assert later.turns["t"].text() == expected("Hello", {"rate": 200, "tokens": 60})
        got = await later.request("turn.get", turn="t")
        assert (got["status"], got["conversation"]) == ("completed", conversation)


async def test_law_8_cancel_on_disconnect_when_nobody_is_left(tmp_path: Path) -> None:
    """Law 8: with `on_disconnect: cancel` the turn ends when its last attachment is gone for the grace, not before."""
    async with (
        gateway_process(tmp_path, {"TURNWIRE_DISCONNECT_GRACE_S": "0.4"}) as gateway,
        client(gateway.ws_url) as watching,
    ):
        long = {"tokens": 5000}
        async with client(gateway.ws_url) as c:
            conversation = (await start(c, "left", demo=long, on_disconnect="cancel"))["conversation"]
            await start(c, "kept", demo=long, on_disconnect="cancel")
            await start(c, "goes-on", demo=long)
            await watching.request("turn.attach", turn="kept")
        await watching.until_status("left", "cancelled")
        for turn in ("kept", "goes-on"):
            assert (await watching.request("turn.get", turn=turn))["status"] == "running"
        messages = (await watching.request("conversation.messages", conversation=conversation))["messages"]
        assert messages[-1]["ended"] == "cancelled"
        await watching.request("turn.attach", turn="left")
        assert (await watching.ending("left"))["by"] == "disconnect"
        await watching.request("turn.cancel", mine=True)


async def test_law_10_large_results_come_in_pieces(gateway: GatewayProcess) -> None:
    """Law 10: a page larger than a frame arrives in pieces (the client measures every frame)."""
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


async def test_law_13_errors_are_ours(gateway: GatewayProcess) -> None:
    """Law 13: a provider's failure has a fixed code, a sentence, `retryable`, and the message is kept."""
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


async def test_the_same_events_over_json_and_messagepack(gateway: GatewayProcess) -> None:
    """One scripted turn gives the same events over both codecs, but for ids and times."""
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
    """Events without what differs between two turns; neighbouring deltas joined, as frames may merge."""
    joined: list[dict[str, Any]] = []
    for frame in view.frames:
        volatile = {"turn", "epoch", "conversation", "message", "parent", "input", "timing", "after"}
        kept = {key: value for key, value in frame.items() if key not in volatile}
        if kept["type"] == "turn.delta" and joined and joined[-1]["type"] == "turn.delta":
            if joined[-1]["part"] == kept["part"]:
                joined[-1] = {**kept, "text": joined[-1]["text"] + kept["text"]}
                continue
        joined.append(kept)
    return joined
