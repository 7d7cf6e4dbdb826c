"""Who may do what: the table of scopes, and what a user may be called."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway import protocol as p
from gateway.errors import ApiError
from gateway.identity.principal import DEFAULT_SCOPES, NEEDED, Principal, check_user, known_scopes


def test_every_request_has_its_scope() -> None:
    """A request without a line in the table would be open to everyone, or fail for everyone."""
    assert set(NEEDED) == set(get_args(p.AnyRequest))
    assert {request for request, scope in NEEDED.items() if scope is None} == {p.Auth, p.Ping}


def test_a_scope_that_is_missing_is_named() -> None:
    """The error says which scope the credential lacks."""
    reader = Principal(user="ann", scopes=frozenset({"read"}))
    reader.require("read")
    reader.require(None)
    with pytest.raises(ApiError, match="scope chat") as refused:
        reader.require("chat")
    assert refused.value.code == "forbidden"


def test_a_credential_that_says_nothing_may_chat_read_and_cancel() -> None:
    """Neither administration nor speaking for others comes by default."""
    assert Principal(user="ann").scopes == DEFAULT_SCOPES == {"chat", "read", "cancel"}


def test_scopes_of_others_are_ignored() -> None:
    """A token may carry scopes for other services."""
    assert known_scopes(["openid", "chat", "as", 7]) == {"chat", "as"}


@pytest.mark.parametrize("user", ["ann", "auth0|5f", "https://id.example:1/ann", "Ünï 安", "x" * 255])
def test_a_user_may_be_called_so(user: str) -> None:
    """Whatever an identity provider calls its users."""
    assert check_user(user) == user


@pytest.mark.parametrize("user", ["", "x" * 256, "ü" * 128, "a\nb", "a\0b", "\ud800", "service:backend"])
def test_a_user_may_not_be_called_so(user: str) -> None:
    """Empty, too long, control characters, what isn't text, and the names of services."""
    with pytest.raises(ValueError, match=r"user|surrogates"):
        check_user(user)
