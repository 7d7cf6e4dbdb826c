"""Revocations: by token, by key, by user and time; and a word that changes with each."""

from __future__ import annotations

from gateway.identity.principal import Credential, principal_of
from gateway.identity.revocations import Revocations
from tests.in_process import open_store

SERVICE = Credential(user="service:backend", name="key:k", issued_ms=1000)
ANN = principal_of(Credential(user="ann", name="jti:1", issued_ms=1000), SERVICE)
BOB = principal_of(Credential(user="bob", name="jti:2", issued_ms=1000))
EVE = principal_of(Credential(user="eve"))


async def test_a_credential_is_revoked_by_each_of_its_names() -> None:
    """Its own, and that of the service that speaks for it; and nobody else's is."""
    for name in ("jti:1", "key:k"):
        async with open_store() as store:
            revocations = Revocations(store.as_store)
            assert await revocations.revoked([ANN, BOB, EVE]) == [False] * 3
            await revocations.revoke(name)
            assert await revocations.revoked([ANN, BOB, EVE]) == [True, False, False]


async def test_what_was_issued_to_a_user_before_a_moment() -> None:
    """What came later counts; what doesn't say when it came doesn't."""
    async with open_store() as store:
        revocations = Revocations(store.as_store)
        await revocations.revoke_user("ann", 1000)
        assert await revocations.revoked([ANN]) == [False]
        await revocations.revoke_user("ann", 1001)
        await revocations.revoke_user("eve", 1)
        assert await revocations.revoked([ANN, BOB, EVE]) == [True, False, True]


async def test_who_is_spoken_for_goes_with_the_service() -> None:
    """By the moment at which the service's own credential was issued."""
    async with open_store() as store:
        revocations = Revocations(store.as_store)
        await revocations.revoke_user("service:backend", 1000)
        assert await revocations.revoked([ANN]) == [False]
        await revocations.revoke_user("service:backend", 1001)
        assert await revocations.revoked([ANN, BOB]) == [True, False]


async def test_each_revocation_changes_the_word() -> None:
    """For all who ask, whoever revoked."""
    async with open_store() as store:
        here, there = Revocations(store.as_store), Revocations(store.as_store)
        assert await there.version() is None
        words = set()
        for n in range(3):
            await here.revoke("jti:1" if n else "jti:3")
            words.add(await there.version())
        assert len(words) == 3


async def test_nobody_asks_for_nobody() -> None:
    """Without principals there is no question."""
    async with open_store() as store:
        assert await Revocations(store.as_store).revoked([]) == []
