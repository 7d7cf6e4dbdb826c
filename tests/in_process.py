"""The gateway's own parts in the test's loop: services around a real store, and a client without a socket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import msgspec

from gateway.codec import CODECS, JSON, Codec
from gateway.hub import Hub
from gateway.outbox import Outbox
from gateway.runner import Runner
from gateway.services import Services
from gateway.session import Session
from gateway.settings import Settings
from providers.catalog import Catalog, Providers
from store.base import Store, StoreError
from store.embedded import EmbeddedStore
from tests.client import FRAME_BYTES_MAX, Frame, RequestFailed, TurnView

TIMEOUT_S = 10.0


class SteeredStore:
    """A real store whose calls can be made to fail or to wait."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failing: dict[str, int] = {}
        self._gates: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any) -> Any:
            self.calls.append(name)
            fails = self._failing.get(name, 0) > 0
            if fails:
                self._failing[name] -= 1
            if name in self._gates:
                entered, gate = self._gates[name]
                entered.set()
                await gate.wait()
            if fails:
                raise StoreError("The store is away.")
            return await method(*args)

        return call

    @contextmanager
    def failing(self, name: str, times: int = 10**9) -> Iterator[None]:
        """The next `times` calls of `name` fail."""
        self._failing[name] = times
        yield
        del self._failing[name]

    @contextmanager
    def blocked(self, name: str) -> Iterator[asyncio.Event]:
        """Calls of `name` wait until the end of the block; the event says that one does."""
        entered, gate = asyncio.Event(), asyncio.Event()
        self._gates[name] = (entered, gate)
        try:
            yield entered
        finally:
            del self._gates[name]
            gate.set()


def make_settings(**fields: Any) -> Settings:
    """Settings with a store in memory."""
    return Settings(**{"store": "sqlite:///:memory:", **fields})


@asynccontextmanager
async def open_store() -> AsyncIterator[SteeredStore]:
    """A store in memory that can be steered."""
    store = EmbeddedStore(":memory:")
    await store.open()
    try:
        yield SteeredStore(store)
    finally:
        await store.close()


@asynccontextmanager
async def open_services(
    store: SteeredStore, providers: Providers | None = None, **fields: Any
) -> AsyncIterator[Services]:
    """What a process has, with the demo model; running turns are stopped at the end."""
    settings = make_settings(**fields)
    catalog = Catalog({})
    hub = Hub(settings.turn_log_ttl_s)
    async with asyncio.TaskGroup() as tasks:
        runner = Runner(
            hub=hub,
            store=cast("Store", store),
            catalog=catalog,
            providers=providers or Providers(catalog),
            settings=settings,
            tasks=tasks,
        )
        yield Services("in_test", settings, cast("Store", store), catalog, hub, runner)
        await runner.drain(0)


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
        self.session = Session(services, user, self.outbox, self._spawn, self._break)
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
                if frame["type"] == "turn.started":
                    self.turns[frame["turn"]] = TurnView()
                self.turns.setdefault(frame["turn"], TurnView()).take(frame)

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
                if condition():
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
