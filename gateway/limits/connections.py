"""Limits on open connections, by user and by address, counted in the store for all instances.

The store is asked for permits when a connection opens. An instance renews all of its permits in a few calls, three times
per lease, so the permits of an instance that died expire after one lease. While the store can't be reached, only the
connections of this instance are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv6Address, ip_address
from types import TracebackType
from typing import Literal

import structlog

from gateway.identity.principal import Principal
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import new_id
from gateway.settings import Settings
from store.api import EphemeralStore, user_permits
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.limits")

RENEWALS_PER_LEASE = 3
RETRY_AFTER_MS = 1000

Kind = Literal["user", "address"]


MakeRoom = Callable[[str, bool], Awaitable[bool]]
"""Closes a dead connection of a user. Returns whether one may have been closed.

The second argument says whether other instances have connections of the user too.
"""


async def close_nothing(*_: object) -> bool:
    """Close no connection. See `MakeRoom`."""
    return False


class ConnectionLimiter:
    """The connection permits that this instance's clients hold.

    `reachable` returns whether the store is expected to answer now. `make_room` closes a dead connection, see `MakeRoom`.
    """

    def __init__(
        self,
        settings: Settings,
        store: EphemeralStore,
        reachable: Callable[[], bool] = lambda: True,
        make_room: MakeRoom = close_nothing,
    ) -> None:
        is_enforced = settings.auth != "none"
        self.limits: dict[Kind, int] = {
            "user": settings.user_connections if is_enforced else 0,
            "address": settings.address_connections if is_enforced else 0,
        }
        self.holders: dict[str, set[str]] = {}
        """Map from the key of a limit, `user:…` or `address:…`, to the ids of the holders of its permits."""
        self._store = store
        self._reachable = reachable
        self._make_room = make_room
        self._lease_s = settings.lease_s
        self._released: list[tuple[str, str]] = []
        self._has_released = asyncio.Event()
        self._store_lock = asyncio.Lock()

    async def acquire(self, holder: str, kinds: dict[str, Kind]) -> None:
        """Take one permit of each key for `holder`. `kinds` maps each key, as in `holders`, to its kind.

        If a user has too many connections, a dead one of them is closed first, which may take a few seconds. Raise
        `ApiError` "rate_limited" if a permit isn't available. Call `release` with the same holder and keys afterwards,
        even after an error.
        """
        missing = await self._find_missing(holder, kinds)
        if missing is not None and kinds[missing] == "user":
            everywhere = holder in self.holders.get(missing, ())  # the store refused it, not this instance
            # Otherwise a renewal of this instance's permits during `_make_room` would also grant the missing one.
            self.release(holder, list(kinds))
            await self._release_in_store()
            if await self._make_room(missing.removeprefix("user:"), everywhere):
                missing = await self._find_missing(holder, kinds)
        if missing is not None:
            raise self._limit_error(kinds[missing])

    async def _find_missing(self, holder: str, kinds: dict[str, Kind]) -> str | None:
        """Take the permits for `holder`. Return the first key without one, or None if every permit was granted."""
        for key, kind in kinds.items():
            holders = self.holders.get(key, set())
            if holder not in holders and len(holders) >= self.limits[kind]:
                return key
            self.holders.setdefault(key, set()).add(holder)
        granted = await self._acquire_in_store(holder, kinds)
        if not all(granted) and (self._released or self._store_lock.locked()):
            await self._release_in_store()  # the store may not know yet which clients have just left
            granted = await self._acquire_in_store(holder, kinds)
        return next((key for key, is_granted in zip(kinds, granted, strict=True) if not is_granted), None)

    def release(self, holder: str, keys: list[str]) -> None:
        """Release the permits that `holder` has of `keys`."""
        for key in keys:
            holders = self.holders.get(key, set())
            if holder in holders:
                holders.remove(holder)
                self._released.append((key, holder))
                if not holders:
                    del self.holders[key]
        self._has_released.set()

    async def run(self) -> None:
        """Release permits in the store as clients leave, and renew the others, until cancelled.

        Return at once if no limit is set.
        """
        loop = asyncio.get_running_loop()
        while any(self.limits.values()):
            renew_at = loop.time() + self._lease_s / RENEWALS_PER_LEASE
            while loop.time() < renew_at:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(renew_at):
                        await self._has_released.wait()
                self._has_released.clear()
                await self._release_in_store()
            await self._renew()

    async def _acquire_in_store(self, holder: str, kinds: dict[str, Kind]) -> list[bool]:
        """Return, for each key, whether the store granted a permit.

        If the store can't be asked, every permit is granted.
        """
        if kinds and self._reachable():
            try:
                limits = [(key, self.limits[kind]) for key, kind in kinds.items()]
                return await self._store.acquire_permits(holder, limits, self._lease_ms)
            except StoreError as error:
                log.warning(
                    "connection permits can't be acquired, counting the connections of this instance only",
                    error=str(error),
                )
        return [True] * len(kinds)

    async def _release_in_store(self) -> None:
        """Release permits in the store. If that fails, their leases expire."""
        async with self._store_lock:
            released, self._released = self._released, []
            if released:
                with suppress(StoreError):
                    await self._store.release_permits(released)

    async def _renew(self) -> None:
        async with self._store_lock:
            with suppress(StoreError):
                await self._store.renew_permits(
                    [(key, holder) for key, holders in self.holders.items() for holder in holders], self._lease_ms
                )

    @property
    def _lease_ms(self) -> int:
        return int(self._lease_s * 1000)

    def _limit_error(self, kind: Kind) -> ApiError:
        message = f"{self.limits[kind]} connections of this {kind} are open already. Close one, then connect again."
        return ApiError("rate_limited", message, retry_after_ms=RETRY_AFTER_MS)


class ConnectionPermit:
    """The permits that one client holds until it leaves."""

    def __init__(self, limiter: ConnectionLimiter) -> None:
        self._limiter = limiter
        self._holder = new_id("at")
        self._keys: list[str] = []

    def __enter__(self) -> ConnectionPermit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def acquire(self, principal: Principal | None, host: str | None = None) -> None:
        """Take a permit for the address `host`, and one for the user, if it is known already.

        The address of a service needs no permit, and neither does a user that is a service itself. Raise `ApiError` if
        a permit isn't available. All permits are then released, including earlier ones.
        """
        kinds: dict[str, Kind] = {}
        if host is not None and (principal is None or not principal.by_service):
            kinds[f"address:{network_of(host)}"] = "address"
        if principal is not None and not principal.is_service:
            kinds[user_permits(principal.user)] = "user"
        limited = {key: kind for key, kind in kinds.items() if self._limiter.limits[kind]}
        self._keys += limited
        try:
            await self._limiter.acquire(self._holder, limited)
        except ApiError:
            self.release()
            raise

    def release(self) -> None:
        """Release the permits."""
        keys, self._keys = self._keys, []
        if keys:
            self._limiter.release(self._holder, keys)


def network_of(host: str) -> str:
    """Return what the limit of an address applies to: an IPv4 address itself, or the /64 network of an IPv6 address.

    An ISP usually gives each customer a whole /64. An IPv4-mapped IPv6 address is treated as IPv4.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else str(IPv6Address(int(address) >> 64 << 64))
