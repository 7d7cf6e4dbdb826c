"""Authentication by the modes of `TURNWIRE_AUTH`. `CredentialSweeps` checks the credentials of connected clients."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

import structlog

from gateway.identity.api_keys import KEY_PREFIX, ApiKeys
from gateway.identity.credential_lease import EXPIRED, REVOKED, CredentialLease
from gateway.identity.credential_sweeps import CredentialSweeps
from gateway.identity.origin import Headers, credential_values, header_values
from gateway.identity.principal import (
    BROWSER_WITHHELD_SCOPES,
    DEFAULT_SCOPES,
    Credential,
    Principal,
    check_user,
    principal_of,
)
from gateway.identity.revocations import Revocations
from gateway.identity.tickets import TICKET_PREFIX, Tickets
from gateway.identity.tokens import INVALID_TOKEN, Tokens
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.settings import Settings
from store.api import EphemeralStore
from store.errors import StoreError

log = structlog.stdlib.get_logger("turnwire.auth")

LOCAL_USER = "local"
"""The user of every client if auth is off."""

IDENTITY_HEADER = "X-Turnwire-Identity"
QUERY_FIELDS_MAX = 32
LONG_LIVED_PARAMETERS = ("token", "access_token", "api_key")


class Authenticator:
    """The authenticator of a process. Raises `AuthSetupError` if the settings can't be used."""

    def __init__(self, settings: Settings, store: EphemeralStore) -> None:
        self._settings = settings
        self._leases: set[CredentialLease] = set()
        rules, identity_rules = settings.token_settings, settings.identity_settings
        self._tokens = None if rules is None else Tokens(rules)
        self._identities = None if identity_rules is None else Tokens(identity_rules)
        self._keys = None if settings.api_keys is None else ApiKeys(settings.api_keys)
        if rules is not None and not rules.scope_prefix:
            log.warning(
                "a token's scope admin grants admin access: set TURNWIRE_SCOPE_PREFIX if its issuer means something else by admin"
            )
        self.is_open = settings.auth == "none"
        self.tickets = Tickets(store, settings.ticket_ttl_s)
        self.revocations = Revocations(store)
        self._sweeps = CredentialSweeps(self._leases, self._keys, self.revocations)
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

        Where auth is off, it is the user that `user_id` in the query names.

        Raises as `authenticate`.
        """
        parameters = _parse_query(query)
        found = await self._authenticate_headers(headers)
        if found is None and "ticket" in parameters:
            found = await self._redeem_ticket(parameters["ticket"][0])
        if self.is_open and "user_id" in parameters:
            return _named_user(parameters["user_id"][0])
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
        await self._sweeps.reload_keys()  # the issuing instance may have read a newer key file than this one
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
        authorizations = credential_values(headers)
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

        Raise `ApiError` "unauthenticated" if it is revoked, or if `CredentialSweeps.refresh` returns None. Without the
        store, revocation can't be checked; then raise "store_unavailable", so no new client is admitted.
        """
        try:
            (revoked,) = await self.revocations.revoked([principal])
        except StoreError:
            raise ApiError("store_unavailable") from None
        current = None if revoked else self._sweeps.refresh(principal)
        if current is None:
            raise ApiError("unauthenticated", REVOKED)
        return current

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

    def background_tasks(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Return the functions whose coroutines must run until they are cancelled."""
        token_checkers = [checker for checker in (self._tokens, self._identities) if checker is not None]
        fetches = [checker.jwks.run for checker in token_checkers if checker.jwks is not None]
        return fetches if self.is_open else [self._sweeps.run, *fetches]


def _named_user(user: str) -> Principal:
    try:
        return Principal(user=check_user(user))
    except ValueError as error:
        raise ApiError("invalid_request", f"Invalid user name: {error}. Correct `user_id`.", path="user_id") from None


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
