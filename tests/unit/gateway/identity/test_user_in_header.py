"""Tests of the user that a service names in a header."""

from __future__ import annotations

import pytest

from gateway.identity.principal import Credential, Principal, principal_of
from gateway.identity.user_in_header import act_for_user_in_header
from gateway.protocol.errors import ApiError

SERVICE = principal_of(
    Credential(user="service:web", scopes=frozenset({"chat", "read", "as", "admin"}), name="key:web")
)
ANN = principal_of(Credential(user="ann"))


def acting(principal: Principal, **headers: str) -> Principal:
    return act_for_user_in_header(
        principal, [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    )


@pytest.mark.parametrize("header", ["turnwire_as", "x_openwebui_user_id"])
def test_a_service_acts_for_the_user(header: str) -> None:
    """The user has the scopes that the service has too, without those that no named user has."""
    found = acting(SERVICE, **{header: "Zoë"})
    assert (found.user, found.service) == ("Zoë", "service:web")
    assert found.scopes == {"chat", "read"}
    assert found.credentials[1].name == "key:web", "a revocation of the service ends the user's access"


def test_without_a_header_nothing_changes() -> None:
    assert acting(SERVICE) is SERVICE


def test_a_user_cannot_name_another_one() -> None:
    """Open WebUI sends its header to any service, so it isn't an error."""
    with pytest.raises(ApiError) as refused:
        acting(ANN, turnwire_as="eve")
    assert (refused.value.code, refused.value.body.path) == ("forbidden", "Turnwire-As")
    assert acting(ANN, x_openwebui_user_id="eve") is ANN
    named = acting(SERVICE, turnwire_as="ann")
    with pytest.raises(ApiError):
        acting(named, turnwire_as="eve")


@pytest.mark.parametrize("name", ["", "service:x", "a\tb", "x" * 256])
def test_invalid_names(name: str) -> None:
    with pytest.raises(ApiError) as refused:
        acting(SERVICE, turnwire_as=name)
    assert refused.value.code == "invalid_request"


def test_two_users_are_refused() -> None:
    with pytest.raises(ApiError) as refused:
        acting(SERVICE, turnwire_as="ann", x_openwebui_user_id="eve")
    assert refused.value.code == "forbidden"
    assert acting(SERVICE, turnwire_as="ann", x_openwebui_user_id="ann").user == "ann"
