"""Tests of revocation by token, by key, and by user and time. Each revocation changes the version."""

from __future__ import annotations

import asyncio

from gateway.identity.principal import Credential, principal_of
from gateway.identity.revocations import Revocations
from tests.in_process import open_store

SERVICE = Credential(user="service:backend", name="key:k", issued_ms=1000)
ANN = principal_of(Credential(user="ann", name="jti:1", issued_ms=1000), SERVICE)
BOB = principal_of(Credential(user="bob", name="jti:2", issued_ms=1000))
EVE = principal_of(Credential(user="eve"))


async def test_a_principal_is_revoked_by_the_name_of_its_credential_or_its_service() -> None:
    """Either credential's name is enough. Other principals aren't affected."""
    for name in ("jti:1", "key:k"):
        async with open_store() as store:
            revocations = Revocations(store.as_store)
            assert await revocations.revoked([ANN, BOB, EVE]) == [False] * 3
            await revocations.revoke(name)
            assert await revocations.revoked([ANN, BOB, EVE]) == [True, False, False]


async def test_a_users_credentials_issued_before_a_time_are_revoked() -> None:
    """Credentials issued at that time or later stay valid. One without an issue time is revoked."""
    async with open_store() as store:
        revocations = Revocations(store.as_store)
        await revocations.revoke_user("ann", 1000)
        assert await revocations.revoked([ANN]) == [False]
        await revocations.revoke_user("ann", 1001)
        await revocations.revoke_user("eve", 1)
        assert await revocations.revoked([ANN, BOB, EVE]) == [True, False, True]


async def test_an_earlier_time_doesnt_replace_a_later_one() -> None:
    """A revoked credential stays revoked, even if earlier times are set afterwards or concurrently."""
    async with open_store() as store:
        revocations = Revocations(store.as_store)
        await revocations.revoke_user("ann", 1001)
        await revocations.revoke_user("ann", 500)
        assert await revocations.revoked([ANN]) == [True]
        times = [600, 1001, 700, 900, 800]
        await asyncio.gather(*(Revocations(store.as_store).revoke_user("bob", time) for time in times))
        assert await revocations.revoked([BOB]) == [True]


async def test_revoking_a_service_revokes_its_users() -> None:
    """What matters is when the service's own credential was issued."""
    async with open_store() as store:
        revocations = Revocations(store.as_store)
        await revocations.revoke_user("service:backend", 1000)
        assert await revocations.revoked([ANN]) == [False]
        await revocations.revoke_user("service:backend", 1001)
        assert await revocations.revoked([ANN, BOB]) == [True, False]


async def test_each_revocation_changes_the_version() -> None:
    """Every instance reads the new version, regardless of which instance revoked the credential."""
    async with open_store() as store:
        one, two = Revocations(store.as_store), Revocations(store.as_store)
        assert await two.version() is None
        versions = set()
        for n in range(3):
            await one.revoke("jti:1" if n else "jti:3")
            versions.add(await two.version())
        assert len(versions) == 3


async def test_without_principals_the_result_is_empty() -> None:
    """This isn't an error."""
    async with open_store() as store:
        assert await Revocations(store.as_store).revoked([]) == []
