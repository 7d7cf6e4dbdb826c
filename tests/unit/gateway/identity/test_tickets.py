"""One-time tickets: once, for a while, less than the credential."""

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


async def test_a_ticket_is_worth_one_opening() -> None:
    """A ticket carries every credential of whoever asked for it, and all scopes but `admin` and `as`. It works once."""
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


async def test_of_all_who_come_at_once_one_gets_in() -> None:
    """The store decides."""
    async with open_store() as store:
        both = [Tickets(store.as_store, 30) for _ in range(2)]
        ticket, _ = await both[0].issue(ANN)
        found = await asyncio.gather(*[both[n % 2].redeem(ticket) for n in range(8)], return_exceptions=True)
        assert [isinstance(one, Principal) for one in found].count(True) == 1


async def test_a_ticket_is_soon_too_old() -> None:
    """After its time it is as if it had never been."""
    async with open_store() as store:
        tickets = Tickets(store.as_store, 0.02)
        ticket, _ = await tickets.issue(ANN)
        await asyncio.sleep(0.04)
        with pytest.raises(ApiError):
            await tickets.redeem(ticket)


@pytest.mark.parametrize("given", ["", "tk_", "tk_" + "x" * 32, "\ud800", "revoked"])
async def test_what_is_no_ticket(given: str) -> None:
    """Anything may be sent as a ticket."""
    async with open_store() as store:
        with pytest.raises(ApiError) as refused:
            await Tickets(store.as_store, 30).redeem(given)
        assert refused.value.code == "unauthenticated"


async def test_without_the_store_nobody_can_tell() -> None:
    """The ticket isn't blamed."""
    async with open_store() as store:
        tickets = Tickets(store.as_store, 30)
        ticket, _ = await tickets.issue(ANN)
        with store.failing("pop_ephemeral"), pytest.raises(ApiError) as refused:
            await tickets.redeem(ticket)
        assert refused.value.code == "store_unavailable"
        assert (await tickets.redeem(ticket)).user == "ann"
