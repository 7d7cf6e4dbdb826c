"""Principals, their credentials, and the scope that each request needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms

Scope = Literal["chat", "read", "cancel", "admin", "as"]

SCOPES: frozenset[str] = frozenset(get_args(Scope))
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"chat", "read", "cancel"})
"""The scopes of a credential without a list of scopes."""
BROWSER_WITHHELD_SCOPES: frozenset[Scope] = frozenset({"admin", "as"})
"""The scopes that are never granted to a ticket, or to a user that a service names in `X-Turnwire-Identity`."""

SERVICE_PREFIX = "service:"
"""The prefix of a service's own user name. No other user's name may begin with it."""

REQUIRED_SCOPES: dict[type[p.Request], Scope | None] = {
    p.Auth: None,
    p.Ping: None,
    p.TurnStart: "chat",
    p.ConversationCreate: "chat",
    p.ConversationUpdate: "chat",
    p.ConversationClear: "chat",
    p.ConversationDelete: "chat",
    p.FeedbackPut: "chat",
    p.TurnAttach: "read",
    p.TurnDetach: "read",
    p.TurnEstimate: "read",
    p.TurnGet: "read",
    p.ConversationList: "read",
    p.ConversationGet: "read",
    p.ConversationMessages: "read",
    p.ConversationAttach: "read",
    p.ConversationDetach: "read",
    p.ConversationsAttach: "read",
    p.ConversationsDetach: "read",
    p.ModelsList: "read",
    p.UsageGet: "read",
    p.TurnCancel: "cancel",
}


class Credential(Struct, frozen=True, kw_only=True):
    """The content of one credential. Times are in ms since 1970.

    `name`, if any, identifies the credential in a revocation (`jti:…`, `key:…`). `digest` is the hash in an API key's
    line of the key file; if the hash in that line has changed, it is the line of another key. `retention_days`: how long
    the user's conversations are kept after their last change; 0 means forever, None as long as the setting says.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    name: str | None = None
    digest: bytes = b""
    issued_ms: int = 0
    expires_ms: int | None = None
    retention_days: int | None = None


class Principal(Struct, frozen=True, kw_only=True):
    """A user and their permissions. Limits and budgets are counted per `user`.

    If a service acts for the user, `service` is its user name, and `credentials` are the user's and then the service's.
    The principal expires when the first of them does. `withheld` are scopes that it never has, even if all of its
    credentials list them.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_ms: int | None = None
    retention_days: int | None = None
    service: str | None = None
    credentials: tuple[Credential, ...] = ()
    withheld: frozenset[Scope] = frozenset()

    @property
    def is_service(self) -> bool:
        """Whether the user is a service itself. Its requests may still name other users (`as`)."""
        return self.user.startswith(SERVICE_PREFIX)

    @property
    def by_service(self) -> bool:
        """Whether the client is a service. Its address is then not the user's."""
        return self.is_service or self.service is not None

    def require(self, scope: Scope | None) -> None:
        """Check that the principal has the scope; None requires nothing.

        Raise `ApiError` "forbidden" if not.
        """
        if scope is not None and scope not in self.scopes:
            raise missing_scope(scope)


def missing_scope(scope: Scope, path: str | None = None) -> ApiError:
    """Return the error for a request that needs `scope`. `path` is the field that needs the scope, if one does."""
    message = f"The credential doesn't have the scope `{scope}`. Use a credential with this scope."
    return ApiError("forbidden", message, path=path)


def principal_of(*credentials: Credential, withheld: frozenset[Scope] = frozenset()) -> Principal:
    """Return the principal of these credentials: first the user's, then that of the service that acts for them, if any.

    It has the scopes that all of the credentials have, without `withheld`, and expires when the first of them does.
    """
    return Principal(
        user=credentials[0].user,
        scopes=frozenset.intersection(*(credential.scopes for credential in credentials)) - withheld,
        expires_ms=min(
            (credential.expires_ms for credential in credentials if credential.expires_ms is not None), default=None
        ),
        retention_days=next(
            (credential.retention_days for credential in credentials if credential.retention_days is not None), None
        ),
        service=credentials[1].user if len(credentials) > 1 else None,
        credentials=credentials,
        withheld=withheld,
    )


def principal_for(service: Principal, user: str) -> Principal:
    """Return the principal for a user that a service acts for. It has a credential that was issued now.

    Where auth is off, a user has the default scopes, and no credential.
    """
    if not service.credentials:
        return Principal(user=user)
    credential = Credential(user=user, issued_ms=now_ms())
    return principal_of(credential, *service.credentials, withheld=BROWSER_WITHHELD_SCOPES)


def known_scopes(named: Iterable[object], prefix: str = "") -> frozenset[Scope]:
    """Return the gateway's scopes that are listed in `named`, each written with `prefix` before it.

    All other names are ignored, because a credential may carry scopes for other services.
    """
    names = set(named)
    return frozenset(scope for scope in get_args(Scope) if prefix + scope in names)


RETENTION_DAYS_MAX = 36_500


def check_retention(days: object) -> int | None:
    """Return `days` if it is a valid retention: None, or a whole number of days up to 36,500; 0 means forever.

    Raise `ValueError` if not.
    """
    if days is not None and (
        isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= RETENTION_DAYS_MAX
    ):
        raise ValueError(f"`retention_days` must be a whole number from 0 (forever) to {RETENTION_DAYS_MAX}")
    return days


def check_user(user: str) -> str:
    """Return `user` if it is a valid user name: 1-255 bytes of printable text, and not a service's name.

    Raise `ValueError` if not.
    """
    if not 0 < len(user.encode()) <= p.USER_BYTES_MAX or not user.isprintable():
        raise ValueError("a user name must have 1-255 bytes of printable text")
    if user.startswith(SERVICE_PREFIX):
        raise ValueError(f"a user name must not begin with {SERVICE_PREFIX}")
    return user
