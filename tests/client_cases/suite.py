"""Runs the cases of cases.toml: each step is a command to a player or an action of the world."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.client_cases.cases import Case, Meeting, Step
from tests.client_cases.player import ENDINGS, Player, PlayerError, TurnRecord
from tests.client_cases.relay import Relay
from tests.client_cases.world import World
from tests.demo import expected

RUN_TIMEOUT_S = 150.0
POLL_S = 0.05
LONG = "A_token_of_1000_characters." * 37 + " "
"""`$long` in a case: with it, few tokens make a large answer."""
VARIABLE = re.compile(r"\$(each|large|long|unique|n|turn:[\w ]+|conversation:[\w ]+)")


class Wrong(AssertionError):
    """A case failed."""


@dataclass
class _Connection:
    name: str
    gateway: str
    user: str | None


@dataclass
class _Turn:
    name: str
    record: TurnRecord
    connection: _Connection
    id: str = ""
    user: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    checked: bool = False


class Run:
    """One run of a case by one player, in one codec and one variant."""

    def __init__(
        self, case: Case, player: Player, world: World, codec: str, each: Any, meetings: dict[str, Meeting]
    ) -> None:
        self.case = case
        self.label = f"{case.name} [{codec}{'' if each is None else f', {each}'}]"
        self.player = player
        self._world = world
        self._codec = codec
        self._meetings = meetings
        self._stack = AsyncExitStack()
        self._relays: dict[str, Relay] = {}
        self._connections: dict[str, _Connection] = {}
        self._turns: dict[str, _Turn] = {}
        self._variables = {"each": each, "large": world.large, "unique": f"t_{secrets.token_hex(8)}", "long": LONG}
        self._step: Step = {}

    async def run(self) -> str | None:
        """Run the steps and check everything. Return None, or what is wrong."""
        self.player.running.add(self.label)
        try:
            async with asyncio.timeout(RUN_TIMEOUT_S), self._stack:
                for step in self.case.steps:
                    self._step = step
                    await getattr(self, f"_do_{step['do'].replace('-', '_')}")(self._filled(step))
                await self._check_all()
        except (Wrong, PlayerError) as error:
            return f"{self.label}: {error}\n  at {self._step}\n{self._seen()}"
        except TimeoutError:
            return f"{self.label}: not done within {RUN_TIMEOUT_S} s\n  at {self._step}\n{self._seen()}"
        finally:
            self.player.running.discard(self.label)
            for gateway in self.case.gateways_lost:
                for meeting in (f"before {gateway}", gateway):
                    await self._meetings[meeting].leave(self)
        return None

    def _seen(self) -> str:
        lines = []
        for turn in self._turns.values():
            types = [f"{event['type'].removeprefix('turn.')}:{event.get('seq', '')}" for event in turn.record.events]
            lines.append(
                f"  {turn.name}: {len(types)} events, the last ones {types[-8:]}, {str(turn.record.end)[:300]}"
            )
        return "\n".join(lines)

    def _filled(self, value: Any) -> Any:
        """Return `value` with its variables replaced."""
        if isinstance(value, dict):
            return {name: self._filled(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if not isinstance(value, str):
            return value
        whole = VARIABLE.fullmatch(value)
        return self._variable(whole[1]) if whole else VARIABLE.sub(lambda found: str(self._variable(found[1])), value)

    def _variable(self, name: str) -> Any:
        kind, _, turn = name.partition(":")
        if kind == "turn":
            return self._turns[turn].id
        if kind == "conversation":
            return self._turns[turn].record.events[0]["conversation"]
        return self._variables.get(name, f"${name}")

    def _in_player(self, name: str) -> str:
        return f"{self.label}/{name}"

    def _turn_of(self, step: Step) -> _Turn:
        return self._turns[step.get("turn", "t")]

    # What the player does

    async def _do_connect(self, step: Step) -> None:
        name, user = step.get("as", "c"), step.get("user")
        through = self._relays.get(step.get("through", ""))
        gateway = self._step_gateway(step)
        port = self._world.port(gateway) if through is None else through.port
        connection = _Connection(name, gateway, f"{self.player.name}, {self.label}, {user}" if user else None)
        token_url = None
        if user or step.get("service"):
            more = {field: step[field] for field in ("life_s", "renewal_s", "secret") if field in step}
            service = {"service": 1} if step.get("service") else {}
            token_url = self._world.token_url(user=connection.user or "", **more, **service)
        command = {
            "as": self._in_player(name),
            "url": f"ws://127.0.0.1:{port}/ws",
            "codec": self._codec,
            "transport": step.get("transport", "socket"),
            "token_url": token_url,
        }
        opening = self.player.ask("connect", command)
        if "error" in step:
            await self._fails(opening, step["error"])
            return
        await opening
        self._connections[name] = connection

    def _step_gateway(self, step: Step) -> str:
        gateways = {one["as"]: one.get("to", "a") for one in self.case.steps if one["do"] == "relay"}
        found: str = step.get("to", gateways.get(step.get("through", ""), "a"))
        return found

    async def _do_start(self, step: Step) -> None:
        for number in range(step.get("times", 1)):
            fields: dict[str, Any] = self._filled_number(step["fields"], number)
            name = step.get("as", "t") + (str(number) if "times" in step else "")
            turn = self._add_turn(name, step, fields)
            command = {**self._names(turn), "fields": fields, "user": step.get("user"), "read": step.get("read", "now")}
            found = await self.player.ask("start", command)
            turn.id = found["turn"]
            if fields.get("turn", turn.id) != turn.id:
                raise Wrong(f"the turn's id is {turn.id}")

    def _filled_number(self, fields: dict[str, Any], number: int) -> dict[str, Any]:
        self._variables["n"] = number
        filled: dict[str, Any] = self._filled(fields)
        return filled

    def _add_turn(self, name: str, step: Step, fields: dict[str, Any]) -> _Turn:
        connection = self._connections[step.get("on", "c")]
        record = self.player.record(self._in_player(name))
        user = step.get("user", connection.user)
        self._turns[name] = _Turn(name, record, connection, user=user, fields=fields)
        return self._turns[name]

    async def _do_attach(self, step: Step) -> None:
        name = step["as"]
        same = [turn for turn in self._turns.values() if turn.id == step["id"]]
        turn = self._add_turn(name, step, same[0].fields if same else {})
        turn.id = step["id"]
        await self.player.ask("attach", {**self._names(turn), "turn": turn.id})

    def _names(self, turn: _Turn) -> dict[str, Any]:
        return {"on": self._in_player(turn.connection.name), "as": self._in_player(turn.name)}

    async def _do_read(self, step: Step) -> None:
        await self.player.ask("read", {"turn": self._in_player(self._turn_of(step).name)})

    async def _do_cancel(self, step: Step) -> None:
        turn = self._turn_of(step)
        command = {"on": self._in_player(turn.connection.name), "turn": self._in_player(turn.name)}
        found = await self.player.ask("cancel", {**command, "reason": step.get("reason")})
        if step.get("outcome", found["outcome"]) != found["outcome"]:
            raise Wrong(f"the outcome is {found}")

    async def _do_abort(self, step: Step) -> None:
        turn = self._in_player(self._turn_of(step).name)
        await self.player.ask("abort", {"turn": turn, "reason": step.get("reason")})

    async def _do_request(self, step: Step) -> None:
        connection = self._connections[step.get("on", "c")]
        command = {"on": self._in_player(connection.name), "type": step["type"], "fields": step.get("fields", {})}
        asked = self.player.ask("request", command)
        if "error" in step:
            await self._fails(asked, step["error"])
            return
        found = await asked
        if "same_as" in step:
            direct = await self._world.get(connection.gateway, step["same_as"], connection.user)
            if found != direct:
                raise Wrong(f"the result is {str(found)[:1000]}, and over HTTP {str(direct)[:1000]}")
        if len(str(found)) < step.get("chars_min", 0):
            raise Wrong(f"the result has only {len(str(found))} characters")

    async def _fails(self, asked: Awaitable[Any], code: str) -> None:
        """Check that a command fails with this code; an empty one means any."""
        try:
            found = await asked
        except PlayerError as error:
            if error.code in ("unanswered", "player_ended") or code not in ("", error.code):
                raise
        else:
            raise Wrong(f"it didn't fail: {str(found)[:500]}")

    async def _do_state(self, step: Step) -> None:
        state = await self.player.ask("state", {"on": self._in_player(step.get("on", "c"))})
        for name in ("openings", "transport"):
            if name in step and state[name] != step[name]:
                raise Wrong(f"the state is {state}")
        if state["openings"] < step.get("openings_min", 0):
            raise Wrong(f"the state is {state}")

    # Expectations

    async def _do_wait(self, step: Step) -> None:
        if "seconds" in step:
            await asyncio.sleep(step["seconds"])
            return
        record = self._turn_of(step).record
        wanted, length = step.get("event"), step.get("text", 0)
        await record.until(
            lambda: (
                record.end is not None
                or (any(event["type"] == wanted for event in record.events) if wanted else len(record.text) >= length)
            )
        )
        if record.end is not None and record.end["status"] == "failed":
            raise Wrong(f"it has failed: {record.end}")

    async def _do_end(self, step: Step) -> None:
        for number in range(step.get("times", 1)):
            turn = self._turns[step.get("turn", "t") + (str(number) if "times" in step else "")]
            await self._check_turn(turn, step)

    async def _check_turn(self, turn: _Turn, step: Step) -> None:
        turn.checked = True
        record = turn.record
        await record.until(lambda: record.end is not None)
        assert record.end is not None
        status = step.get("status", "completed")
        if (record.end["status"], record.end.get("error")) != (status, step.get("error")):
            raise Wrong(f"{turn.name} ended as {record.end}")
        if record.problems:
            raise Wrong(f"{turn.name}: {record.problems[:5]}")
        if record.end["text"] != record.text or step.get("text", record.text) != record.text:
            raise Wrong(f"{turn.name}: the client's text is {record.end['text']!r}, that of the events {record.text!r}")
        _check_events(turn.name, record.events, step.get("events", []))
        if record.ending is not None:
            if record.ending["type"] != f"turn.{status}" or record.events[-1]["type"] not in ENDINGS:
                raise Wrong(f"{turn.name}: the last event is {record.events[-1]}")
            await self._check_stored(turn)
            self._check_text(turn, whole=status == "completed")
        elif status == "completed":
            raise Wrong(f"{turn.name}: no ending came")

    async def _check_stored(self, turn: _Turn) -> None:
        found = await self._world.get(turn.connection.gateway, f"/v1/turns/{turn.id}", turn.user)
        stored = [(part["kind"], part.get("text", part.get("arguments"))) for part in found["message"]["parts"]]
        folded = [(kind, text) for _, (kind, text) in sorted(turn.record.parts.items())]
        if stored != folded:
            raise Wrong(f"{turn.name}: the gateway has stored {stored}, the events are {folded}")

    def _check_text(self, turn: _Turn, *, whole: bool) -> None:
        text = turn.record.text
        said = expected(turn.fields["input"], turn.fields["params"]["demo"])
        if not (said == text if whole else said.startswith(text)):
            raise Wrong(f"{turn.name}: the text is {text!r}, expected {said!r}")

    async def _check_all(self) -> None:
        """Check what holds at the end of each case, and close the connections."""
        for turn in self._turns.values():
            if not turn.checked:
                await self._check_turn(turn, {})
        for name, relay in self._relays.items():
            if relay.problems:
                raise Wrong(f"{name}: {relay.problems}")
        for name in self._connections:
            state = await self.player.ask("state", {"on": self._in_player(name)})
            if state["violations"]:
                raise Wrong(f"the client saw violations: {state['violations']}")
            await self.player.ask("close", {"on": self._in_player(name)})
        for turn in self._turns.values():
            if turn.record.problems:
                raise Wrong(f"{turn.name}: {turn.record.problems[:5]}")

    # What the world does

    async def _do_relay(self, step: Step) -> None:
        relay = await self._stack.enter_async_context(self._world.relay(step.get("to", "a")))
        relay.cuts = list(step.get("cut_after", []))
        for name in ("lost", "unanswered", "upgrades", "frames", "detour", "fields", "reset", "slice"):
            if name in step:
                setattr(relay, name, step[name])
        self._relays[step["as"]] = relay

    async def _do_relayed(self, step: Step) -> None:
        """Check what the relay has seen."""
        relay = self._relays[step["through"]]
        if "cuts_left" in step and len(relay.cuts) != step["cuts_left"]:
            raise Wrong(f"the cuts after {relay.cuts} didn't happen")
        if relay.injected < step.get("injected_min", 0):
            raise Wrong(f"only {relay.injected} frames were added")
        if "frame" in step and not relay.types[step["frame"]]:
            raise Wrong(f"the gateway has sent {dict(relay.types)}")
        if "close" in step and step["close"] not in relay.closes:
            raise Wrong(f"the gateway closed with {relay.closes}")

    async def _do_cut(self, step: Step) -> None:
        self._relays[step["through"]].cut()

    async def _do_down(self, step: Step) -> None:
        self._relays[step["through"]].down()

    async def _do_up(self, step: Step) -> None:
        self._relays[step["through"]].up()

    async def _do_later(self, step: Step) -> None:
        asyncio.get_running_loop().call_later(step["after_s"], self._relays[step["up"]].up)

    async def _do_silence(self, step: Step) -> None:
        relay = self._relays[step["through"]]
        if "after" in step:
            relay.silent_after = step["after"]
        else:
            relay.silence()

    async def _do_speak(self, step: Step) -> None:
        self._relays[step["through"]].speak()

    async def _do_lead(self, step: Step) -> None:
        self._relays[step["through"]].target = self._world.port(step["to"])

    async def _do_gather(self, step: Step) -> None:
        """Wait for the other runs that lose the same gateway, so that their turns run when it is lost."""
        await self._meetings[f"before {step['before']}"].arrive(self)

    async def _do_kill(self, step: Step) -> None:
        await self._meetings[step["gateway"]].arrive(self)

    async def _do_drain(self, step: Step) -> None:
        await self._meetings[step["gateway"]].arrive(self)

    async def _do_ended(self, step: Step) -> None:
        """Wait until the gateway has stored the turn's ending."""
        turn = self._turn_of(step)
        while (await self._world.get(turn.connection.gateway, f"/v1/turns/{turn.id}", turn.user))[
            "status"
        ] == "running":
            await asyncio.sleep(POLL_S)

    async def _do_tokens(self, step: Step) -> None:
        """Wait until the client has asked for as many tokens."""
        (user,) = {
            one.user for one in self._connections.values() if one.user and one.user.endswith(f", {step['user']}")
        }
        while self._world.tokens[user] < step["at_least"]:
            await asyncio.sleep(POLL_S)


def _check_events(name: str, events: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Check that the wanted events came in this order; each may have more fields, and others may be between them."""
    rest = iter(events)
    for one in wanted:
        if not any(all(event.get(key) == value for key, value in one.items()) for event in rest):
            raise Wrong(f"{name}: there is no {one} where it should be, in {[event['type'] for event in events]}")


async def run_cases(cases: Iterable[tuple[Case, list[Player]]], world: World) -> dict[tuple[str, str], list[str]]:
    """Run cases, each with its players, all at the same time. Return what is wrong, by the player's name and the case's.

    Cases that lose the same gateway have to be run together.
    """
    meetings: dict[str, Meeting] = {}
    runs = [
        Run(case, player, world, codec, each, meetings)
        for case, players in cases
        for player in players
        for codec in case.codecs
        for each in case.each
    ]
    for gateway, do in {(step["gateway"], step["do"]) for run in runs for step in run.case.steps if "gateway" in step}:
        present = sum(gateway in run.case.gateways_lost for run in runs)
        meetings[f"before {gateway}"] = Meeting(present, partial(asyncio.sleep, 0))
        meetings[gateway] = Meeting(present, partial(world.kill if do == "kill" else world.drain, gateway))
    wrong: dict[tuple[str, str], list[str]] = {(run.player.name, run.case.name): [] for run in runs}
    for run, outcome in zip(runs, await asyncio.gather(*(run.run() for run in runs)), strict=True):
        if outcome is not None:
            wrong[run.player.name, run.case.name].append(outcome)
    return wrong
