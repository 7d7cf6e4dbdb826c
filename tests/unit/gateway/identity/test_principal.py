"""Tests of principals: the table of scopes, combined credentials, and valid user names."""

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
    """A request without a row in the table would fail for all clients. Only `auth` and `ping` need no scope."""
    assert set(REQUIRED_SCOPES) == set(get_args(p.AnyRequest))
    assert {request for request, scope in REQUIRED_SCOPES.items() if scope is None} == {p.Auth, p.Ping}


def test_a_missing_scope_is_named() -> None:
    """The error message says which scope the credential lacks."""
    reader = Principal(user="ann", scopes=frozenset({"read"}))
    reader.require("read")
    reader.require(None)
    with pytest.raises(ApiError, match="scope `chat`") as refused:
        reader.require("chat")
    assert refused.value.code == "forbidden"


def test_the_default_scopes_are_chat_read_and_cancel() -> None:
    """The scopes `admin` and `as` aren't granted by default."""
    assert Principal(user="ann").scopes == DEFAULT_SCOPES == {"chat", "read", "cancel"}


def test_unknown_scopes_are_ignored() -> None:
    """A token may have scopes for other services."""
    assert known_scopes(["openid", "chat", "as", 7]) == {"chat", "as"}
    assert known_scopes(["openid", "chat", "x:as", "x:x:read", 7], "x:") == {"as"}


def test_combined_credentials_have_the_intersection_of_their_scopes() -> None:
    """The scopes are those that every credential has, without the withheld ones.

    The user is the first credential's, and the earliest expiry applies.
    """
    ann = Credential(user="ann", scopes=frozenset({"chat", "read", "as"}), expires_ms=9)
    service = Credential(user="service:x", scopes=frozenset({"chat", "as", "admin"}), expires_ms=8)
    both = principal_of(ann, service, withheld=frozenset({"as"}))
    assert (both.user, both.service, both.scopes, both.expires_ms) == ("ann", "service:x", frozenset({"chat"}), 8)
    alone = principal_of(ann)
    assert (alone.service, alone.scopes, alone.expires_ms) == (None, ann.scopes, 9)
    assert principal_of(Credential(user="ann"), service).expires_ms == 8


@pytest.mark.parametrize("user", ["ann", "auth0|5f", "https://id.example:1/ann", "Ünï 安", "x" * 255])
def test_valid_user_names_are_accepted(user: str) -> None:
    """Identity providers use many formats."""
    assert check_user(user) == user


@pytest.mark.parametrize(
    "user", ["", "x" * 256, "ü" * 128, "a\nb", "a\0b", "a\u202eb", "a\u2028b", "\ud800", "service:backend"]
)
def test_invalid_user_names_are_refused(user: str) -> None:
    """Empty and overlong names, control characters, invalid Unicode and service names are refused."""
    with pytest.raises(ValueError, match=r"user|surrogates"):
        check_user(user)
