"""Credentials that count no longer although they haven't expired: noted in the store, seen by every instance.

One note for each revocation, asked for when somebody comes in, and one that changes with each of them, asked for all
the time: when it has changed, everybody who is here is checked again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from gateway.identity.principal import Principal
from gateway.protocol.ids import now_ms
from store.api import Store

KEPT_MS = 400 * 86_400_000
NEWEST = "revoked"


class Revocations:
    """The revocations of all instances. Methods raise `StoreError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def revoke(self, credential: str) -> None:
        """The credential (`jti:…` or `key:…`) counts no longer."""
        await self._put(credential, now_ms())

    async def revoke_user(self, user: str, before_ms: int) -> None:
        """What was issued to the user before that moment counts no longer."""
        await self._put(f"user:{user}", before_ms)

    async def _put(self, name: str, value: int) -> None:
        await self._store.put_ephemeral(f"revoked:{name}", str(value).encode(), KEPT_MS)
        await self._store.put_ephemeral(NEWEST, secrets.token_bytes(8), KEPT_MS)

    async def revoked(self, principals: Sequence[Principal]) -> list[bool]:
        """Which of them count no longer, in one round trip."""
        names = sorted({name for principal in principals for name in _names(principal)})
        found = dict(zip(names, await self._store.get_ephemeral(names), strict=True))
        return [_is_revoked(principal, found) for principal in principals]

    async def newest(self) -> bytes | None:
        """Another value after each revocation."""
        (found,) = await self._store.get_ephemeral([NEWEST])
        return found


def _names(principal: Principal) -> list[str]:
    return [f"revoked:{name}" for one in principal.credentials for name in (one.name, f"user:{one.user}") if name]


def _is_revoked(principal: Principal, found: dict[str, bytes | None]) -> bool:
    """Whether one of its credentials is: the user's own, or that of the service that speaks for the user."""
    for one in principal.credentials:
        before = found[f"revoked:user:{one.user}"]
        if (one.name and found[f"revoked:{one.name}"] is not None) or (before and one.issued_ms < int(before)):
            return True
    return False
