"""`connect` and the `Gateway` that it opens."""

from __future__ import annotations

import ssl as ssl_module
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import msgspec

from turnwire.client.abort import AbortSignal, reason_text
from turnwire.client.callbacks import OnChunk, OnComplete, OnError
from turnwire.client.connection import Connection
from turnwire.client.conversation import Conversation, ConversationItem
from turnwire.client.errors import LawViolation
from turnwire.client.events import GatewayEvent, UnknownEvent
from turnwire.client.fields import Input, StartMessage, ToolLike, start_fields
from turnwire.client.options import ConnectionState, Credential, Options
from turnwire.client.pages import Pages
from turnwire.client.records import (
    CancelOutcome,
    ConversationRecord,
    Estimate,
    Message,
    Models,
    Position,
    Rating,
    TurnRecord,
    UsageReport,
)
from turnwire.client.subscription import Subscription
from turnwire.client.tools import run_tools
from turnwire.client.turn import Turn


def connect(
    url: str,
    *,
    token: Credential | None = None,
    ticket: Credential | None = None,
    codec: Literal["json", "msgpack"] = "json",
    transport: Literal["auto", "socket", "http"] = "auto",
    user: str | None = None,
    headers: Mapping[str, str] | None = None,
    ssl: ssl_module.SSLContext | None = None,
    open_timeout: float = 10.0,
) -> Opening:
    """Open a connection: `async with connect(…) as gateway`, or `gateway = await connect(…)` and `await gateway.close()`.

    `url`: `ws://`, `wss://`, `http://` or `https://`; an address without a path gets `/ws`.
    `token`: a JWT or an API key; `ticket`: a one-time ticket. A function is asked for each new socket, and shortly before
    the credential expires.
    `transport`: `auto` uses HTTP if the gateway can be reached, but lets no WebSocket through.
    `user`: the user for whom a service acts (`as`); its credential needs the scope `as`.
    `ssl`: for a gateway whose certificate is signed by an authority of your own.
    `open_timeout`: the time to open the connection, in seconds. After that, a lost connection is opened again, however
    long that takes, until `close`.

    Raises `InvalidUrl` at once. Opening raises a `ConnectFailed`: `NotAGateway`, `ProtocolMismatch`,
    `CertificateUntrusted`, `Unauthenticated`, `CredentialFailed`, or itself if nothing answers.
    """
    options = Options.checked(
        url,
        token=token,
        ticket=ticket,
        codec=codec,
        transport=transport,
        headers=headers,
        ssl=ssl,
        open_timeout=open_timeout,
    )
    return Opening(options, user)


class Opening:
    """What `connect` returns: use it with `async with` or `await`."""

    def __init__(self, options: Options, user: str | None) -> None:
        self._options = options
        self._user = user
        self._gateway: Gateway | None = None

    async def __aenter__(self) -> Gateway:
        self._gateway = await self._open()
        return self._gateway

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gateway is not None:
            await self._gateway.close()

    def __await__(self) -> Generator[Any, None, Gateway]:
        return self._open().__await__()

    async def _open(self) -> Gateway:
        connection = Connection(self._options)
        await connection.open()
        return Gateway(connection, self._user)


class _Lease:
    """Closes a connection to which no `Gateway` refers any more, when its running turns have ended."""

    def __init__(self, connection: Connection) -> None:
        weakref.finalize(self, connection.forget)


class Gateway:
    """An open connection to a gateway. It stays open across lost sockets until `close`.

    It belongs to the event loop and the process in which it was opened; elsewhere its methods raise `WrongLoop` or
    `WrongProcess`. After `close`, or if the gateway refuses the connection for good, they raise `ConnectionClosed`.
    """

    def __init__(self, connection: Connection, user: str | None, lease: _Lease | None = None) -> None:
        self._connection = connection
        self._user = user
        self._lease = lease or _Lease(connection)

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected now, and if not, why not."""
        return self._connection.state

    @property
    def transport(self) -> Literal["socket", "http"]:
        """What carries the events."""
        return self._connection.transport

    @property
    def codec(self) -> str:
        """The codec of the socket."""
        return self._connection.options.codec

    @property
    def default_model(self) -> str | None:
        """The model of a start without `model`. None over HTTP."""
        return self._connection.default_model

    @property
    def openings(self) -> int:
        """How many times it was opened: 1, and one more for each lost socket."""
        return self._connection.openings

    @property
    def violations(self) -> list[LawViolation]:
        """The violations of laws 1 and 2 so far. There are none unless the gateway is faulty."""
        return list(self._connection.turns.violations)

    @property
    def running(self) -> list[Turn]:
        """The followed turns that have not ended, oldest first."""
        return self._connection.running(self._user)

    def as_user(self, user: str | None) -> Gateway:
        """Return the same connection, acting for another user. It needs a credential with the scope `as`."""
        return Gateway(self._connection, user, self._lease)

    def start(
        self,
        input: Input | None = None,
        *,
        model: str | None = None,
        conversation: str | None = None,
        create: bool | None = None,
        parent: str | None = None,
        continue_: bool | None = None,
        messages: Sequence[StartMessage] | None = None,
        system: str | None = None,
        params: Mapping[str, Any] | None = None,
        tools: Sequence[ToolLike] | None = None,
        tool_choice: str | Mapping[str, str] | None = None,
        on_busy: Literal["parallel", "queue", "reject", "interrupt"] | None = None,
        on_disconnect: Literal["continue", "cancel"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        turn: str | None = None,
        signal: AbortSignal | None = None,
    ) -> Turn:
        """Start a turn and return at once. The fields are those of `turn.start` in docs/protocol.md.

        `input`: text, or a list of parts (`Part` or dict). `tools`: functions, `Tool`s or dicts; see also `run`.
        `turn`: an id of your own; a start that is repeated with the same id gives the same turn.
        `signal`: cancels the turn when it is aborted. Several turns may share one.

        A refused start isn't raised here: the turn fails. A start that is too large for a frame is sent over HTTP.
        """
        fields = start_fields(
            input,
            model=model,
            conversation=conversation,
            create=create,
            parent=parent,
            continue_=continue_,
            messages=messages,
            system=system,
            params=params,
            tools=tools,
            tool_choice=tool_choice,
            on_busy=on_busy,
            on_disconnect=on_disconnect,
            metadata=metadata,
            turn=turn,
        )
        return self._connection.start(fields, self._user, signal)

    def send(
        self,
        params: str | Mapping[str, Any],
        *,
        signal: AbortSignal | None = None,
        on_chunk: OnChunk | None = None,
        on_error: OnError | None = None,
        on_complete: OnComplete | None = None,
    ) -> Turn:
        """Start a turn and report it to callbacks, which may be async. Return the turn; it needn't be awaited.

        `params`: the input, or the fields of `start` as a dict.
        `on_chunk(text)`: the next piece of the answer's text. `on_error(error)`: the turn has failed.
        `on_complete(message)`: the turn has ended otherwise; a cancelled one has the text so far.

        If a callback raises an exception, the turn is cancelled and fails with `CallbackFailed`; `on_error` gets it too.
        """
        fields = {"input": params} if isinstance(params, str) else dict(params)
        turn = self.start(signal=signal, **fields)
        self._connection.report(turn, on_chunk, on_error, on_complete)
        return turn

    def attach(self, turn: str, *, epoch: int = 0, after: int = 0) -> Turn:
        """Follow a turn that was started elsewhere, or by a program that has ended. Return at once.

        `epoch` and `after`: the position (`turn.position`) from which to continue. Without them, all events are sent from
        the first one. Only with them is the text before the position missing from the message.
        """
        return self._connection.attach(turn, self._user, Position(epoch, after))

    async def cancel(self, turns: Sequence[Turn | str], reason: object = None) -> dict[str, CancelOutcome]:
        """Cancel several turns at once. Return the outcome for each."""
        ids = [turn if isinstance(turn, str) else turn.id for turn in turns]
        return await self._connection.cancel(ids, self._user, reason_text(reason))

    async def run(
        self,
        input: Input | None = None,
        *,
        tools: Sequence[ToolLike],
        signal: AbortSignal | None = None,
        max_rounds: int = 10,
        on_turn: Callable[[Turn], None] | None = None,
        **fields: Any,
    ) -> Message:
        """Start a turn, answer the model's tool calls, and repeat that until it answers without one. Return that answer.

        `tools`: functions, sync or async. Their schema is made from the type hints and the docstring; see `tool`.
        `fields`: those of `start`. `on_turn`: is called with each turn that is started, for example to show its text.
        A call that fails is answered with its error, so that the model can try again. After `max_rounds` turns with calls,
        `ToolsFailed` is raised. A cancelled turn ends the loop: its message is returned.
        """
        return await run_tools(
            self, input, tools=tools, signal=signal, max_rounds=max_rounds, on_turn=on_turn, fields=fields
        )

    async def request(self, type: str, **fields: Any) -> Any:
        """Send any request of the protocol and return its `result`. Fields that are None are left out.

        It waits while there is no connection. A request that is safe to repeat is sent again after a lost connection;
        another one raises `ConnectionLost`.
        """
        return await self._connection.request(type, fields, self._user)

    async def get_turn(self, turn: str) -> TurnRecord:
        """Return what the gateway knows of a turn."""
        return msgspec.convert(await self.request("turn.get", turn=turn), TurnRecord)

    async def estimate(self, input: Input | None = None, **fields: Any) -> Estimate:
        """Return what a start with these fields would cost now. Nothing is started."""
        return msgspec.convert(await self.request("turn.estimate", **start_fields(input, **fields)), Estimate)

    def conversation(self, conversation: str) -> Conversation:
        """Return a conversation by its id. Nothing is sent."""
        return Conversation(self, conversation)

    async def create_conversation(
        self,
        conversation: str | None = None,
        *,
        title: str | None = None,
        system: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Create a conversation, with an id of your own if given. If it exists already, nothing is changed."""
        record = await self.request(
            "conversation.create", conversation=conversation, title=title, system=system, model=model, metadata=metadata
        )
        return self.conversation(record["id"])

    def conversations(
        self, *, query: str | None = None, pinned: bool | None = None, limit: int | None = None
    ) -> Pages[ConversationRecord]:
        """List the conversations, most recently changed first. `query` searches, `pinned` selects the pinned ones."""

        async def fetch(before: str | None) -> tuple[list[ConversationRecord], str | None]:
            answer = await self.request("conversation.list", query=query, pinned=pinned, limit=limit, before=before)
            return msgspec.convert(answer["conversations"], list[ConversationRecord]), answer.get("next")

        return Pages(fetch)

    async def attach_conversations(self) -> None:
        """Receive each change of the list as `ConversationsChanged` in `events`. Attach first, then list. Needs a socket."""
        await self._connection.attach_list(self._user)

    async def detach_conversations(self) -> None:
        """Receive no more changes of the list."""
        await self._connection.detach_list(self._user)

    async def models(self) -> Models:
        """Return the models, those that can be used first."""
        return msgspec.convert(await self.request("models.list"), Models)

    async def usage(self, *, conversation: str | None = None, since: str | None = None) -> UsageReport:
        """Return the sums over the user's ended turns, since a time in RFC 3339 with an offset."""
        return msgspec.convert(await self.request("usage.get", conversation=conversation, since=since), UsageReport)

    async def feedback(self, message: str | Message, rating: Rating, comment: str | None = None) -> None:
        """Rate a message: `up`, `down`, or 1 to 5. A second rating replaces the first."""
        message_id = message if isinstance(message, str) else message.id
        await self.request("feedback.put", message=message_id, rating=rating, comment=comment)

    async def ping(self) -> float:
        """Measure the round trip, in seconds."""
        return await self._connection.ping()

    def events(self) -> Subscription[GatewayEvent | ConnectionState | UnknownEvent]:
        """Iterate what belongs to no turn: changes of the state, `GoingAway`, `Durability`, `ConversationsChanged`, …"""
        subscription = self._connection.subscribe()
        subscription.keeps = self._lease
        return subscription

    async def close(self) -> None:
        """Close it. Turns continue on the gateway, but those that are followed here fail with `ConnectionClosed`.

        When it returns, no task of the connection is left.
        """
        await self._connection.close()

    async def _cancel_where(self, which: Mapping[str, Any], reason: object) -> dict[str, CancelOutcome]:
        answer = await self.request("turn.cancel", **which, reason=reason_text(reason))
        outcomes: dict[str, CancelOutcome] = answer["turns"]
        return outcomes

    async def _attach_conversation(self, conversation: str) -> None:
        await self._connection.attach_conversation(conversation, self._user)

    async def _detach_conversation(self, conversation: str) -> None:
        await self._connection.detach_conversation(conversation, self._user)

    def _conversation_events(self, conversation: str) -> Subscription[ConversationItem]:
        subscription = self._connection.subscribe_to(conversation, self._user)
        subscription.keeps = self._lease
        return subscription
