"""Every dialect with the same turns, on two instances with one Redis: what a client shows is what the upstream said."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.dialect_players.followers import Messages
from tests.dialect_players.node_players import AgUi, AiSdk, AiSdkSocket
from tests.dialect_players.openai_players import ChatCompletions, Responses, ResponsesSocket
from tests.dialect_players.own import OwnSocket, OwnSse
from tests.dialect_players.plain_http import Lines, Session
from tests.dialect_players.player import Ask, Kind, Player, Refused, Stage
from tests.dialect_players.talks import MODEL_WITHOUT_PREFILL, TOOL, Talk, TalkingUpstream
from tests.upstream import error_response
from tests.world import WITH_USERS, World, world

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.asyncio(loop_scope="module")]

PLAYERS: dict[str, type[Player]] = {
    player.name: player
    for player in (
        *(OwnSse, OwnSocket, ChatCompletions, Responses, ResponsesSocket, AiSdk, AiSdkSocket, AgUi),
        *(Messages, Lines, Session),
    )
}
"""The dialects. A new one is added here, as a class of `tests/dialect_players`."""

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WORDS = ("The", " quick", " brown", " fox", " jumps", " over", " 狐", " 🦊", ".")
THOUGHTS = ("Let", " me", " think", ".")
ARGUMENTS = ('{"a":', "1}")
OVERLOADED = error_response(503, {"error": {"message": "overloaded"}})
WRONG = error_response(400, {"error": {"message": "max_tokens is too large", "type": "invalid_request_error"}})


@dataclass
class Matrix:
    """The instances, the upstream and what the players share."""

    world: World
    upstream: TalkingUpstream
    stage: Stage

    def url(self, number: int) -> str:
        """Return the address of an instance."""
        return self.world.instances[number].url

    def client(self, player: type[Player], prompt: str, talk: Talk, **fields: Any) -> Player:
        """Return a client of a dialect, whose prompt the upstream answers with `talk`."""
        whole = f"{prompt} ({player.name})"
        self.upstream.talks[whole] = talk
        return player(self.stage, Ask(whole, f"{player.name}.{prompt.replace(' ', '-')}", **fields))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def matrix(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Matrix]:
    folder = tmp_path_factory.mktemp("matrix")
    async with TalkingUpstream() as upstream, httpx2.AsyncClient(timeout=30, trust_env=False) as http:
        settings = {
            **WITH_USERS,
            "KIMI_API_KEY": "k",
            "KIMI_BASE_URL": upstream.openai_url,
            "TURNWIRE_ADDRESS_CONNECTIONS": "500",
            "TURNWIRE_BREAKER_FAILURES": "1000",
        }
        async with world(folder, settings=settings, running_upstream=upstream) as made:
            stage = Stage(http)
            yield Matrix(made, upstream, stage)
            for close in stage.closers:
                await close()


@pytest.fixture(params=PLAYERS)
def player(request: pytest.FixtureRequest) -> type[Player]:
    return PLAYERS[request.param]


TURNS: dict[str, tuple[Callable[[], Talk], dict[str, Any], Kind | None]] = {
    "text": (lambda: Talk(WORDS), {}, None),
    "thoughts": (lambda: Talk(WORDS, THOUGHTS), {}, None),
    "a tool": (lambda: Talk(WORDS, arguments=ARGUMENTS), {"has_tool": True}, "calls"),
    "an image": (lambda: Talk(WORDS), {"image": f"data:image/png;base64,{PIXEL}"}, "images"),
    "cut": (lambda: Talk(WORDS, cuts=[3]), {}, None),
    "cut among the thoughts": (lambda: Talk(WORDS, THOUGHTS, cuts=[2]), {}, None),
    "cut at once": (lambda: Talk(WORDS, cuts=[0]), {}, None),
    "overloaded": (lambda: Talk(WORDS, refusal=OVERLOADED, refusals=1), {}, None),
}


CELLS = [
    pytest.param(player, turn, id=f"{player.name}-{turn}")
    for player in PLAYERS.values()
    for turn, (_, _, needed) in TURNS.items()
    if needed is None or needed in player.shows
]


@pytest.mark.parametrize(("player", "turn"), CELLS)
async def test_a_client_shows_what_the_upstream_said(matrix: Matrix, player: type[Player], turn: str) -> None:
    make, fields, _ = TURNS[turn]
    talk = make()
    requests = 1 + len(talk.cuts) + (talk.refusal is not None)
    async with matrix.client(player, turn, talk, **fields) as client:
        await client.start(matrix.url(0))
        await client.read()
    check(client, talk)
    assert len(talk.requests) == requests
    if client.ask.image is not None:
        assert PIXEL in str(talk.requests[0].body["messages"][-1])
    if client.ask.has_tool:
        assert talk.requests[0].body["tools"][0]["function"]["name"] == TOOL


def check(client: Player, talk: Talk, ending: str = "completed") -> None:
    """Check that the client shows all that the upstream said."""
    assert (client.ending, client.error) == (ending, "")
    thoughts = talk.thought if "thoughts" in client.shows else ""
    assert (client.text, client.thoughts, client.calls) == (talk.text, thoughts, talk.calls)


@pytest.mark.parametrize("player", [player for player in PLAYERS.values() if "calls" in player.shows])
async def test_the_result_of_a_tool(matrix: Matrix, player: type[Player]) -> None:
    """The client sends it to the other instance. The provider gets the call with it, and its answer is shown."""
    talk = Talk(WORDS[:2], arguments=ARGUMENTS, words_after=("It", " is", " 1."))
    async with matrix.client(player, "result", talk, has_tool=True) as client:
        await client.start(matrix.url(0))
        await client.read()
        assert client.calls == talk.calls
        await client.reply(matrix.url(1), "1")
        await client.read()
    assert (client.ending, client.text, client.calls) == ("completed", "It is 1.", [])
    asked, call, result = talk.requests[1].body["messages"][-3:]
    assert (asked["role"], call["role"], result["role"], result["content"]) == ("user", "assistant", "tool", "1")
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert call["tool_calls"][0]["function"] == {"name": TOOL, "arguments": "".join(ARGUMENTS)}
    assert call["content"] == talk.text


async def test_a_failure_before_the_first_word(matrix: Matrix, player: type[Player]) -> None:
    """It is an error of the protocol, and nothing is shown."""
    talk = Talk(WORDS, refusal=WRONG)
    async with matrix.client(player, "refused", talk) as client:
        try:
            await client.start(matrix.url(0))
            await client.read()
        except Refused as refused:
            client.ending, client.error = "failed", str(refused)
    assert (client.ending, client.text, client.thoughts, client.calls) == ("failed", "", "", [])
    assert "refused the request" in client.error


async def test_a_failure_in_the_middle(matrix: Matrix, player: type[Player]) -> None:
    """The model can't continue its answer: the client keeps the text so far, and gets an error."""
    talk = Talk(WORDS, cuts=[4])
    async with matrix.client(player, "broken", talk, model=MODEL_WITHOUT_PREFILL) as client:
        await client.start(matrix.url(0))
        await client.read()
    assert (client.ending, client.text) == ("failed", "".join(WORDS[:4]))
    assert client.error


async def test_a_cancel_stops_the_upstream(matrix: Matrix, player: type[Player]) -> None:
    """A cancel at the other instance ends the client's stream, and the request to the provider."""
    talk = Talk(WORDS, THOUGHTS, gate=asyncio.Semaphore(7))
    async with matrix.client(player, "cancelled", talk) as client:
        await client.start(matrix.url(0))
        await client.read(lambda c: c.text == "".join(WORDS[:3]))
        await client.cancel(matrix.url(1))
        await client.read()
    assert client.ending == ("cancelled" if player.tells_cancels else "completed")
    thoughts = talk.thought if "thoughts" in client.shows else ""
    assert (client.text, client.thoughts, client.calls) == ("".join(WORDS[:3]), thoughts, [])
    async with asyncio.timeout(10):
        await talk.requests[0].disconnected.wait()
    assert len(talk.requests) == 1


async def test_a_client_that_leaves(matrix: Matrix, player: type[Player]) -> None:
    """If the dialect has no way to resume, the request to the provider ends soon; otherwise the answer is completed."""
    gate = asyncio.Semaphore(3)
    talk = Talk(WORDS, gate=gate)
    async with matrix.client(player, "left", talk, survives=False) as client:
        await client.start(matrix.url(0))
        await client.read(lambda c: c.text == "".join(WORDS[:3]))
    async with asyncio.timeout(20):
        if player.ends_when_left:
            await talk.requests[0].disconnected.wait()
        else:
            release(gate)
            await talk.requests[0].answered.wait()
    assert len(talk.requests) == 1


async def test_a_client_resumes_after_each_event(matrix: Matrix, player: type[Player]) -> None:
    """After each piece of the answer the client loses its connection, and continues at the other instance."""
    gate = asyncio.Semaphore(0)
    talk = Talk(WORDS, THOUGHTS, gate=gate)
    instances = itertools.cycle((1, 0))
    async with matrix.client(player, "resumed", talk) as client:

        async def move() -> None:
            await client.leave()
            if len(said) < len(whole):
                gate.release()  # a stream without anything new isn't answered before the next heartbeat
            elif player.resumes_ended:
                release(gate)
            await client.resume(matrix.url(next(instances)))

        thoughts = THOUGHTS if "thoughts" in player.shows else ()
        said, whole = "", "".join((*thoughts, *WORDS))
        for _ in range(len(THOUGHTS) - len(thoughts) + 1):
            gate.release()
        await client.start(matrix.url(0))
        for piece in (*thoughts, *WORDS):
            said += piece
            await client.read(lambda c: c.thoughts + c.text == said)  # noqa: B023
            assert client.thoughts + client.text == said
            await move()
        release(gate)
        # The last frames of the answer have one position. The connection is lost between them, too.
        for _ in range(3 if player.resumes_ended else 0):
            before = client.events
            await client.read(lambda c: c.events > before)  # noqa: B023
            if client.ending is None:
                await move()
        await client.read()
    check(client, talk)
    assert len(talk.requests) == 1


async def test_law_12_another_users_answer_is_not_found(matrix: Matrix, player: type[Player]) -> None:
    """For the id of another user's answer, a client gets the same response as for an unknown id."""
    gate = asyncio.Semaphore(4)
    talk = Talk(WORDS, gate=gate)
    async with matrix.client(player, "secret", talk) as client:
        await client.start(matrix.url(0))
        await client.read(lambda c: c.text == "".join(WORDS[:4]))
        for n in range(2):
            for act in ("resume", "cancel"):
                stranger = client.stranger(f"eve.{player.name}")
                other = client.stranger(f"eve.{player.name}", "never-there")
                assert await outcome(stranger, act, matrix.url(n)) == await outcome(other, act, matrix.url(n))
        release(gate)
        await client.read()
    check(client, talk)


def release(gate: asyncio.Semaphore) -> None:
    """Let the upstream send the rest of its answer."""
    for _ in range(100):
        gate.release()


async def outcome(client: Player, act: str, url: str) -> tuple[str, str]:
    """Return the gateway's response, with `ID` in place of the answer's id."""
    try:
        if act == "cancel":
            said = await client.cancel(url)
            return "answered", said.replace(client.turn, "ID")
        await client.resume(url)
        await client.read()
        assert (client.text, client.thoughts, client.calls) == ("", "", [])
        return "answered", str(client.ending)
    except Refused as refused:
        return str(refused.status), refused.body.replace(client.turn, "ID")
    finally:
        await client.leave()


async def test_the_owner_is_killed_in_the_middle(matrix: Matrix) -> None:
    """Law 9: an instance dies while it serves a client of each dialect. Each continues at another instance."""
    await matrix.world.add()
    owner = len(matrix.world.instances) - 1
    gates = {name: asyncio.Semaphore(len(THOUGHTS) + 3) for name in PLAYERS}
    clients = {
        name: matrix.client(player, "killed", Talk(WORDS, THOUGHTS, gate=gates[name]))
        for name, player in PLAYERS.items()
    }

    async def begin(client: Player) -> None:
        await client.start(matrix.url(owner))
        await client.read(lambda c: c.text == "".join(WORDS[:3]))

    async def continue_(client: Player) -> None:
        await client.read()
        assert client.ending is None
        await client.leave()
        await client.resume(matrix.url(0))
        await client.read()
        await client.leave()

    await asyncio.gather(*map(begin, clients.values()))
    matrix.world.kill(owner)
    for gate in gates.values():
        release(gate)
    await asyncio.gather(*map(continue_, clients.values()))
    for client in clients.values():
        talk = matrix.upstream.talks[client.ask.prompt]
        check(client, talk)
        assert len(talk.requests) == 2
