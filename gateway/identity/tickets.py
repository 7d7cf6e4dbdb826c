"""One-time tickets. A browser can't send a header with a socket, so it trades its credential for a ticket.

The store keeps only a ticket's hash, so a reader of the store can't use the ticket.
"""

from __future__ import annotations

import hashlib
import secrets

import msgspec
from msgspec import structs

from gateway.identity.principal import BROWSER_WITHHELD_SCOPES, Principal
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from store.api import EphemeralStore
from store.errors import StoreError

TICKET_PREFIX = "tk_"

_decode = msgspec.msgpack.Decoder(Principal).decode
_encode = msgspec.msgpack.Encoder().encode


class Tickets:
    """The tickets of all instances. Each can be redeemed once, on any instance, within `ttl_s`."""

    def __init__(self, store: EphemeralStore, ttl_s: float) -> None:
        self._store = store
        self._ttl_ms = int(ttl_s * 1000)

    async def issue(self, principal: Principal) -> tuple[str, int]:
        """Return a ticket for the principal, and its expiration time in ms since 1970.

        The ticket lacks the scopes that browsers never get. Raise `StoreError` if the store fails.
        """
        ticket = f"{TICKET_PREFIX}{secrets.token_urlsafe(24)}"
        restricted = structs.replace(
            principal,
            scopes=principal.scopes - BROWSER_WITHHELD_SCOPES,
            withheld=principal.withheld | BROWSER_WITHHELD_SCOPES,
        )
        expires_ms = now_ms() + self._ttl_ms
        await self._store.put_ephemeral(_key(ticket), _encode(restricted), self._ttl_ms, principal.user)
        return ticket, expires_ms

    async def redeem(self, ticket: str) -> Principal:
        """Delete the ticket and return its principal, as it was when the ticket was issued.

        The caller must check whether the credential that the ticket was issued for is still valid. Raise `ApiError`
        "unauthenticated" if the ticket is used, expired or unknown, and "store_unavailable" if the store fails.
        """
        try:
            encoded = await self._store.pop_ephemeral(_key(ticket))
        except StoreError:
            raise ApiError("store_unavailable") from None
        if encoded is None:
            raise ApiError(
                "unauthenticated", "The ticket was already used or has expired. Get a new one from POST /v1/tickets."
            )
        return _decode(encoded)


def _key(ticket: str) -> str:
    return "ticket:" + hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
