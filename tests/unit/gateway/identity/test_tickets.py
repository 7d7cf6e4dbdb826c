"""Tests of one-time tickets: a single use, a short lifetime, and fewer scopes than the credential."""

from __future__ import annotations

import asyncio

import pytest

from gateway.identity.principal import Credential, Principal, principal_of
from gateway.identity.tickets import Tickets
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from tests.in_process import open_store

ANN = principal_of(
    Credential(
        user="ann", scopes=frozenset({"chat", "admin", "as"}), name="key:k", digest=b"x", issued_ms=5, expires_ms=9
    ),
    Credential(user="service:backend", scopes=frozenset({"chat", "admin", "as"}), name="jti:j", expires_ms=8),
)


async def test_a_ticket_can_be_redeemed_once() -> None:
    """A ticket has all credentials of its caller, and all of their scopes except `admin` and `as`."""
    async with open_store() as store:
        tickets = Tickets(store.as_store, 30)
        ticket, until_ms = await tickets.issue(ANN)
        assert 29_000 < until_ms - now_ms() <= 30_000
        found = await tickets.redeem(ticket)
        assert (found.user, found.scopes, found.service) == ("ann", frozenset({"chat"}), "service:backend")
        assert (found.credentials, found.withheld, found.expires_ms) == (ANN.credentials, frozenset({"admin", "as"}), 8)
        with pytest.raises(ApiError, match="was already used") as refused:
            await tickets.redeem(ticket)
        assert refused.value.code == "unauthenticated"


async def test_only_one_of_several_concurrent_clients_redeems_a_ticket() -> None:
    """The store decides which one."""
    async with open_store() as store:
        both = [Tickets(store.as_store, 30) for _ in range(2)]
        ticket, _ = await both[0].issue(ANN)
        found = await asyncio.gather(*[both[n % 2].redeem(ticket) for n in range(8)], return_exceptions=True)
        assert [isinstance(one, Principal) for one in found].count(True) == 1


async def test_a_ticket_expires() -> None:
    """An expired ticket is refused like an unknown one."""
    async with open_store() as store:
        tickets = Tickets(store.as_store, 0.02)
        ticket, _ = await tickets.issue(ANN)
        await asyncio.sleep(0.04)
        with pytest.raises(ApiError):
            await tickets.redeem(ticket)


@pytest.mark.parametrize("given", ["", "tk_", "tk_" + "x" * 32, "\ud800", "revoked"])
async def test_an_invalid_ticket_is_refused(given: str) -> None:
    """The client could send any text as a ticket."""
    async with open_store() as store:
        with pytest.raises(ApiError) as refused:
            await Tickets(store.as_store, 30).redeem(given)
        assert refused.value.code == "unauthenticated"


async def test_without_the_store_the_ticket_stays_valid() -> None:
    """The error is `store_unavailable`, and the ticket can be redeemed later."""
    async with open_store() as store:
        tickets = Tickets(store.as_store, 30)
        ticket, _ = await tickets.issue(ANN)
        with store.failing("pop_ephemeral"), pytest.raises(ApiError) as refused:
            await tickets.redeem(ticket)
        assert refused.value.code == "store_unavailable"
        assert (await tickets.redeem(ticket)).user == "ann"
