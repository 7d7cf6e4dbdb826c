"""Turns that other instances run, or that ended before this process knew them: mirrored from the store's log.

A mirror is a `LiveTurn` that nobody here publishes to but this room, so its attachments are like any other's.
Published entries are a hint with a payload: what doesn't continue the mirror is read from the log (law 7).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
import structlog

from gateway.protocol.errors import ApiError
from gateway.tasks import spawn
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn, gone, mirror_of, was_deleted
from gateway.turns.mirror import UNREADABLE, apply, read_whole
from store.api import turn_channel
from store.records import LogEntry, NotFound, StoreError

log = structlog.stdlib.get_logger("turnwire.follower")

POLL_S = 1.0
TOUCH_S = 3.0
IDLE_S = 10.0
QUIET_S = 3.0

_decode_entry = msgspec.msgpack.Decoder(LogEntry).decode


class Mirrors:
    """The mirrors of this process: one for each turn, however many connections follow it."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._lease_s = instance.settings.lease_s
        self._grace_s = instance.settings.disconnect_grace_s
        self._tasks = instance.tasks
        self._mirrors: dict[str, LiveTurn] = {}
        self._heard: dict[str, float] = {}
        self._wanted: dict[str, float] = {}
        self._missing: dict[str, float] = {}
        self._loading: dict[str, asyncio.Future[LiveTurn]] = {}
        self._early: dict[str, list[bytes]] = {}
        self._reading: set[str] = set()
        self._followed: set[str] = set()
        self._to_reload: set[str] = set()

    async def find(self, user: str, turn: str) -> LiveTurn:
        """The turn, wherever it runs. Raises `NotFound`, `ApiError` "gone", `StoreError`."""
        known = await self._known(user, turn)
        if known is not None:
            await self._check_kept(known)
            return known
        channel = turn_channel(user, turn)
        loading = self._loading.get(channel)
        if loading is None:
            loading = self._loading[channel] = asyncio.get_running_loop().create_future()
            spawn(self._tasks, self._load(user, turn, channel, loading))
        return await asyncio.shield(loading)

    async def _known(self, user: str, turn: str) -> LiveTurn | None:
        """The turn, if this process knows it. A start that turns out to begin nothing here doesn't count."""
        while (known := self._registry.get(user, turn)) is not None:
            if known.accepted.done():
                return known
            with suppress(ApiError):
                await asyncio.shield(known.accepted)
        return None

    async def _check_kept(self, stream: LiveTurn) -> None:
        """Another instance may have deleted the conversation of an ended turn. A store that can't say changes nothing."""
        if stream.live or stream.conversation is None or not self._store.shared:
            return
        with suppress(StoreError):
            record = await self._store.turn(stream.user, stream.turn)
            if was_deleted(record):
                self._registry.forget(stream.user, stream.conversation)
                raise gone(record)

    async def _load(self, user: str, turn: str, channel: str, loading: asyncio.Future[LiveTurn]) -> None:
        try:
            loading.set_result(await self._mirror(user, turn, channel))
        except Exception as error:
            loading.set_exception(error)
            loading.exception()  # it counts as seen even if who asked has gone
        finally:
            del self._loading[channel]
            self._early.pop(channel, None)

    async def _mirror(self, user: str, turn: str, channel: str) -> LiveTurn:
        record = await self._store.turn(user, turn)
        stream = mirror_of(record)
        early = self._early[channel] = []  # what is published before the log's answer is read may be newer than it
        await self._store.subscribe(channel)
        try:
            await self.catch_up(stream)
            if record.ending is not None and (stream.live or was_deleted(record)):
                raise gone(record)
            known = await self._known(user, turn)
        except BaseException:
            await self._store.unsubscribe(channel)
            raise
        if known is not None:
            await self._store.unsubscribe(channel)
            return known
        stream.accepted.set_result(record)
        self._registry.add(stream, record.conversation)
        self._followed.add(channel)
        self._keep(channel, stream)
        if not stream.live:
            await self._finish(stream)
        else:
            for payload in early:
                self.deliver(channel, payload)
        return stream

    def _keep(self, channel: str, stream: LiveTurn) -> None:
        now = asyncio.get_running_loop().time()
        self._mirrors[channel] = stream
        self._heard[channel] = self._wanted[channel] = now
        stream.notify_followed(self._touch_soon)

    async def adopt(self, stream: LiveTurn) -> None:
        """Another instance has the turn that ran here: follow its log from now on."""
        channel = turn_channel(stream.user, stream.turn)
        stream.owned = False
        self._to_reload.add(channel)
        self._keep(channel, stream)
        if stream.attached:
            self._touch_soon(stream)
        self._reading.add(channel)
        await self._read(channel)

    async def release(self, stream: LiveTurn) -> None:
        """Mirror the turn no longer."""
        channel = turn_channel(stream.user, stream.turn)
        for kept in (self._heard, self._wanted, self._missing, self._mirrors):
            kept.pop(channel, None)
        self._to_reload.discard(channel)
        if channel in self._followed:
            self._followed.discard(channel)
            with suppress(StoreError):
                await self._store.unsubscribe(channel)

    async def _follow(self, channel: str) -> None:
        await self._store.subscribe(channel)
        if channel in self._mirrors:
            self._followed.add(channel)
        else:
            await self._store.unsubscribe(channel)  # released meanwhile

    async def catch_up(self, stream: LiveTurn) -> None:
        """Read what the mirror lacks, up to where the log is damaged. Raises `StoreError`."""
        try:
            await self._catch_up(stream)
        except UNREADABLE as error:
            log.error("a turn's log is damaged", turn=stream.turn, readable=stream.log.end, error=str(error))

    async def _catch_up(self, stream: LiveTurn) -> None:
        while entries := await self._store.log(stream.user, stream.turn, stream.log.end):
            if stream.owned:
                return
            before = stream.log.end
            for entry in entries:
                if not apply(stream, entry):
                    await self._reload(stream)
                    return
            if not stream.live or stream.log.end == before:
                return

    async def _reload(self, stream: LiveTurn) -> None:
        """Take the store's log for the whole truth."""
        whole, state = await read_whole(self._store, stream)
        if whole.end and not stream.owned:
            stream.reload(whole, state)
            self._to_reload.discard(turn_channel(stream.user, stream.turn))

    async def _finish(self, stream: LiveTurn) -> None:
        self._registry.remember_ended(stream)
        stream.end()
        await self.release(stream)

    def deliver(self, channel: str, payload: bytes) -> None:
        """A published entry of a turn's log. Never awaits."""
        stream = self._mirrors.get(channel)
        if stream is None and channel in self._early:
            self._early[channel].append(payload)
        if stream is None or stream.owned:
            return
        self._heard[channel] = asyncio.get_running_loop().time()
        try:
            fits = channel not in self._to_reload and apply(stream, _decode_entry(payload))
        except UNREADABLE:
            log.exception("an entry can't be applied", channel=channel)
            return
        if not fits or not stream.live:
            self.read_soon(channel)

    def read_soon(self, channel: str | None = None) -> None:
        """Read the log of one mirror, or of all (after the subscription was lost for a while)."""
        if channel is None:
            spawn(self._tasks, self._touch([stream for stream in self._mirrors.values() if stream.attached]))
        for name in list(self._mirrors) if channel is None else [channel]:
            if name not in self._reading:
                self._reading.add(name)
                spawn(self._tasks, self._read(name))

    async def _read(self, channel: str) -> None:
        stream = self._mirrors.get(channel)
        try:
            if stream is not None and not stream.owned:
                if channel not in self._followed:
                    await self._follow(channel)
                if channel in self._to_reload:
                    await self._reload(stream)
                elif stream.live:
                    await self.catch_up(stream)
                if self._mirrors.get(channel) is not stream or stream.owned:
                    return
                if not stream.live:
                    await self._finish(stream)
                elif await self._is_gone(channel, stream):
                    log.warning("nothing more can come of a turn", turn=stream.turn)
                    self._registry.discard(stream)
                    stream.close()
                    await self.release(stream)
        except StoreError as error:
            log.info("can't read a log now, the next poll will", channel=channel, error=str(error))
        except Exception:
            log.exception("following failed", channel=channel)
        finally:
            self._reading.discard(channel)

    async def _is_gone(self, channel: str, stream: LiveTurn) -> bool:
        """Whether a silent turn ended behind what is kept of its log, or the store lost it and no owner brings it back."""
        now = asyncio.get_running_loop().time()
        if now - self._heard[channel] < QUIET_S:
            return False
        try:
            record = await self._store.turn(stream.user, stream.turn)
        except NotFound:
            return now - self._missing.setdefault(channel, now) > self._lease_s
        self._missing.pop(channel, None)
        if record.ending is None:
            return False
        await self.catch_up(stream)  # it may have ended just now
        return stream.live and not stream.owned

    async def run(self) -> None:
        """Poll what was not heard of, touch what is followed, drop what nobody wants; until cancelled."""
        touched = 0.0
        while True:
            await asyncio.sleep(POLL_S)
            now = asyncio.get_running_loop().time()
            for channel, stream in list(self._mirrors.items()):
                if channel not in self._mirrors:
                    continue  # it ended, or was taken over, while another was dropped
                if stream.attached or stream.waited_for:
                    self._wanted[channel] = now
                elif now - self._wanted[channel] > IDLE_S:
                    self._registry.discard(stream)
                    await self.release(stream)
                    continue
                if now - self._heard[channel] >= POLL_S:
                    self.read_soon(channel)
            if now - touched >= TOUCH_S:
                touched = now
                await self._touch([stream for stream in self._mirrors.values() if stream.attached])

    def _touch_soon(self, stream: LiveTurn) -> None:
        """A first connection is attached, or the last one left: who asks before the next round has to know."""
        spawn(self._tasks, self._touch([stream]))

    async def _touch(self, followed: list[LiveTurn]) -> None:
        if followed:
            # It is over a grace after the last connection left, or this instance was last heard of (law 8).
            ttl_s = self._grace_s + (2 * TOUCH_S if any(stream.attached for stream in followed) else 0)
            try:
                turns = [(stream.user, stream.turn) for stream in followed]
                await self._store.renew_presence(self._instance.id, turns, int(ttl_s * 1000))
            except StoreError as error:
                log.info("can't say what is followed here", error=str(error))
