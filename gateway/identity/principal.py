"""Whom a credential names, and which of the scopes a request needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from msgspec import Struct

from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError

Scope = Literal["chat", "read", "cancel", "admin", "as"]

SCOPES: frozenset[str] = frozenset(get_args(Scope))
DEFAULT_SCOPES: frozenset[Scope] = frozenset({"chat", "read", "cancel"})
"""What a credential allows that doesn't say."""
KEPT_FROM_BROWSERS: frozenset[Scope] = frozenset({"admin", "as"})
"""What nobody gets by a ticket, or by a service that names him."""

SERVICE_PREFIX = "service:"
"""How the user that a service is by itself begins; nobody else may be called so."""

NEEDED: dict[type[p.Request], Scope | None] = {
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
    """What one credential says. `name`: by which it can be revoked (`jti:…`, `key:…`), if it has one.

    `digest`: the hash in an API key's line; a line with another one is another key's. Times are in ms since 1970.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    name: str | None = None
    digest: bytes = b""
    issued_ms: int = 0
    expires_ms: int | None = None


class Principal(Struct, frozen=True, kw_only=True):
    """Who may do what. Limits and budgets count by `user`; `service` is who spoke for that user, if somebody did.

    It rests on its `credentials`, and ends with the first of them: the user's own, then the service's. `withheld` are
    scopes that it never gets, whatever they say.
    """

    user: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    expires_ms: int | None = None
    service: str | None = None
    credentials: tuple[Credential, ...] = ()
    withheld: frozenset[Scope] = frozenset()

    @property
    def is_service(self) -> bool:
        """A service that speaks for itself, or for many."""
        return self.user.startswith(SERVICE_PREFIX)

    @property
    def by_service(self) -> bool:
        """Whether a service is at the other end, so that its address says nothing of the user."""
        return self.is_service or self.service is not None

    def require(self, scope: Scope | None) -> None:
        """Raises `ApiError` "forbidden" where the credential lacks the scope."""
        if scope is not None and scope not in self.scopes:
            raise ApiError("forbidden", f"This needs the scope {scope}, which your credential doesn't have.")


def principal_of(*credentials: Credential, withheld: frozenset[Scope] = frozenset()) -> Principal:
    """Whom they name together: the user of the first, with what each of them allows, until the first of their ends."""
    return Principal(
        user=credentials[0].user,
        scopes=frozenset.intersection(*(one.scopes for one in credentials)) - withheld,
        expires_ms=min((one.expires_ms for one in credentials if one.expires_ms is not None), default=None),
        service=credentials[1].user if len(credentials) > 1 else None,
        credentials=credentials,
        withheld=withheld,
    )


def known_scopes(named: Iterable[object], prefix: str = "") -> frozenset[Scope]:
    """Ours among the names, where they begin with `prefix`; a credential may carry others, for others."""
    given = set(named)
    return frozenset(scope for scope in get_args(Scope) if prefix + scope in given)


def check_user(user: str) -> str:
    """The user, if that can be one: 1-255 bytes, no control characters. Raises `ValueError`."""
    if not 0 < len(user.encode()) <= p.USER_BYTES_MAX or not user.isprintable():
        raise ValueError("a user is 1-255 bytes of printable text")
    if user.startswith(SERVICE_PREFIX):
        raise ValueError(f"no user's name begins with {SERVICE_PREFIX}")
    return user
