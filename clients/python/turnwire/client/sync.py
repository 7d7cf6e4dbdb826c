"""The client for programs without an event loop: the names of `turnwire.client`, with calls that wait.

from turnwire.client.sync import connect

with connect("ws://127.0.0.1:8000/ws") as gateway:
    for text in gateway.start("Why is the sky blue?").text():
        print(text, end="", flush=True)
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeVar

import msgspec

from turnwire import client
from turnwire.client.conversation import Reattached
from turnwire.client.fields import Input, ToolLike
from turnwire.client.loop_thread import LoopThread
from turnwire.client.options import ConnectionState
from turnwire.client.records import CancelOutcome

__all__ = ["Conversation", "Gateway", "Pages", "Turn", "connect"]

P = ParamSpec("P")
Result = TypeVar("Result")
Item = TypeVar("Item")


class _Wrapper:
    """An object of the async client, and the thread in which its coroutines run."""

    def __init__(self, thread: LoopThread, inner: Any) -> None:
        self._thread = thread
        self._inner = inner


def _waiting(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Any, P], Result]:
    """Return a method that calls `method`, which is async, and waits for its result."""

    @functools.wraps(method)
    def call(self: _Wrapper, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        return self._thread.run(lambda: method(self._inner, *args, **kwargs))

    return call


def _starting(method: Callable[Concatenate[Any, P], client.Turn]) -> Callable[Concatenate[Any, P], Turn]:
    """Return a method that calls `method` in the thread, and returns its turn."""

    @functools.wraps(method)
    def call(self: _Wrapper, /, *args: P.args, **kwargs: P.kwargs) -> Turn:
        return Turn(self._thread, self._thread.call(lambda: method(self._inner, *args, **kwargs)))

    return call


def _paged(method: Callable[Concatenate[Any, P], client.Pages[Item]]) -> Callable[Concatenate[Any, P], Pages[Item]]:
    """Return a method that returns the pages of `method`."""

    @functools.wraps(method)
    def call(self: _Wrapper, /, *args: P.args, **kwargs: P.kwargs) -> Pages[Item]:
        return Pages(self._thread, method(self._inner, *args, **kwargs))

    return call


def _opening(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, client.Conversation]],
) -> Callable[Concatenate[Any, P], Conversation]:
    """Return a method that calls `method`, which is async, and returns its conversation."""

    @functools.wraps(method)
    def call(self: _Wrapper, /, *args: P.args, **kwargs: P.kwargs) -> Conversation:
        return Conversation(self._thread, self._thread.run(lambda: method(self._inner, *args, **kwargs)))

    return call


class Turn(_Wrapper):
    """A started turn. Iterate it for its events, call `result` for its message, or both.

    A `KeyboardInterrupt` in a loop over its events loses none: another loop goes on with the next event.
    """

    _inner: client.Turn

    def __init__(self, thread: LoopThread, inner: client.Turn, reported: asyncio.Event | None = None) -> None:
        super().__init__(thread, inner)
        self._reported = reported
        self._events = thread.iterate(aiter(inner))

    @property
    def id(self) -> str:
        """Its id, with which it can be attached."""
        return self._inner.id

    @property
    def user(self) -> str | None:
        """The user for whom a service has started it."""
        return self._inner.user

    @property
    def conversation(self) -> str | None:
        """The id of its conversation."""
        return self._inner.conversation

    @property
    def model(self) -> str | None:
        """The model that answers."""
        return self._inner.model

    @property
    def status(self) -> str:
        """Its status after the last event that has arrived."""
        return self._inner.status

    @property
    def ending(self) -> client.Ending | None:
        """The last event; None while the turn runs."""
        return self._inner.ending

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._inner.ended

    @property
    def position(self) -> client.Position:
        """How much has arrived. `gateway.attach` can continue from here, also in another program."""
        return self._inner.position

    @property
    def message(self) -> client.Message:
        """A copy of the answer so far."""
        return self._thread.call(lambda: self._inner.message)

    def result(self, timeout: float | None = None) -> client.Message:
        """Wait for the ending, and return the message. A cancelled turn has the text so far.

        `timeout`: the longest wait in s. After it, and after a `KeyboardInterrupt`, the turn goes on.

        Raises:
            TimeoutError: The time is over.
            TurnFailed: The turn has failed; `partial` is the message so far.
        """
        reported = None if self._thread.is_callback else self._reported

        async def result() -> client.Message:
            try:
                return await self._inner
            finally:
                if reported is not None:
                    await reported.wait()

        return self._thread.run(result, timeout)

    def __iter__(self) -> Iterator[client.TurnEvent]:
        return self._events

    def text(self) -> Iterator[str]:
        """Iterate the pieces of the answer's visible text. If the turn fails, the iteration raises `TurnFailed` at the end."""
        return self._thread.iterate(self._inner.text())

    cancel = _waiting(client.Turn.cancel)
    accepted = _waiting(client.Turn.accepted)


class Pages(Generic[Item]):
    """An iterable of items. A page is requested when its first item is needed."""

    def __init__(self, thread: LoopThread, inner: client.Pages[Item]) -> None:
        self._thread = thread
        self._inner = inner

    def __iter__(self) -> Iterator[Item]:
        return self._thread.iterate(aiter(self._inner))

    def pages(self) -> Iterator[list[Item]]:
        """Iterate the pages themselves."""
        return self._thread.iterate(aiter(self._inner.pages()))

    def all(self) -> list[Item]:
        """Return all items: conversations as they are iterated, messages from the oldest to the newest."""
        return self._thread.run(self._inner.all)


class _Starter(_Wrapper):
    """What a gateway and a conversation have in common."""

    def estimate(self, input: Input | None = None, **fields: Any) -> client.Estimate:
        """Return what a start with these fields would cost now. Nothing is started."""

        async def estimate() -> client.Estimate:
            estimated: client.Estimate = await self._inner.estimate(input, **fields)
            return estimated

        return self._thread.run(estimate)

    def run(
        self,
        input: Input,
        *,
        tools: Sequence[ToolLike],
        on_turn: Callable[[Turn], None] | None = None,
        **fields: Any,
    ) -> client.Message:
        """Start a turn, answer the model's tool calls, and repeat that until it answers without one. Return that answer.

        `tools`: functions. Each call runs in a thread of its own. `on_turn`: is called with each turn that is started, in a
        thread of its own, so that it can show the turn's text. `fields`: those of `start`, `signal` and `max_rounds`.
        """
        called = [_in_thread_tool(tool) for tool in tools]

        async def run() -> client.Message:
            loop = asyncio.get_running_loop()
            watchers: list[asyncio.Future[None]] = []

            def started(turn: client.Turn) -> None:
                if on_turn is not None:
                    watchers.append(loop.run_in_executor(None, on_turn, Turn(self._thread, turn)))

            try:
                message: client.Message = await self._inner.run(input, tools=called, on_turn=started, **fields)
            finally:
                outcomes = await asyncio.gather(*watchers, return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            return message

        return self._thread.run(run)


class Conversation(_Starter):
    """Made by `gateway.conversation(id)`, which sends nothing."""

    _inner: client.Conversation

    @property
    def id(self) -> str:
        """Its id."""
        return self._inner.id

    def start(self, input: Input | None = None, **fields: Any) -> Turn:
        """Start a turn in this conversation. It takes what `gateway.start` takes."""
        return Turn(self._thread, self._thread.call(lambda: self._inner.start(input, **fields)))

    get = _waiting(client.Conversation.get)
    update = _waiting(client.Conversation.update)
    clear = _waiting(client.Conversation.clear)
    delete = _waiting(client.Conversation.delete)
    messages = _paged(client.Conversation.messages)
    cancel = _waiting(client.Conversation.cancel)
    usage = _waiting(client.Conversation.usage)
    attach = _waiting(client.Conversation.attach)
    detach = _waiting(client.Conversation.detach)

    def events(self) -> Iterator[Turn | client.ConversationUpdated | client.ConversationDeleted | Reattached]:
        """Iterate what happens while it is attached: a `Turn` that was started elsewhere, a change, its deletion."""
        for item in self._thread.iterate(self._inner.events()):
            yield Turn(self._thread, item) if isinstance(item, client.Turn) else item


class Gateway(_Starter):
    """An open connection to a gateway, which stays open across lost sockets until `close`. Use it with `with`.

    It may be used in several threads. In a process that was forked, its methods raise `WrongProcess`.
    """

    _inner: client.Gateway

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> ConnectionState:
        """Whether it is connected now, and if not, why not."""
        return self._inner.state

    @property
    def transport(self) -> Literal["socket", "http"]:
        """What carries the events."""
        return self._inner.transport

    @property
    def codec(self) -> str:
        """The codec of the socket."""
        return self._inner.codec

    @property
    def default_model(self) -> str | None:
        """The model of a start without `model`. None over HTTP."""
        return self._inner.default_model

    @property
    def running(self) -> list[Turn]:
        """The followed turns that have not ended, oldest first."""
        return [Turn(self._thread, turn) for turn in self._thread.call(lambda: self._inner.running)]

    def as_user(self, user: str | None) -> Gateway:
        """Return the same connection, acting for another user. It needs a credential with the scope `as`."""
        return Gateway(self._thread, self._inner.as_user(user))

    def send(
        self,
        params: Any,
        *,
        signal: client.AbortSignal | None = None,
        on_chunk: Callable[[str], object] | None = None,
        on_error: Callable[[client.TurnwireError], object] | None = None,
        on_complete: Callable[[client.Message], object] | None = None,
    ) -> Turn:
        """Start a turn and report it to callbacks, as `turnwire.client.Gateway.send` does. Return the turn at once.

        The callbacks of a turn run one after the other, in a thread that isn't the caller's. `result` of the turn waits for
        the last of them.
        """
        reported = asyncio.Event()

        def last(callback: Callable[[Any], object] | None) -> Callable[[Any], Awaitable[None]]:
            called = _in_thread(callback)

            async def call(value: Any) -> None:
                try:
                    if called is not None:
                        await called(value)
                finally:
                    reported.set()

            return call

        waited: dict[str, Any] = {"on_error": last(on_error), "on_complete": last(on_complete)}
        started = self._thread.call(
            lambda: self._inner.send(params, signal=signal, on_chunk=_in_thread(on_chunk), **waited)
        )
        return Turn(self._thread, started, reported)

    def cancel(self, turns: Sequence[Turn | str], reason: object = None) -> dict[str, CancelOutcome]:
        """Cancel several turns at once. Return the outcome for each."""
        ids = [turn if isinstance(turn, str) else turn.id for turn in turns]
        return self._thread.run(lambda: self._inner.cancel(ids, reason))

    start = _starting(client.Gateway.start)
    attach = _starting(client.Gateway.attach)
    get_turn = _waiting(client.Gateway.get_turn)
    conversations = _paged(client.Gateway.conversations)
    attach_conversations = _waiting(client.Gateway.attach_conversations)
    detach_conversations = _waiting(client.Gateway.detach_conversations)
    models = _waiting(client.Gateway.models)
    usage = _waiting(client.Gateway.usage)
    feedback = _waiting(client.Gateway.feedback)
    ping = _waiting(client.Gateway.ping)

    def request(self, type: str, **fields: Any) -> Any:
        """Send any request of the protocol and return its `result`. Fields that are None are left out."""
        return self._thread.run(lambda: self._inner.request(type, **fields))

    def conversation(self, conversation: str) -> Conversation:
        """Return a conversation by its id. Nothing is sent."""
        return Conversation(self._thread, self._inner.conversation(conversation))

    create_conversation = _opening(client.Gateway.create_conversation)

    def events(self) -> Iterator[client.GatewayEvent | ConnectionState | client.UnknownEvent]:
        """Iterate what belongs to no turn: changes of the state, `GoingAway`, `Durability`, `ConversationsChanged`, …"""
        return self._thread.iterate(self._thread.call(self._inner.events))

    def close(self) -> None:
        """Close it, and end its thread. Turns continue on the gateway. In a forked process, it does nothing."""
        if self._thread.is_foreign or self._thread.is_stopped:
            return
        try:
            self._thread.run(self._inner.close)
        finally:
            self._thread.stop()


@functools.wraps(client.connect)
def _connect(*args: Any, **options: Any) -> Gateway:
    for name in ("token", "ticket"):
        if callable(options.get(name)):
            # Callbacks may use up the threads of the loop while they wait for a socket that needs the token.
            options[name] = _in_thread(options[name], ThreadPoolExecutor(1, "turnwire-credential"))
    opening = client.connect(*args, **options)
    thread = LoopThread()
    try:

        async def open_gateway() -> client.Gateway:
            return await opening

        return Gateway(thread, thread.run(open_gateway))
    except BaseException:
        thread.stop()
        raise


def _typed(_connect_async: Callable[P, object], connect_sync: Callable[..., Gateway]) -> Callable[P, Gateway]:
    """Return `connect_sync` with the parameters of the async function."""
    return connect_sync


connect = _typed(client.connect, _connect)


def _in_thread(
    function: Callable[..., Any] | None, executor: Executor | None = None
) -> Callable[..., Awaitable[Any]] | None:
    """Return an async function that calls `function`, which may wait, in another thread. An async one is returned as it is.

    `executor` has the thread. None: the event loop's.
    """
    if function is None or inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        work = functools.partial(contextvars.copy_context().run, function, *args, **kwargs)
        result = await asyncio.get_running_loop().run_in_executor(executor, work)
        return await result if inspect.isawaitable(result) else result

    return call


def _in_thread_tool(item: Any) -> Any:
    tool = client.tool(item) if callable(item) and not isinstance(item, client.Tool) else item
    if not isinstance(tool, client.Tool) or tool.function is None:
        return tool
    return msgspec.structs.replace(tool, function=_in_thread(tool.function))
