"""Authentication by the modes of `TURNWIRE_AUTH`, and the checks of connected clients' credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from urllib.parse import parse_qs

import structlog

from gateway.identity.api_keys import KEY_PREFIX, ApiKeys
from gateway.identity.credential_lease import EXPIRED, REVOKED, CredentialLease
from gateway.identity.origin import Headers, header_values
from gateway.identity.principal import BROWSER_WITHHELD_SCOPES, DEFAULT_SCOPES, Credential, Principal, principal_of
from gateway.identity.revocations import Revocations
from gateway.identity.tickets import TICKET_PREFIX, Tickets
from gateway.identity.tokens import INVALID_TOKEN, AuthSetupError, Tokens
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.settings import Settings
from store.api import EphemeralStore
from store.records import StoreError

log = structlog.stdlib.get_logger("turnwire.auth")

LOCAL_USER = "local"
"""The user of every client if auth is off."""

IDENTITY_HEADER = "X-Turnwire-Identity"
QUERY_FIELDS_MAX = 32
LONG_LIVED_PARAMETERS = ("token", "access_token", "api_key")

SWEEP_S = 1.0
SWEEP_BATCH_SIZE = 500


class Authenticator:
    """The authenticator of a process. Raises `AuthSetupError` if the settings can't be used."""

    def __init__(self, settings: Settings, store: EphemeralStore) -> None:
        self._settings = settings
        self._leases: set[CredentialLease] = set()
        rules, identity_rules = settings.token_settings, settings.identity_settings
        self._tokens = None if rules is None else Tokens(rules)
        self._identities = None if identity_rules is None else Tokens(identity_rules)
        self._keys = None if settings.api_keys is None else ApiKeys(settings.api_keys)
        self._reload_lock = asyncio.Lock()
        self._keys_changed = False
        if rules is not None and not rules.scope_prefix:
            log.warning(
                "a token's scope admin grants admin access: set TURNWIRE_SCOPE_PREFIX if its issuer means something else by admin"
            )
        self.is_open = settings.auth == "none"
        self.tickets = Tickets(store, settings.ticket_ttl_s)
        self.revocations = Revocations(store)
        # If the server listens on loopback only, its clients are on this machine, so they are the operator.
        self._local = Principal(
            user=LOCAL_USER, scopes=DEFAULT_SCOPES | {"admin"} if settings.loopback_only else DEFAULT_SCOPES
        )

    async def authenticate(self, headers: Headers, query: bytes = b"") -> Principal:
        """Return the principal of an HTTP request. `query` is the URL's query string, still encoded.

        Raise `ApiError` "unauthenticated" if there is no valid credential, "invalid_request" if the query has too many
        fields, "internal" if the keys for tokens can't be fetched, "forbidden", or "store_unavailable".
        """
        _parse_query(query)
        found = await self._authenticate_headers(headers)
        if found is None:
            raise ApiError(
                "unauthenticated", "The credential is missing. Send Authorization: Bearer with a token or an API key."
            )
        return found

    async def authenticate_socket(self, headers: Headers, query: bytes) -> Principal | None:
        """Return the principal of an opening socket, from a header or a ticket; None if it has neither.

        Raises as `authenticate`.
        """
        parameters = _parse_query(query)
        found = await self._authenticate_headers(headers)
        if found is None and "ticket" in parameters:
            found = await self._redeem_ticket(parameters["ticket"][0])
        return found

    async def authenticate_token(self, token: str) -> Principal:
        """Return the principal of the token in an `auth` frame: a ticket, or a token or key as in a header.

        Raises as `authenticate`.
        """
        if token.startswith(TICKET_PREFIX):
            return await self._redeem_ticket(token)
        return await self._validate(principal_of(await self._authenticate_bearer(token)))

    async def _redeem_ticket(self, ticket: str) -> Principal:
        """Return the principal of a ticket, with the current scopes and expiration of its credential.

        Raises as `authenticate`.
        """
        stored = await self.tickets.redeem(ticket)
        await self._reload_keys()  # the issuing instance may have read a newer key file than this one
        principal = await self._validate(stored)
        if principal.expires_ms is not None and now_ms() >= principal.expires_ms:
            raise ApiError("unauthenticated", EXPIRED)
        return principal

    async def _authenticate_headers(self, headers: Headers) -> Principal | None:
        identities = header_values(headers, IDENTITY_HEADER.lower().encode())
        if self.is_open:
            if identities:
                raise ApiError(
                    "forbidden", f"{IDENTITY_HEADER} requires auth, which is off. The operator can set TURNWIRE_AUTH."
                )
            return self._local
        authorizations = header_values(headers, b"authorization")
        if not authorizations:
            if identities:
                raise ApiError(
                    "forbidden",
                    f"{IDENTITY_HEADER} requires a service's own credential. Send it as Authorization: Bearer.",
                )
            return None
        scheme, _, token = authorizations[0].partition(" ")
        if len(authorizations) > 1 or scheme.lower() != "bearer":
            raise ApiError(
                "unauthenticated",
                "Invalid Authorization header. Send one header, with Bearer and a token or an API key.",
            )
        credential = await self._authenticate_bearer(token.strip())
        return await self._validate(
            await self._authenticate_identity(credential, identities) if identities else principal_of(credential)
        )

    async def _authenticate_bearer(self, token: str) -> Credential:
        if token.startswith(KEY_PREFIX) and self._keys is not None:
            return self._keys.credential(token)
        if self._tokens is None:
            raise ApiError("unauthenticated", INVALID_TOKEN)
        return await self._tokens.credential(token)

    async def _authenticate_identity(self, service: Credential, identities: list[str]) -> Principal:
        """Return the principal for the user that a service names with a signed token."""
        principal_of(service).require("as")
        if len(identities) > 1:
            raise ApiError(
                "forbidden",
                f"{IDENTITY_HEADER} was sent more than once. Send it once. The proxy must remove it from clients' requests.",
            )
        if self._identities is None:
            raise ApiError(
                "forbidden", f"{IDENTITY_HEADER} isn't configured. The operator can set TURNWIRE_IDENTITY_SECRET."
            )
        named = await self._identities.credential(identities[0])
        return principal_of(named, service, withheld=BROWSER_WITHHELD_SCOPES)

    async def _validate(self, principal: Principal) -> Principal:
        """Return the principal with its current scopes and expiration.

        Raise `ApiError` "unauthenticated" if it is revoked, or if `_refresh` returns None. Without the store, revocation
        can't be checked; then raise "store_unavailable", so no new client is admitted.
        """
        try:
            (revoked,) = await self.revocations.revoked([principal])
        except StoreError:
            raise ApiError("store_unavailable") from None
        current = None if revoked else self._refresh(principal)
        if current is None:
            raise ApiError("unauthenticated", REVOKED)
        return current

    def _refresh(self, principal: Principal) -> Principal | None:
        """Return the principal with the current scopes and expiration of its API keys.

        Return None if one of its keys is no longer valid, or if its service has lost the scope `as`.
        """
        keys = self._keys
        current = [
            one if not one.digest else None if keys is None else keys.current(one) for one in principal.credentials
        ]
        known = [one for one in current if one is not None]
        if len(known) < len(current) or any("as" not in service.scopes for service in known[1:]):
            return None
        return principal_of(*known, withheld=principal.withheld) if known else principal

    async def _renew(self, principal: Principal, token: str) -> Principal:
        """Return the principal of a connection after its credential is renewed with `token`.

        Raise `ApiError` if the token is invalid or names another user.
        """
        if self.is_open:
            return principal
        if principal.service is not None and self._identities is not None:
            named = await self._identities.credential(token)
            renewed = await self._validate(principal_of(named, *principal.credentials[1:], withheld=principal.withheld))
        else:
            renewed = await self.authenticate_token(token)
        if renewed.user != principal.user:
            raise ApiError("forbidden", "The token belongs to another user. Open a separate connection for that user.")
        return renewed

    def admit(
        self,
        principal: Principal,
        on_expiring: Callable[[int], None] = lambda _: None,
        on_ended: Callable[[str], None] = lambda _: None,
    ) -> CredentialLease:
        """Register a client, for one request or for a connection.

        Return its lease; call its `release` when the client is gone. See `CredentialLease` for `on_expiring` and
        `on_ended`.
        """
        lease = CredentialLease(
            principal,
            self._renew,
            warning_s=self._settings.auth_warning_s,
            grace_s=self._settings.auth_grace_s,
            on_expiring=on_expiring,
            on_ended=on_ended,
            on_released=self._leases.discard,
        )
        self._leases.add(lease)
        return lease

    def background_tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return the coroutines that must run until they are cancelled."""
        token_checkers = [checker for checker in (self._tokens, self._identities) if checker is not None]
        fetches = [checker.jwks.run() for checker in token_checkers if checker.jwks is not None]
        return fetches if self.is_open else [self._run_sweeps(), *fetches]

    async def _run_sweeps(self) -> None:
        """Watch for changed keys and for revocations, and apply them to the connected clients."""
        version: bytes | None = None
        revoked = False
        while True:
            await asyncio.sleep(SWEEP_S)
            await self._reload_keys()
            changed, self._keys_changed = self._keys_changed, False
            await self._sweep_keys(changed)
            try:
                found = await self.revocations.version()
                revoked = revoked or found != version
                version = found
                await self._sweep_revocations(revoked)
                revoked = False
            except StoreError as error:
                log.info("revocations can't be read", error=str(error))

    def _sweep_batches(self, sweep_all: bool) -> Iterator[list[CredentialLease]]:
        """Yield the leases to check, in batches: all of them, or those whose principal is new since the last sweep.

        A new lease may have missed a change that happened while its client was being admitted.
        """
        found = [lease for lease in self._leases if sweep_all or lease.swept_principal is not lease.principal]
        for start in range(0, len(found), SWEEP_BATCH_SIZE):
            yield [lease for lease in found[start : start + SWEEP_BATCH_SIZE] if self._is_active(lease)]

    def _is_active(self, lease: CredentialLease) -> bool:
        return lease in self._leases and not lease.revoked

    async def _sweep_keys(self, sweep_all: bool) -> None:
        for batch in self._sweep_batches(sweep_all):
            for lease in batch:
                self._refresh_lease(lease)
            await asyncio.sleep(0)

    def _refresh_lease(self, lease: CredentialLease) -> None:
        """Apply the current lines of the client's API keys to its lease, or revoke the lease if a key is gone."""
        current = self._refresh(lease.principal)
        if current is None:
            lease.revoke()
        elif current != lease.principal:
            lease.update(current)

    async def _sweep_revocations(self, sweep_all: bool) -> None:
        for batch in self._sweep_batches(sweep_all):
            principals = [lease.principal for lease in batch]
            revoked = await self.revocations.revoked(principals)
            for lease, principal, is_revoked in zip(batch, principals, revoked, strict=True):
                if lease.principal is not principal or not self._is_active(lease):
                    continue  # it was renewed or has left; a renewed one is checked in the next sweep
                lease.swept_principal = principal
                if is_revoked:
                    lease.revoke()
                else:
                    self._refresh_lease(lease)  # it may have been admitted after the keys were swept

    async def _reload_keys(self) -> None:
        """Read the key file again if it has changed."""
        if self._keys is not None:
            async with self._reload_lock:
                try:
                    if await asyncio.to_thread(self._keys.reload):
                        self._keys_changed = True
                        log.info("API keys reloaded", keys=self._keys.count)
                except AuthSetupError as error:
                    log.error("API keys not reloaded", error=str(error))


def _parse_query(query: bytes) -> dict[str, list[str]]:
    """Return the parameters of a query string.

    Raise `ApiError` if one of them is a long-lived credential, or if there are too many.
    """
    try:
        parameters = parse_qs(query.decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise ApiError("invalid_request", f"The query has more than {QUERY_FIELDS_MAX} fields. Send fewer.") from None
    for name in LONG_LIVED_PARAMETERS:
        if name in parameters:
            raise ApiError(
                "unauthenticated",
                "A credential isn't allowed in the address, because addresses are logged. Send it as Authorization: "
                "Bearer, or exchange it for a ticket at POST /v1/tickets.",
                path=name,
            )
    return parameters
