"""Mirror turns that other instances run, or that ended before this process knew them, from the store's log.

A mirror is a `LiveTurn` whose events come only from the store's log, so its attachments work like those of any turn.
An entry that another instance publishes is appended to the mirror. Published entries may be lost: if one doesn't
continue the mirror, the log is read instead (law 7).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from gateway.protocol.errors import ApiError
from gateway.tasks import spawn
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn, gone, mirror_of, was_deleted
from gateway.turns.mirror import UNREADABLE, apply_entry, read_log
from gateway.turns.presence import Presence
from store.api import turn_channel
from store.errors import NotFound, StoreError
from store.records import LogEntry

log = structlog.stdlib.get_logger("turnwire.mirror")

POLL_S = 1.0
IDLE_S = 10.0
SILENT_S = 3.0

_decode_entry = msgspec.msgpack.Decoder(LogEntry).decode


@dataclass(slots=True)
class _Mirror:
    """A mirror, with the loop times in seconds of its last entry and its last use.

    `needs_reload`: its log must be replaced with the store's. `missing_since`: the loop time in seconds since which the
    store doesn't know the turn, or None if it does.
    """

    live_turn: LiveTurn
    last_entry_at: float
    last_used_at: float
    needs_reload: bool
    missing_since: float | None = None


class Mirrors:
    """The mirrors of this process: one for each turn, regardless of how many connections are attached to it."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._registry = instance.registry
        self._store = instance.store
        self._lease_s = instance.settings.lease_s
        self._tasks = instance.tasks
        self._presence = Presence(instance)
        self._mirrors: dict[str, _Mirror] = {}
        """The mirrors by channel."""
        self._loading: dict[str, asyncio.Future[LiveTurn]] = {}
        self._early: dict[str, list[bytes]] = {}
        """The entries that arrive while their mirror is loaded."""
        self._reading: set[str] = set()
        self._subscribed: set[str] = set()

    async def find(self, user: str, turn: str) -> LiveTurn:
        """Return the turn, on whichever instance it runs; load a mirror if this process doesn't know the turn.

        Raises `NotFound`, `ApiError` "gone" and `StoreError`.
        """
        local = await self._find_local(user, turn)
        if local is not None:
            await self._check_not_deleted(local)
            return local
        channel = turn_channel(user, turn)
        loading = self._loading.get(channel)
        if loading is None:
            loading = self._loading[channel] = asyncio.get_running_loop().create_future()
            spawn(self._tasks, self._load(user, turn, channel))
        return await asyncio.shield(loading)

    async def _find_local(self, user: str, turn: str) -> LiveTurn | None:
        """Return the turn if this process knows it, after waiting for a start that isn't accepted yet.

        A start that doesn't begin a turn here is ignored.
        """
        while (local := self._registry.get(user, turn)) is not None:
            if local.accepted.done():
                return local
            with suppress(ApiError):
                await asyncio.shield(local.accepted)
        return None

    async def _check_not_deleted(self, live_turn: LiveTurn) -> None:
        """Raise `ApiError` "gone" if another instance has deleted the conversation of an ended turn.

        If the store can't be reached, the turn is treated as kept.
        """
        if live_turn.is_live or live_turn.conversation is None or not self._store.shared:
            return
        with suppress(StoreError):
            record = await self._store.turn(live_turn.user, live_turn.turn)
            if was_deleted(record):
                self._registry.drop_ended(live_turn.user, live_turn.conversation)
                raise gone(record)

    async def _load(self, user: str, turn: str, channel: str) -> None:
        # No local variable may hold the future. Its exception's traceback keeps the local variables, so the two would
        # keep each other in memory.
        try:
            self._loading[channel].set_result(await self._load_mirror(user, turn, channel))
        except Exception as error:
            self._loading[channel].set_exception(error)
            self._loading[channel].exception()  # mark it as retrieved, even if every caller has gone
        finally:
            del self._loading[channel]
            self._early.pop(channel, None)

    async def _load_mirror(self, user: str, turn: str, channel: str) -> LiveTurn:
        record = await self._store.turn(user, turn)
        live_turn = mirror_of(record)
        early = self._early[channel] = []  # entries published while the log is read may be newer than what is read
        await self._store.subscribe(channel)
        try:
            await self.catch_up(live_turn)
            if record.ending is not None and (live_turn.is_live or was_deleted(record)):
                raise gone(record)
            local = await self._find_local(user, turn)
        except BaseException:
            await self._store.unsubscribe(channel)
            raise
        if local is not None:
            await self._store.unsubscribe(channel)
            return local
        live_turn.accepted.set_result(record)
        self._registry.add(live_turn)
        self._subscribed.add(channel)
        self._register(channel, live_turn)
        if not live_turn.is_live:
            await self._finish(live_turn)
        else:
            for payload in early:
                self.deliver(channel, payload)
        return live_turn

    def _register(self, channel: str, live_turn: LiveTurn, *, needs_reload: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        self._mirrors[channel] = _Mirror(live_turn, now, now, needs_reload)
        live_turn.set_presence_callback(lambda turn: self._presence.schedule([turn]))

    async def convert_to_mirror(self, live_turn: LiveTurn) -> None:
        """Make a mirror of a turn that this instance lost or handed over, and read its log from now on."""
        channel = turn_channel(live_turn.user, live_turn.turn)
        live_turn.become_mirror()
        self._register(channel, live_turn, needs_reload=True)
        if live_turn.is_attached:
            self._presence.schedule([live_turn])
        self._reading.add(channel)
        await self._read(channel)

    async def stop_mirroring(self, live_turn: LiveTurn) -> None:
        """Stop mirroring the turn."""
        channel = turn_channel(live_turn.user, live_turn.turn)
        self._mirrors.pop(channel, None)
        if channel in self._subscribed:
            self._subscribed.discard(channel)
            with suppress(StoreError):
                await self._store.unsubscribe(channel)

    async def _subscribe(self, channel: str) -> None:
        await self._store.subscribe(channel)
        if channel in self._mirrors:
            self._subscribed.add(channel)
        else:
            await self._store.unsubscribe(channel)  # the mirror was dropped in the meantime

    async def catch_up(self, live_turn: LiveTurn) -> None:
        """Read the entries that the mirror lacks, up to the first damage in the log. Raises `StoreError`."""
        try:
            await self._catch_up(live_turn)
        except UNREADABLE as error:
            log.error("turn log damaged", turn=live_turn.turn, readable=live_turn.log.end, error=str(error))

    async def _catch_up(self, live_turn: LiveTurn) -> None:
        while entries := await self._store.log(live_turn.user, live_turn.turn, live_turn.log.end):
            if live_turn.is_owned:
                return
            before = live_turn.log.end
            for entry in entries:
                if not apply_entry(live_turn, entry):
                    await self._reload(live_turn)
                    return
            if not live_turn.is_live or live_turn.log.end == before:
                return

    async def _reload(self, live_turn: LiveTurn) -> None:
        """Replace the mirror's log with the store's log."""
        turn_log, state = await read_log(self._store, live_turn)
        if turn_log.end and not live_turn.is_owned:
            live_turn.reload(turn_log, state)
            mirror = self._mirrors.get(turn_channel(live_turn.user, live_turn.turn))
            if mirror is not None:
                mirror.needs_reload = False

    async def _finish(self, live_turn: LiveTurn) -> None:
        self._registry.mark_ended(live_turn)
        live_turn.end()
        await self.stop_mirroring(live_turn)

    def deliver(self, channel: str, payload: bytes) -> None:
        """Apply an entry that was published on the channel of a turn's log. Never awaits."""
        mirror = self._mirrors.get(channel)
        if mirror is None and channel in self._early:
            self._early[channel].append(payload)
        if mirror is None or mirror.live_turn.is_owned:
            return
        mirror.last_entry_at = asyncio.get_running_loop().time()
        try:
            is_applied = not mirror.needs_reload and apply_entry(mirror.live_turn, _decode_entry(payload))
        except UNREADABLE:
            log.exception("log entry can't be applied", channel=channel)
            return
        if not is_applied or not mirror.live_turn.is_live:
            self.schedule_read(channel)

    def schedule_read(self, channel: str | None = None) -> None:
        """Read the log of the mirror of `channel` in a task of its own.

        None means all mirrors, after the connection for subscriptions was lost for a while. Then report the presence of
        the attached ones too.
        """
        if channel is None:
            self._presence.schedule(self._attached())
        for name in list(self._mirrors) if channel is None else [channel]:
            if name not in self._reading:
                self._reading.add(name)
                spawn(self._tasks, self._read(name))

    async def _read(self, channel: str) -> None:
        mirror = self._mirrors.get(channel)
        try:
            if mirror is not None and not mirror.live_turn.is_owned:
                await self._update(channel, mirror)
        except StoreError as error:
            log.info("turn log can't be read, retrying at the next poll", channel=channel, error=str(error))
        except Exception:
            log.exception("mirror update failed", channel=channel)
        finally:
            self._reading.discard(channel)

    async def _update(self, channel: str, mirror: _Mirror) -> None:
        """Bring the mirror up to date, and drop it if its turn has ended. Raises `StoreError`."""
        live_turn = mirror.live_turn
        if channel not in self._subscribed:
            await self._subscribe(channel)
        if mirror.needs_reload:
            await self._reload(live_turn)
        elif live_turn.is_live:
            await self.catch_up(live_turn)
        if self._mirrors.get(channel) is not mirror or live_turn.is_owned:
            return
        if not live_turn.is_live:
            await self._finish(live_turn)
        elif await self._is_gone(mirror):
            log.warning("mirror dropped: no more events can arrive", turn=live_turn.turn)
            self._registry.remove(live_turn)
            live_turn.close()
            await self.stop_mirroring(live_turn)

    async def _is_gone(self, mirror: _Mirror) -> bool:
        """Return whether the turn has been silent for `SILENT_S` and no more of its events can arrive.

        This is so if the turn ended and its log isn't kept up to the ending, or if the store lost the turn and no owner
        restored it within the time of a lease.
        """
        live_turn, now = mirror.live_turn, asyncio.get_running_loop().time()
        if now - mirror.last_entry_at < SILENT_S:
            return False
        try:
            record = await self._store.turn(live_turn.user, live_turn.turn)
        except NotFound:
            mirror.missing_since = mirror.missing_since or now
            return now - mirror.missing_since > self._lease_s
        mirror.missing_since = None
        if record.ending is None:
            return False
        await self.catch_up(live_turn)  # it may have ended just now
        return live_turn.is_live and not live_turn.is_owned

    async def run(self) -> None:
        """Poll silent mirrors, renew the presence of attached ones, and drop unused ones, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            now = asyncio.get_running_loop().time()
            for channel, mirror in list(self._mirrors.items()):
                if channel not in self._mirrors:
                    continue  # it ended or was taken over while another mirror was dropped
                live_turn = mirror.live_turn
                if live_turn.is_attached or live_turn.waiters:
                    mirror.last_used_at = now
                elif now - mirror.last_used_at > IDLE_S:
                    self._registry.remove(live_turn)
                    await self.stop_mirroring(live_turn)
                    continue
                if now - mirror.last_entry_at >= POLL_S:
                    self.schedule_read(channel)
            await self._presence.renew_regularly(now, self._attached)

    def _attached(self) -> list[LiveTurn]:
        return [mirror.live_turn for mirror in self._mirrors.values() if mirror.live_turn.is_attached]
