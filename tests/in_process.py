"""The gateway's own parts in the test's loop: instances around a real store, and a client without a socket."""

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
from providers.catalog.catalog import Catalog, Providers
from store.api import Deliver, Store
from store.records import StoreError
from store.sqlite.store import SqliteStore
from tests.client import FRAME_BYTES_MAX, Frame, RequestFailed, TurnView
from tests.conditions import holds

TIMEOUT_S = 30.0
EVERY_CALL = "*"

Gate = tuple[asyncio.Event, asyncio.Event]


class SteeredStore:
    """A real store as one instance has it, whose calls can be made to fail or to wait."""

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
        """The same, as what it stands for."""
        return cast("Store", self)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.real, name)

        async def call(*args: Any, **fields: Any) -> Any:
            await self._steer(name)
            answer = await method(*args, **fields)
            await self._pass(self._late.get(name))
            if self._unanswered.get(name, 0) > 0:
                self._unanswered[name] -= 1
                raise StoreError("The store didn't answer.")
            return answer

        return call

    async def _steer(self, name: str) -> None:
        self.calls.append(name)
        fails = False
        for key in (name, EVERY_CALL):
            if self._failing.get(key, 0) > 0:
                self._failing[key] -= 1
                fails = True
        await self._pass(self._gates.get(name))
        if fails:
            raise StoreError("The store is away.")

    async def _pass(self, gate: Gate | None) -> None:
        if gate is not None:
            gate[0].set()
            await gate[1].wait()

    def expire_logs(self) -> None:
        """Expire the logs of ended turns."""
        self.real._log._ttl_ms = 0  # type: ignore[attr-defined]

    @contextmanager
    def failing(self, name: str = EVERY_CALL, times: int = 10**9) -> Iterator[None]:
        """The next `times` calls of `name`, or of anything, fail."""
        self._failing[name] = times
        try:
            yield
        finally:
            del self._failing[name]

    @contextmanager
    def unanswered(self, name: str, times: int = 1) -> Iterator[None]:
        """The next `times` calls of `name` are carried out, and their answers lost."""
        self._unanswered[name] = times
        try:
            yield
        finally:
            del self._unanswered[name]

    def blocked(self, name: str) -> AbstractContextManager[asyncio.Event]:
        """Calls of `name` wait until the end of the block; the event says that one does."""
        return _gated(self._gates, name)

    def late(self, name: str) -> AbstractContextManager[asyncio.Event]:
        """Answers to `name` wait until the end of the block; the event says that one does."""
        return _gated(self._late, name)


@contextmanager
def _gated(gates: dict[str, Gate], name: str) -> Iterator[asyncio.Event]:
    entered, gate = gates[name] = (asyncio.Event(), asyncio.Event())
    try:
        yield entered
    finally:
        del gates[name]
        gate.set()


class SharedStore(SteeredStore):
    """The same for one of several instances: it receives what the others publish, unless it is disconnected."""

    shared = True

    def __init__(self, store: Store, listeners: list[SharedStore]) -> None:
        super().__init__(store)
        self._listeners = listeners
        self._subscribers: Counter[str] = Counter()
        self._deliver: Deliver | None = None
        self._on_reconnect: Callable[[], None] = lambda: None
        self._is_disconnected = False

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver what was published on a subscribed channel."""
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
        await self._steer("subscribe")
        self._subscribers[channel] += 1
        await self.real.subscribe(channel)

    async def unsubscribe(self, channel: str) -> None:
        """See `Store`."""
        await self._steer("unsubscribe")
        self._subscribers[channel] -= 1
        assert self._subscribers[channel] >= 0, f"{channel} was unsubscribed more often than subscribed"
        await self.real.unsubscribe(channel)

    @property
    def subscribed(self) -> set[str]:
        """The channels that this instance is subscribed to."""
        return {channel for channel, count in self._subscribers.items() if count}

    @contextmanager
    def disconnected(self) -> Iterator[None]:
        """Lose what is published until the end of the block; then call `on_reconnect`."""
        self._is_disconnected = True
        try:
            yield
        finally:
            self._is_disconnected = False
            self._on_reconnect()


def make_settings(**fields: Any) -> Settings:
    """Settings with a store in memory."""
    return Settings(**{"store": "sqlite:///:memory:", **fields})


@asynccontextmanager
async def open_store() -> AsyncIterator[SteeredStore]:
    """A store in memory that can be steered."""
    store = SqliteStore(":memory:")
    await store.open()
    try:
        yield SteeredStore(store)
    finally:
        await store.close()


@asynccontextmanager
async def open_shared_store() -> AsyncIterator[Callable[[], SharedStore]]:
    """A store in memory for several instances: each call gives one more of them its own view of it."""
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
    """One instance of the gateway in this loop. `durabilities`: the events that it sent to all of its connections."""

    def __init__(self, store: SteeredStore, providers: Providers | None = None, **fields: Any) -> None:
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
        providers = self._providers or Providers(catalog)
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

            def recorded(durability: Durability) -> None:
                self.durabilities.append(durability)
                set_durability(durability)

            clients.set_durability = recorded  # type: ignore[method-assign]
            background_tasks = [tasks.create_task(chore) for chore in runtime.background_tasks()]
            await runtime.start()
            self._started.set()
            await self._stopping.wait()
            await runtime.services.runner.drain(0)
            for chore in background_tasks:
                chore.cancel()

    async def started(self) -> Instance:
        """Wait until it serves."""
        started = asyncio.get_running_loop().create_task(self._started.wait())
        await asyncio.wait([self._life, started], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            self._life.result()
        return self

    @property
    def shared(self) -> SharedStore:
        """Its view of a store that others use too."""
        assert isinstance(self.store, SharedStore)
        return self.store

    @property
    def runtime(self) -> Runtime:
        """Its parts."""
        assert self._runtime is not None, "it has not started"
        return self._runtime

    @property
    def services(self) -> Services:
        """What its sessions work with."""
        return self.runtime.services

    def stream(self, turn: str, user: str = "ann") -> LiveTurn:
        """A turn that it knows."""
        found = self.services.registry.get(user, turn)
        assert found is not None, f"{turn} is not known"
        return found

    async def kill(self) -> None:
        """As kill -9: everything stops where it is."""
        self._life.cancel()
        await asyncio.wait([self._life])
        for stream in self.services.registry.live():
            stream.become_mirror()  # a dead process has no timers
            stream.end()

    async def stop(self) -> None:
        """Drain, at once, and end. Raises what went wrong in its tasks."""
        self._stopping.set()
        await asyncio.wait([self._life])
        if not self._life.cancelled():
            self._life.result()


@asynccontextmanager
async def open_instance(
    store: SteeredStore, providers: Providers | None = None, **fields: Any
) -> AsyncIterator[Instance]:
    """One instance, with the demo model unless `providers` are given; at the end it leaves."""
    instance = await Instance(store, providers, **fields).started()
    try:
        yield instance
    finally:
        await instance.stop()


@asynccontextmanager
async def open_pair(
    providers: Providers | None = None, *, lease_s: float = 0.3, **fields: Any
) -> AsyncIterator[tuple[Instance, Instance]]:
    """Two instances on one store; those that are alive at the end leave."""
    async with open_shared_store() as open_view:
        pair = [await Instance(open_view(), providers, lease_s=lease_s, **fields).started() for _ in range(2)]
        try:
            yield pair[0], pair[1]
        finally:
            for instance in pair:
                await instance.stop()


@asynccontextmanager
async def open_services(
    store: SteeredStore, providers: Providers | None = None, **fields: Any
) -> AsyncIterator[Services]:
    """What a process has; running turns are stopped at the end."""
    async with open_instance(store, providers, **fields) as instance:
        yield instance.services


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.005)


class Seat:
    """A client that talks to a `Session` and reads its outbox; checks laws 1, 2 and 10 on the way."""

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
        """Stand at a position that an earlier connection reached."""
        self.turns[turn] = TurnView()
        self.turns[turn].epoch, self.turns[turn].seq = position["epoch"], position["seq"]

    def drain(self) -> None:
        """Take every frame that waits."""
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
        """Send a request; its id."""
        request_id = str(fields.pop("id", None) or f"r{next(self._ids)}")
        self.send_raw(self.codec.encode({"type": kind, "id": request_id, **fields}))
        return request_id

    def send_raw(self, data: bytes | str) -> None:
        """Send a frame as it is."""
        self.session.receive(data if isinstance(data, str) or self.codec.binary else data.decode())

    async def until(self, condition: Callable[[], object]) -> None:
        """Read frames until `condition()` holds."""
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
        """The answer to a request, if it is here."""
        return next(
            (frame for frame in self.frames if frame.get("id") == request_id and frame["type"] in {"result", "error"}),
            None,
        )

    async def answer(self, request_id: str) -> Any:
        """The result of a request. Raises `RequestFailed`."""
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
        """Send a request and wait for its result. Raises `RequestFailed`."""
        return await self.answer(self.send(kind, **fields))

    async def refused(self, kind: str, **fields: Any) -> Frame:
        """The error that a request is answered with."""
        try:
            result = await self.request(kind, **fields)
        except RequestFailed as failed:
            return failed.error
        raise AssertionError(f"{kind} was answered: {result}")

    async def start(self, turn: str, prompt: str = "Hello", **fields: Any) -> Any:
        """Start a demo turn that says a few words at once, unless `demo` says otherwise."""
        demo = {"rate": 0, "tokens": 5, **fields.pop("demo", {})}
        return await self.request("turn.start", turn=turn, input=prompt, params={"demo": demo}, **fields)

    async def ending(self, turn: str) -> Frame:
        """Wait for a turn's ending."""
        await self.until(lambda: turn in self.turns and self.turns[turn].ended)
        ended = self.turns[turn].ended
        assert ended is not None
        return ended

    def of(self, turn: str, kind: str | None = None) -> list[Frame]:
        """The frames of a turn, of all kinds or of one."""
        return [f for f in self.frames if f.get("turn") == turn and kind in {None, f["type"]}]


@asynccontextmanager
async def seat(services: Services, user: str = "ann", codec: Codec = JSON) -> AsyncIterator[Seat]:
    """A client; at the end it is gone, as a connection that drops."""
    made = Seat(services, user, codec)
    try:
        yield made
    finally:
        made.session.close()
        for task in tuple(made.tasks):
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


SLOW = {"rate": 100, "tokens": 10_000}
"""A turn that goes on until it is stopped."""
