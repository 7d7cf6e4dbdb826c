"""Principals, their credentials, and the scope that each request needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError

Scope = Literal["chat", "read", "cancel", "admin", "as"]

SCOPES: frozenset[str] = frozenset(get_args(Scope))
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"chat", "read", "cancel"})
"""The scopes of a credential that names none."""
BROWSER_WITHHELD_SCOPES: frozenset[Scope] = frozenset({"admin", "as"})
"""The scopes that a ticket, or a user that a service names, never gets."""

SERVICE_PREFIX = "service:"
"""The prefix of the user that a service is when it speaks for itself. No other user's name may begin with it."""

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
    p.TurnGet: "read",
    p.ConversationList: "read",
    p.ConversationGet: "read",
    p.ConversationMessages: "read",
    p.ConversationAttach: "read",
    p.ConversationDetach: "read",
    p.ModelsList: "read",
    p.UsageGet: "read",
    p.TurnCancel: "cancel",
}


class Credential(Struct, frozen=True, kw_only=True):
    """The content of one credential. Times are in ms since 1970.

    `name` is the name by which it can be revoked (`jti:…`, `key:…`), if it has one. `digest` is the hash in an API
    key's line; a line with another hash belongs to another key.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    name: str | None = None
    digest: bytes = b""
    issued_ms: int = 0
    expires_ms: int | None = None


class Principal(Struct, frozen=True, kw_only=True):
    """A user with its permissions. Limits and budgets are counted by `user`.

    `service` is the service that named the user, if one did. `credentials` are the user's own and then the service's;
    the principal expires with the first of them. `withheld` are scopes that it never gets, whatever they say.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_ms: int | None = None
    service: str | None = None
    credentials: tuple[Credential, ...] = ()
    withheld: frozenset[Scope] = frozenset()

    @property
    def is_service(self) -> bool:
        """Whether the user is a service that speaks for itself, or for many users."""
        return self.user.startswith(SERVICE_PREFIX)

    @property
    def by_service(self) -> bool:
        """Whether the client is a service, so that its address doesn't identify the user."""
        return self.is_service or self.service is not None

    def require(self, scope: Scope | None) -> None:
        """Check that the principal has the scope; None requires nothing.

        Raise `ApiError` "forbidden" if not.
        """
        if scope is not None and scope not in self.scopes:
            raise missing_scope(scope)


def missing_scope(scope: Scope, path: str | None = None) -> ApiError:
    """Return the error for a request that needs `scope`. `path` is the field that needs it, if it is a field."""
    message = f"The credential doesn't have the scope `{scope}`. Use a credential with this scope."
    return ApiError("forbidden", message, path=path)


def principal_of(*credentials: Credential, withheld: frozenset[Scope] = frozenset()) -> Principal:
    """Return the principal of these credentials: the user's, and then that of the service that names it, if any.

    It has the scopes that all of them have, without `withheld`, and expires with the first of them.
    """
    return Principal(
        user=credentials[0].user,
        scopes=frozenset.intersection(*(credential.scopes for credential in credentials)) - withheld,
        expires_ms=min(
            (credential.expires_ms for credential in credentials if credential.expires_ms is not None), default=None
        ),
        service=credentials[1].user if len(credentials) > 1 else None,
        credentials=credentials,
        withheld=withheld,
    )


def known_scopes(named: Iterable[object], prefix: str = "") -> frozenset[Scope]:
    """Return the scopes of this project among the names that begin with `prefix`.

    A credential may carry scopes for other services; they are ignored.
    """
    known_names = set(named)
    return frozenset(scope for scope in get_args(Scope) if prefix + scope in known_names)


def check_user(user: str) -> str:
    """Return `user` if it is a valid user name: 1-255 bytes, no control characters, not a service's name.

    Raise `ValueError` if not.
    """
    if not 0 < len(user.encode()) <= p.USER_BYTES_MAX or not user.isprintable():
        raise ValueError("a user name must have 1-255 bytes of printable text")
    if user.startswith(SERVICE_PREFIX):
        raise ValueError(f"a user name must not begin with {SERVICE_PREFIX}")
    return user
