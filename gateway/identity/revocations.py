"""Revocations of credentials, kept in the store for 400 days, for every instance.

Each revocation is an ephemeral value that is read when a client is admitted. Another value changes with each
revocation and is polled; when it has changed, all connected clients are checked again.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from gateway.identity.principal import Principal
from gateway.protocol.ids import now_ms
from store.api import EphemeralStore, user_hash

REVOCATION_TTL_MS = 400 * 86_400_000
VERSION_KEY = "revoked"


class Revocations:
    """The revocations of all instances. Methods raise `StoreError`."""

    def __init__(self, store: EphemeralStore) -> None:
        self._store = store

    async def revoke(self, credential: str) -> None:
        """Revoke a credential by its name (`jti:…` or `key:…`)."""
        await self._put(credential, now_ms())
        await self._change_version()

    async def revoke_user(self, user: str, before_ms: int) -> None:
        """Revoke all credentials that were issued to the user before `before_ms`, in ms since 1970.

        An earlier call with a later time stays in effect.
        """
        name = _user_name(user)
        (known,) = await self._store.get_ephemeral([_key(name)])
        latest = max(before_ms, int(known or 0))
        # A concurrent call may have stored a later time since then.
        while (replaced := int(await self._put(name, latest) or 0)) > latest:
            latest = replaced
        await self._change_version()

    async def _put(self, name: str, value: int) -> bytes | None:
        return await self._store.put_ephemeral(_key(name), str(value).encode(), REVOCATION_TTL_MS)

    async def _change_version(self) -> None:
        await self._store.put_ephemeral(VERSION_KEY, secrets.token_bytes(8), REVOCATION_TTL_MS)

    async def revoked(self, principals: Sequence[Principal]) -> list[bool]:
        """Return for each principal whether it is revoked. Takes one round trip."""
        names = sorted({name for principal in principals for name in _revocation_keys(principal)})
        found = dict(zip(names, await self._store.get_ephemeral(names), strict=True))
        return [_is_revoked(principal, found) for principal in principals]

    async def version(self) -> bytes | None:
        """Return a value that changes with each revocation; None if there is no revocation."""
        (found,) = await self._store.get_ephemeral([VERSION_KEY])
        return found


def _key(name: str) -> str:
    return f"revoked:{name}"


def _user_name(user: str) -> str:
    """Return the name of a revocation of all credentials of a user.

    The name doesn't show the user, because it is kept even after the user's data was erased.
    """
    return f"user:{user_hash(user)}"


def _revocation_keys(principal: Principal) -> list[str]:
    return [
        _key(name)
        for credential in principal.credentials
        for name in (credential.name, _user_name(credential.user))
        if name
    ]


def _is_revoked(principal: Principal, found: dict[str, bytes | None]) -> bool:
    """Return whether the user's own credential, or that of the service that acts for the user, is revoked."""
    for credential in principal.credentials:
        before = found[_key(_user_name(credential.user))]
        if (credential.name and found[_key(credential.name)] is not None) or (
            before and credential.issued_ms < int(before)
        ):
            return True
    return False
