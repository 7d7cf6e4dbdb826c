"""Who may do what: the table of scopes, and what a user may be called."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.identity.principal import (
    DEFAULT_SCOPES,
    REQUIRED_SCOPES,
    Credential,
    Principal,
    check_user,
    known_scopes,
    principal_of,
)
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError


def test_every_request_has_its_scope() -> None:
    """A request without a line in the table would be open to everyone, or fail for everyone."""
    assert set(REQUIRED_SCOPES) == set(get_args(p.AnyRequest))
    assert {request for request, scope in REQUIRED_SCOPES.items() if scope is None} == {p.Auth, p.Ping}


def test_a_scope_that_is_missing_is_named() -> None:
    """The error says which scope the credential lacks."""
    reader = Principal(user="ann", scopes=frozenset({"read"}))
    reader.require("read")
    reader.require(None)
    with pytest.raises(ApiError, match="scope `chat`") as refused:
        reader.require("chat")
    assert refused.value.code == "forbidden"


def test_a_credential_that_says_nothing_may_chat_read_and_cancel() -> None:
    """Neither administration nor speaking for others comes by default."""
    assert Principal(user="ann").scopes == DEFAULT_SCOPES == {"chat", "read", "cancel"}


def test_scopes_of_others_are_ignored() -> None:
    """A token may carry scopes for other services."""
    assert known_scopes(["openid", "chat", "as", 7]) == {"chat", "as"}
    assert known_scopes(["openid", "chat", "x:as", "x:x:read", 7], "x:") == {"as"}


def test_what_several_credentials_allow_together() -> None:
    """What each of them does, until the first ends, less what is withheld; it is the first one's user."""
    ann = Credential(user="ann", scopes=frozenset({"chat", "read", "as"}), expires_ms=9)
    service = Credential(user="service:x", scopes=frozenset({"chat", "as", "admin"}), expires_ms=8)
    both = principal_of(ann, service, withheld=frozenset({"as"}))
    assert (both.user, both.service, both.scopes, both.expires_ms) == ("ann", "service:x", frozenset({"chat"}), 8)
    alone = principal_of(ann)
    assert (alone.service, alone.scopes, alone.expires_ms) == (None, ann.scopes, 9)
    assert principal_of(Credential(user="ann"), service).expires_ms == 8


@pytest.mark.parametrize("user", ["ann", "auth0|5f", "https://id.example:1/ann", "Ünï 安", "x" * 255])
def test_a_user_may_be_called_so(user: str) -> None:
    """Whatever an identity provider calls its users."""
    assert check_user(user) == user


@pytest.mark.parametrize(
    "user", ["", "x" * 256, "ü" * 128, "a\nb", "a\0b", "a\u202eb", "a\u2028b", "\ud800", "service:backend"]
)
def test_a_user_may_not_be_called_so(user: str) -> None:
    """Empty, too long, control characters, what isn't text, and the names of services."""
    with pytest.raises(ValueError, match=r"user|surrogates"):
        check_user(user)
