"""Instances of the gateway in the test's event loop, with a real store, and clients of them without a socket."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, cast

import msgspec

from gateway.identity.authenticator import Authenticator
from gateway.identity.principal import Principal
from gateway.protocol.codec import CODECS, JSON, Codec
from gateway.protocol.events import Durability
from gateway.requests.services import Services
from gateway.requests.session import Session
from gateway.runtime import Runtime, create_runtime
from gateway.settings import Settings
from gateway.streams.outbox import Outbox
from gateway.telemetry.metrics import Telemetry
from gateway.turns.live_turn import LiveTurn
from providers.catalog.catalog import Catalog
from providers.clients import ProviderClients
from store.api import Deliver, Store
from store.errors import StoreError
from store.sqlite.store import SqliteStore
from tests.client import FRAME_BYTES_MAX, Frame, RequestFailed, TurnView
from tests.conditions import holds

TIMEOUT_S = 30.0
EVERY_CALL = "*"

Gate = tuple[asyncio.Event, asyncio.Event]
"""The gate of a method's calls, as two events: a call that waits sets the first; setting the second lets it pass."""


class ControlledStore:
    """An instance's access to a real store; its calls can be made to fail or to wait."""

    shared = False

    def __init__(self, store: Store) -> None:
        self.real = store
        self._failing: dict[str, int] = {}
        self._unanswered: dict[str, int] = {}
        self._gates: dict[str, Gate] = {}
        self._late: dict[str, Gate] = {}
        self.calls: list[str] = []

    @property
    def as_store(self) -> Store:
        """This object with the type `Store`."""
        return cast("Store", self)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.real, name)

        async def call(*args: Any, **fields: Any) -> Any:
            await self._before_call(name)
            answer = await method(*args, **fields)
            await self._wait(self._late.get(name))
            if self._unanswered.get(name, 0) > 0:
                self._unanswered[name] -= 1
                raise StoreError("The reply was lost.")
            return answer

        return call

    async def _before_call(self, name: str) -> None:
        self.calls.append(name)
        fails = False
        for key in (name, EVERY_CALL):
            if self._failing.get(key, 0) > 0:
                self._failing[key] -= 1
                fails = True
        await self._wait(self._gates.get(name))
        if fails:
            raise StoreError("The store can't be reached.")

    async def _wait(self, gate: Gate | None) -> None:
        if gate is not None:
            gate[0].set()
            await gate[1].wait()

    def expire_logs(self) -> None:
        """Make the logs of ended turns expire at once."""
        self.real._log._ttl_ms = 0  # type: ignore[attr-defined]

    @contextmanager
    def failing(self, name: str = EVERY_CALL, times: int = 10**9) -> Iterator[None]:
        """Make the next `times` calls of a method fail; by default, of all methods."""
        self._failing[name] = times
        try:
            yield
        finally:
            del self._failing[name]

    @contextmanager
    def unanswered(self, name: str, times: int = 1) -> Iterator[None]:
        """Carry out the next `times` calls of a method, but raise `StoreError` instead of returning the result."""
        self._unanswered[name] = times
        try:
            yield
        finally:
            del self._unanswered[name]

    def blocked(self, name: str) -> AbstractContextManager[asyncio.Event]:
        """Delay calls of a method until the end of the block; the yielded event is set when a call waits."""
        return _gated(self._gates, name)

    def late(self, name: str) -> AbstractContextManager[asyncio.Event]:
        """Delay the results of a method until the end of the block; the yielded event is set when a result waits."""
        return _gated(self._late, name)


@contextmanager
def _gated(gates: dict[str, Gate], name: str) -> Iterator[asyncio.Event]:
    entered, gate = gates[name] = (asyncio.Event(), asyncio.Event())
    try:
        yield entered
    finally:
        del gates[name]
        gate.set()


class SharedStore(ControlledStore):
    """A `ControlledStore` of one of several instances. It receives what any of them publishes, unless it is disconnected."""

    shared = True

    def __init__(self, store: Store, listeners: list[SharedStore]) -> None:
        super().__init__(store)
        self._listeners = listeners
        self._subscribers: Counter[str] = Counter()
        self._deliver: Deliver | None = None
        self._on_reconnect: Callable[[], None] = lambda: None
        self._is_disconnected = False

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a published message if its channel is subscribed."""
        if self._deliver is not None and self._subscribers[channel] > 0 and not self._is_disconnected:
            self._deliver(channel, payload)

    async def run_pubsub(self, deliver: Deliver, on_reconnect: Callable[[], None]) -> None:
        """See `Store`."""
        self._deliver, self._on_reconnect = deliver, on_reconnect
        self._listeners.append(self)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._listeners.remove(self)

    async def subscribe(self, channel: str) -> None:
        """See `Store`."""
        await self._before_call("subscribe")
        self._subscribers[channel] += 1
        await self.real.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        """See `Store`."""
        await self._before_call("unsubscribe")
        self._subscribers[channel] -= 1
        assert self._subscribers[channel] >= 0, f"{channel} was unsubscribed more often than it was subscribed"
        await self.real.unsubscribe(channel)

    @property
    def subscribed(self) -> set[str]:
        """The channels that this instance is subscribed to."""
        return {channel for channel, count in self._subscribers.items() if count}

    @contextmanager
    def disconnected(self) -> Iterator[None]:
        """Lose published messages until the end of the block; then call `on_reconnect`."""
        self._is_disconnected = True
        try:
            yield
        finally:
            self._is_disconnected = False
            self._on_reconnect()


def make_settings(**fields: Any) -> Settings:
    """Return settings with a store in memory."""
    return Settings(**{"store": "sqlite:///:memory:", **fields})


@asynccontextmanager
async def open_store() -> AsyncIterator[ControlledStore]:
    """Open a store in memory whose calls can be made to fail or to wait."""
    store = SqliteStore(":memory:")
    await store.open()
    try:
        yield ControlledStore(store)
    finally:
        await store.close()


@asynccontextmanager
async def open_shared_store() -> AsyncIterator[Callable[[], SharedStore]]:
    """Open a store in memory for several instances, and yield a function that returns a new instance's access to it."""
    store = SqliteStore(":memory:")
    await store.open()
    listeners: list[SharedStore] = []

    def deliver(channel: str, payload: bytes) -> None:
        for listener in tuple(listeners):
            listener.deliver(channel, payload)

    listening = asyncio.get_running_loop().create_task(store.run_pubsub(deliver, lambda: None))
    await asyncio.sleep(0)
    try:
        yield lambda: SharedStore(store, listeners)
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await store.close()


class Instance:
    """One instance of the gateway in this event loop. `durabilities`: the `durability` events that it
    sent to all connections."""

    def __init__(self, store: ControlledStore, providers: ProviderClients | None = None, **fields: Any) -> None:
        self.store = store
        self.durabilities: list[Any] = []
        self._settings = make_settings(**fields)
        self._providers = providers
        self._runtime: Runtime | None = None
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._life = asyncio.get_running_loop().create_task(self._live())

    async def _live(self) -> None:
        catalog = Catalog({})
        providers = self._providers or ProviderClients(catalog)
        authenticator = Authenticator(self._settings, self.store.as_store)
        async with asyncio.TaskGroup() as tasks:
            runtime = create_runtime(
                self._settings,
                self.store.as_store,
                catalog,
                providers,
                tasks,
                authenticator,
                Telemetry(()),
            )
            self._runtime = runtime
            clients = runtime.services.clients
            set_durability = clients.set_durability

            def record_and_set(durability: Durability) -> None:
                self.durabilities.append(durability)
                set_durability(durability)

            clients.set_durability = record_and_set  # type: ignore[method-assign]
            background_tasks = [tasks.create_task(work) for work in runtime.background_tasks()]
            await runtime.start()
            self._started.set()
            await self._stopping.wait()
            await runtime.services.runner.drain(0)
            for task in background_tasks:
                task.cancel()

    async def started(self) -> Instance:
        """Wait until the instance is started, and return it. Raises the error of a failed start."""
        started = asyncio.get_running_loop().create_task(self._started.wait())
        await asyncio.wait([self._life, started], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            self._life.result()
        return self

    @property
    def shared(self) -> SharedStore:
        """The instance's access to the shared store."""
        assert isinstance(self.store, SharedStore)
        return self.store

    @property
    def runtime(self) -> Runtime:
        """The parts of the instance."""
        assert self._runtime is not None, "the instance has not started"
        return self._runtime

    @property
    def services(self) -> Services:
        """The services that its sessions use."""
        return self.runtime.services

    def stream(self, turn: str, user: str = "ann") -> LiveTurn:
        """Return a turn in the instance's registry."""
        found = self.services.registry.get(user, turn)
        assert found is not None, f"{turn} is not in the registry"
        return found

    async def kill(self) -> None:
        """Stop all tasks at once, without cleanup, as SIGKILL does."""
        self._life.cancel()
        await asyncio.wait([self._life])
        for stream in self.services.registry.live():
            stream.become_mirror()  # a killed process has no timers
            stream.end()

    async def stop(self) -> None:
        """Drain without a delay, and stop. Raises the errors of the instance's tasks."""
        self._stopping.set()
        await asyncio.wait([self._life])
        if not self._life.cancelled():
            self._life.result()


@asynccontextmanager
async def open_instance(
    store: ControlledStore, providers: ProviderClients | None = None, **fields: Any
) -> AsyncIterator[Instance]:
    """Run an instance until the end of the block, with the demo model unless `providers` are given."""
    instance = await Instance(store, providers, **fields).started()
    try:
        yield instance
    finally:
        await instance.stop()


@asynccontextmanager
async def open_pair(
    providers: ProviderClients | None = None, *, lease_s: float = 0.3, **fields: Any
) -> AsyncIterator[tuple[Instance, Instance]]:
    """Run two instances on one store until the end of the block."""
    async with open_shared_store() as open_view:
        pair = [await Instance(open_view(), providers, lease_s=lease_s, **fields).started() for _ in range(2)]
        try:
            yield pair[0], pair[1]
        finally:
            for instance in pair:
                await instance.stop()


@asynccontextmanager
async def open_services(
    store: ControlledStore, providers: ProviderClients | None = None, **fields: Any
) -> AsyncIterator[Services]:
    """Run an instance until the end of the block, and yield its services."""
    async with open_instance(store, providers, **fields) as instance:
        yield instance.services


async def eventually(condition: Callable[[], object]) -> None:
    """Poll a condition until it is true. Raises `TimeoutError`."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


class SessionClient:
    """A client of a `Session` that reads its outbox, and asserts laws 1, 2 and 10 for each frame."""

    def __init__(self, services: Services, user: str, codec: Codec) -> None:
        self.frames: list[Frame] = []
        self.turns: dict[str, TurnView] = {}
        self.overflowed = False
        self.broken = False
        self.wake = asyncio.Event()
        self.codec = codec
        self.outbox = Outbox(codec, services.settings.outbox_bytes, self.wake.set, self._overflow)
        access = services.authenticator.admit(Principal(user=user))
        self.session = Session(services, user, access, self.outbox, self._spawn, self._break)
        self.tasks: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)

    def _overflow(self) -> None:
        self.overflowed = True

    def _break(self) -> None:
        self.broken = True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self.tasks.discard(task)

    def resume(self, turn: str, position: Frame) -> None:
        """Set the position in a turn that an earlier connection reached."""
        self.turns[turn] = TurnView()
        self.turns[turn].epoch, self.turns[turn].seq = position["epoch"], position["seq"]

    def drain(self) -> None:
        """Read all queued frames."""
        while (payload := self.outbox.next_frame()) is not None:
            frame = msgspec.msgpack.decode(payload) if self.codec.binary else msgspec.json.decode(payload)
            assert max(len(codec.encode(frame)) for codec in CODECS) <= FRAME_BYTES_MAX, "law 10"
            self.frames.append(frame)
            if frame["type"].startswith("turn.") and frame["type"] != "turn.detached":
                known = self.turns.get(frame["turn"])
                if frame["type"] == "turn.started" and (known is None or known.seq or known.ended):
                    self.turns[frame["turn"]] = TurnView()
                self.turns.setdefault(frame["turn"], TurnView()).apply(frame)

    def send(self, kind: str, **fields: Any) -> str:
        """Send a request, and return its id."""
        request_id = str(fields.pop("id", None) or f"r{next(self._ids)}")
        self.send_raw(self.codec.encode({"type": kind, "id": request_id, **fields}))
        return request_id

    def send_raw(self, data: bytes | str) -> None:
        """Send a frame unchanged."""
        self.session.receive(data if isinstance(data, str) or self.codec.binary else data.decode())

    async def until(self, condition: Callable[[], object]) -> None:
        """Read frames until `condition()` is true."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                self.wake.clear()
                self.drain()
                for task in self.tasks:
                    if task.done():
                        task.result()
                if holds(condition):
                    return
                await self.wake.wait()

    def answered(self, request_id: str) -> Frame | None:
        """Return the response to a request, or None if it hasn't been received."""
        return next(
            (frame for frame in self.frames if frame.get("id") == request_id and frame["type"] in {"result", "error"}),
            None,
        )

    async def answer(self, request_id: str) -> Any:
        """Wait for the result of a request, and return it. Raises `RequestFailed`."""
        await self.until(lambda: self.answered(request_id))
        frame = self.answered(request_id)
        assert frame is not None
        if frame["type"] == "error":
            raise RequestFailed(frame["error"])
        if "pieces" in frame:
            pieces = [one["text"] for one in self.frames if one["type"] == "result.piece" and one["id"] == request_id]
            assert len(pieces) == frame["pieces"]
            return msgspec.json.decode("".join(pieces))
        return frame["result"]

    async def request(self, kind: str, **fields: Any) -> Any:
        """Send a request, wait for its result and return it. Raises `RequestFailed`."""
        return await self.answer(self.send(kind, **fields))

    async def refused(self, kind: str, **fields: Any) -> Frame:
        """Send a request that must fail, and return its error."""
        try:
            result = await self.request(kind, **fields)
        except RequestFailed as failed:
            return failed.error
        raise AssertionError(f"{kind} did not fail: {result}")

    async def start(self, turn: str, prompt: str = "Hello", **fields: Any) -> Any:
        """Start a demo turn, with a short answer without delays unless `demo` changes that."""
        demo = {"rate": 0, "tokens": 5, **fields.pop("demo", {})}
        return await self.request("turn.start", turn=turn, input=prompt, params={"demo": demo}, **fields)

    async def ending(self, turn: str) -> Frame:
        """Wait for a turn's ending, and return it."""
        await self.until(lambda: turn in self.turns and self.turns[turn].ended)
        ended = self.turns[turn].ended
        assert ended is not None
        return ended

    def of(self, turn: str, kind: str | None = None) -> list[Frame]:
        """Return the frames of a turn, of one type or of all."""
        return [f for f in self.frames if f.get("turn") == turn and kind in {None, f["type"]}]


@asynccontextmanager
async def open_client(services: Services, user: str = "ann", codec: Codec = JSON) -> AsyncIterator[SessionClient]:
    """Yield a client; at the end of the block, close its session as if the connection was lost."""
    client = SessionClient(services, user, codec)
    try:
        yield client
    finally:
        client.session.close()
        for task in tuple(client.tasks):
            task.cancel()
        await asyncio.gather(*client.tasks, return_exceptions=True)


SLOW = {"rate": 100, "tokens": 10_000}
"""The options of a demo turn that runs for 100 s unless it is cancelled."""
