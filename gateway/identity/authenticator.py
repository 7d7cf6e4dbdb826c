"""Whom a credential names, by the modes of `TURNWIRE_AUTH`, and who is here by it until it counts no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

import structlog
from msgspec import structs

from gateway.errors import ApiError
from gateway.identity.access import REVOKED, Access
from gateway.identity.api_keys import KEY_PREFIX, ApiKeys
from gateway.identity.origin import Headers
from gateway.identity.principal import DEFAULT_SCOPES, Principal
from gateway.identity.revocations import Revocations
from gateway.identity.tickets import KEPT_FROM_BROWSERS, TICKET_PREFIX, Tickets
from gateway.identity.tokens import AuthSetupError, Tokens
from gateway.settings import Settings
from store.base import StoreError
from store.interface import Store

log = structlog.stdlib.get_logger("turnwire.auth")

LOCAL_USER = "local"
"""Everyone, where auth is off."""

IDENTITY_HEADER = "X-Turnwire-Identity"
LONG_LIVED_PARAMETERS = ("token", "access_token", "api_key")

SWEEP_S = 1.0
SWEEPS_AFTER_CHANGE = 3
"""Who was just being let in when something changed is seen by the next sweeps."""
SWEPT_AT_ONCE = 500

_NOT_ACCEPTED = "This token isn't accepted here. Get another one."


class Authenticator:
    """Who may come in; one for each process. Raises `AuthSetupError` where the settings can't be used."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._present: set[Access] = set()
        rules, identity_rules = settings.token_settings, settings.identity_settings
        self._tokens = None if rules is None else Tokens(rules)
        self._identities = None if identity_rules is None else Tokens(identity_rules)
        self._keys = None if settings.api_keys is None else ApiKeys(settings.api_keys)
        self.is_open = settings.auth == "none"
        self.tickets = Tickets(store, settings.ticket_ttl_s)
        self.revocations = Revocations(store)
        # Whoever reaches a loopback port is the operator; whoever reaches an open one is anybody.
        self._local = Principal(
            user=LOCAL_USER, scopes=DEFAULT_SCOPES | {"admin"} if settings.loopback_only else DEFAULT_SCOPES
        )

    async def of(self, headers: Headers, query: bytes = b"") -> Principal:
        """Whom the credential of an HTTP request names. `query` is the URL's, as it came.

        Raises `ApiError`: "unauthenticated" without one that counts, "forbidden", "store_unavailable".
        """
        _refuse_long_lived(query)
        found = await self._of_headers(headers)
        if found is None:
            raise ApiError("unauthenticated", "Send Authorization: Bearer with a token or a key.")
        return found

    async def find(self, headers: Headers, query: bytes) -> Principal | None:
        """Whom the opening of a socket names, by a header or a ticket; None where neither is there. Raises as `of`."""
        given = _refuse_long_lived(query)
        found = await self._of_headers(headers)
        if found is None and "ticket" in given:
            found = await self.of_first_frame(given["ticket"][0], tickets_only=True)
        return found

    async def of_first_frame(self, token: str, *, tickets_only: bool = False) -> Principal:
        """Whom a token names that came by itself: a ticket, or what a header could carry as well. Raises as `of`."""
        if token.startswith(TICKET_PREFIX) or tickets_only:
            return await self._checked(await self.tickets.redeem(token))
        return await self._checked(await self._of_bearer(token))

    async def _of_headers(self, headers: Headers) -> Principal | None:
        identities = _values(headers, IDENTITY_HEADER)
        if self.is_open:
            if identities:
                raise ApiError("forbidden", f"{IDENTITY_HEADER} needs authentication. Set TURNWIRE_AUTH.")
            return self._local
        given = _values(headers, "authorization")
        if not given:
            if identities:
                raise ApiError("forbidden", f"{IDENTITY_HEADER} counts only beside a service's own credential.")
            return None
        scheme, _, token = given[0].partition(" ")
        if len(given) > 1 or scheme.lower() != "bearer":
            raise ApiError("unauthenticated", "Send one Authorization header, with Bearer and a token or a key.")
        principal = await self._of_bearer(token.strip())
        if identities:
            principal = await self._named_by(principal, identities)
        return await self._checked(principal)

    async def _of_bearer(self, token: str) -> Principal:
        if token.startswith(KEY_PREFIX) and self._keys is not None:
            return self._keys.principal(token)
        if self._tokens is None:
            raise ApiError("unauthenticated", _NOT_ACCEPTED)
        return await self._tokens.principal(token)

    async def _named_by(self, service: Principal, identities: list[str]) -> Principal:
        """The user whom the service names by a signed token."""
        service.require("as")
        if len(identities) > 1:
            raise ApiError("forbidden", f"{IDENTITY_HEADER} was sent twice. A proxy drops what its clients send.")
        if self._identities is None:
            raise ApiError("forbidden", f"Nothing checks {IDENTITY_HEADER} here. Set TURNWIRE_IDENTITY_SECRET.")
        named = await self._identities.principal(identities[0])
        ends = [moment for moment in (named.expires_ms, service.expires_ms) if moment is not None]
        return Principal(
            user=named.user,
            scopes=(named.scopes & service.scopes) - KEPT_FROM_BROWSERS,
            credentials=service.credentials + named.credentials,
            issued_ms=named.issued_ms,
            expires_ms=min(ends, default=None),
            service=service.user,
        )

    async def _checked(self, principal: Principal) -> Principal:
        """The principal, unless it is revoked. Without the store nobody knows, and nobody new comes in."""
        try:
            (revoked,) = await self.revocations.revoked([principal])
        except StoreError:
            raise ApiError("store_unavailable") from None
        if revoked:
            raise ApiError("unauthenticated", REVOKED)
        return principal

    async def _renew(self, principal: Principal, token: str) -> Principal:
        """What a connection's principal becomes by a new token. Raises `ApiError`."""
        if self.is_open:
            return principal
        if principal.service is not None and self._identities is not None:
            named = await self._identities.principal(token)
            kept = tuple(name for name in principal.credentials if name.startswith("key:"))
            scopes = named.scopes & principal.scopes
            renewed = await self._checked(
                structs.replace(named, scopes=scopes, credentials=kept + named.credentials, service=principal.service)
            )
        else:
            renewed = await self.of_first_frame(token)
        if renewed.user != principal.user:
            raise ApiError("forbidden", "The token is another user's. Open a connection of its own for that user.")
        return renewed

    def admit(
        self,
        principal: Principal,
        on_expiring: Callable[[int], None] = lambda _: None,
        on_ended: Callable[[str], None] = lambda _: None,
    ) -> Access:
        """Somebody comes in, for one request or for long; `leave` the answer when it is over. See `Access`."""
        access = Access(
            principal,
            self._renew,
            warning_s=self._settings.auth_warning_s,
            grace_s=self._settings.auth_grace_s,
            on_expiring=on_expiring,
            on_ended=on_ended,
            on_left=self._present.discard,
        )
        self._present.add(access)
        return access

    def chores(self) -> list[Coroutine[Any, Any, None]]:
        """What runs until it is cancelled."""
        checkers = [checker for checker in (self._tokens, self._identities) if checker is not None]
        fetching = [checker.jwks.keep() for checker in checkers if checker.jwks is not None]
        return fetching if self.is_open else [self._keep(), *fetching]

    async def _keep(self) -> None:
        """Hear of keys and revocations, and end the access of those whose credential counts no longer."""
        newest: bytes | None = None
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_S)
            if self._keys is not None and await asyncio.to_thread(_reload, self._keys):
                sweeps = SWEEPS_AFTER_CHANGE
            try:
                found = await self.revocations.newest()
                if found != newest:
                    newest, sweeps = found, SWEEPS_AFTER_CHANGE
                if sweeps > 0:
                    await self._sweep()
                    sweeps -= 1
            except StoreError as error:
                log.info("revocations can't be read now", error=str(error))

    async def _sweep(self) -> None:
        present = [access for access in self._present if not access.revoked]
        for start in range(0, len(present), SWEPT_AT_ONCE):
            some = present[start : start + SWEPT_AT_ONCE]
            revoked = await self.revocations.revoked([access.principal for access in some])
            for access, gone in zip(some, revoked, strict=True):
                if gone or (self._keys is not None and not self._keys.allows(access.principal)):
                    access.revoke()


def _reload(keys: ApiKeys) -> bool:
    try:
        return keys.reload()
    except AuthSetupError as error:
        log.error("the keys stay as they were", error=str(error))
        return False


def _refuse_long_lived(query: bytes) -> dict[str, list[str]]:
    """The query's parameters. Raises `ApiError` where one is a credential that lasts."""
    given = parse_qs(query.decode("latin-1"))
    for name in LONG_LIVED_PARAMETERS:
        if name in given:
            raise ApiError(
                "unauthenticated",
                "A token in an address ends up in logs. Send it as Authorization: Bearer, or trade it for a ticket "
                "at POST /v1/tickets.",
                path=name,
            )
    return given


def _values(headers: Headers, name: str) -> list[str]:
    wanted = name.lower().encode()
    return [value.decode("latin-1") for key, value in headers if key == wanted]
