"""Whom a credential names: each way to bring one, each way to be refused, and how it ends while somebody is here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ApiError
from gateway.identity import authenticator
from gateway.identity.authenticator import Authenticator
from gateway.identity.principal import DEFAULT_SCOPES, Principal
from tests.credentials import IDENTITY_SECRET, SECRET, KeyFile, token
from tests.in_process import SteeredStore, eventually, make_settings, open_store

Headers = list[tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sweeps come soon."""
    monkeypatch.setattr(authenticator, "SWEEP_S", 0.01)
    yield


class Gate:
    """An authenticator that runs, with its store and its file of keys."""

    def __init__(self, store: SteeredStore, folder: Path, **fields: Any) -> None:
        self.store = store
        self.file = KeyFile(folder)
        given = {"auth": "jwt,keys", "jwt_secret": SECRET, "api_keys": str(self.file.path), **fields}
        self.auth = Authenticator(make_settings(**given), store.as_store)

    async def key(self, **fields: Any) -> str:
        """A new key that counts."""
        key = self.file.add(**fields)
        await eventually(lambda: key.split("_")[1] in (self.auth._keys._keys if self.auth._keys else {}))
        return key


@asynccontextmanager
async def gate(folder: Path, **fields: Any) -> AsyncIterator[Gate]:
    """One that runs."""
    async with open_store() as store:
        made = Gate(store, folder, **fields)
        async with asyncio.TaskGroup() as tasks:
            chores = [tasks.create_task(chore) for chore in made.auth.chores()]
            try:
                yield made
            finally:
                for chore in chores:
                    chore.cancel()


def headers(**given: str) -> Headers:
    """Headers as a server has them; _ stands for -."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]


def bearer(credential: str, **more: str) -> Headers:
    """With a credential."""
    return headers(authorization=f"Bearer {credential}", **more)


async def code(waiting: Any) -> str:
    """With which code it is refused."""
    with pytest.raises(ApiError) as refused:
        await waiting
    return refused.value.code


async def test_with_auth_off_everyone_is_local() -> None:
    """Credentials aren't looked at; on loopback it is the operator, on an open port it is anybody."""
    async with open_store() as store:
        closed = Authenticator(make_settings(), store.as_store)
        assert await closed.of(headers()) == await closed.find(bearer("nonsense"), b"ticket=x")
        assert (await closed.of(headers())).scopes == DEFAULT_SCOPES | {"admin"}
        assert await code(closed.of(headers(x_turnwire_identity="x"))) == "forbidden"
        anybody = Authenticator(make_settings(insecure=True), store.as_store)
        assert (await anybody.of(headers())).scopes == DEFAULT_SCOPES
        assert closed.chores() == []


async def test_a_token_and_a_key_come_by_header(tmp_path: Path) -> None:
    """Side by side, where both modes are on."""
    async with gate(tmp_path) as g:
        assert (await g.auth.of(bearer(token("ann")))).user == "ann"
        assert (await g.auth.of(headers(authorization=f"bearer  {token('ann')}"))).user == "ann"
        assert (await g.auth.of(bearer(await g.key(user="bob")))).user == "bob"


async def test_who_brings_nothing(tmp_path: Path) -> None:
    """A request is refused; a socket may still send its first frame."""
    async with gate(tmp_path) as g:
        assert await code(g.auth.of(headers())) == "unauthenticated"
        assert await g.auth.find(headers(), b"") is None


@pytest.mark.parametrize(
    "given",
    [
        headers(authorization="Bearer nonsense"),
        headers(authorization="Bearer "),
        headers(authorization="Bearer"),
        headers(authorization=""),
        headers(authorization="Basic YTpi"),
        headers(authorization=token("ann")),
        [*bearer(token("ann")), *bearer(token("ann"))],
        bearer("tw_nonsense"),
        bearer("tk_nonsense"),
    ],
)
async def test_a_header_that_does_not_count(given: Headers, tmp_path: Path) -> None:
    """A wrong credential is refused, and never taken for none."""
    async with gate(tmp_path) as g:
        assert await code(g.auth.of(given)) == "unauthenticated"
        assert await code(g.auth.find(given, b"")) == "unauthenticated"


async def test_a_mode_that_is_off_takes_nothing(tmp_path: Path) -> None:
    """Keys don't count with jwt alone, tokens don't with keys alone."""
    async with gate(tmp_path, auth="jwt", api_keys=None) as g:
        assert await code(g.auth.of(bearer(g.file.add()))) == "unauthenticated"
    async with gate(tmp_path, auth="keys", jwt_secret=None) as g:
        assert await code(g.auth.of(bearer(token()))) == "unauthenticated"


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
async def test_a_long_lived_token_has_no_place_in_an_address(name: str, tmp_path: Path) -> None:
    """Not even where it would count."""
    async with gate(tmp_path) as g:
        query = f"a=b&{name}={token()}".encode()
        assert await code(g.auth.find(headers(), query)) == "unauthenticated"
        assert await code(g.auth.of(bearer(token()), query)) == "unauthenticated"


async def test_a_ticket_opens_a_socket_and_nothing_else(tmp_path: Path) -> None:
    """In the address or in the first frame; a request over HTTP is not refused by less than a header."""
    async with gate(tmp_path) as g:
        ann = await g.auth.of(bearer(token("ann")))
        tickets = [(await g.auth.tickets.issue(ann))[0] for _ in range(3)]
        found = await g.auth.find(headers(), f"ticket={tickets[0]}".encode())
        assert found is not None
        assert found.user == "ann"
        assert (await g.auth.of_first_frame(tickets[1])).user == "ann"
        assert await code(g.auth.of(headers(), f"ticket={tickets[2]}".encode())) == "unauthenticated"
        assert await code(g.auth.find(headers(), f"ticket={tickets[0]}".encode())) == "unauthenticated"
        assert await code(g.auth.find(headers(), f"ticket={token()}".encode())) == "unauthenticated"
        assert (await g.auth.of_first_frame(token("bob"))).user == "bob"


async def test_a_service_names_its_user(tmp_path: Path) -> None:
    """By a signed token beside its own credential; the user gets no more than the service may give."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "read", "as", "admin"})
        identity = token("ann", IDENTITY_SECRET, jti="i1", scope="chat cancel admin as")
        ann = await g.auth.of(bearer(service, x_turnwire_identity=identity))
        assert (ann.user, ann.service, ann.scopes) == ("ann", "service:backend", frozenset({"chat"}))
        assert ann.credentials == (f"key:{service.split('_')[1]}", "jti:i1")
        by_default = await g.auth.of(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert by_default.scopes == {"chat", "read"}


async def test_nobody_else_names_a_user(tmp_path: Path) -> None:
    """Neither a client without a credential, nor a user, nor a key that the operator didn't share, nor two at once."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        identity = token("bob", IDENTITY_SECRET)
        assert await code(g.auth.find(headers(x_turnwire_identity=identity), b"")) == "forbidden"
        assert await code(g.auth.of(bearer(token("ann"), x_turnwire_identity=identity))) == "forbidden"
        twice = [*bearer(service, x_turnwire_identity=identity), *headers(x_turnwire_identity=identity)]
        assert await code(g.auth.of(twice)) == "forbidden"
        for wrong in (token("bob", SECRET), "bob", "", token("service:backend", IDENTITY_SECRET)):
            assert await code(g.auth.of(bearer(service, x_turnwire_identity=wrong))) == "unauthenticated"
    async with gate(tmp_path) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        assert await code(g.auth.of(bearer(service, x_turnwire_identity=identity))) == "forbidden"


async def test_the_first_of_two_ends_counts(tmp_path: Path) -> None:
    """A user that a service names stays no longer than the service."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"as"}, lifetime_s=60)
        named = await g.auth.of(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert named.expires_ms == (await g.auth.of(bearer(service))).expires_ms


async def test_renewing_keeps_the_user(tmp_path: Path) -> None:
    """By a token, a key or a ticket of the same one; another's is forbidden, a wrong one is no credential."""
    async with gate(tmp_path) as g:
        with g.auth.admit(await g.auth.of(bearer(token("ann")))) as access:
            late = token("ann", exp=4_000_000_000)
            assert (await access.renew(late)).expires_ms == 4_000_000_000_000
            assert await code(access.renew(token("bob"))) == "forbidden"
            assert await code(access.renew("nonsense")) == "unauthenticated"
            assert (await access.renew(await g.key(user="ann"))).expires_ms is None


async def test_a_named_user_is_renewed_by_its_service(tmp_path: Path) -> None:
    """With another signed token, which gives no more than the first."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        ann = await g.auth.of(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        with g.auth.admit(ann) as access:
            renewed = await access.renew(token("ann", IDENTITY_SECRET, jti="i2", exp=4_000_000_000, scope="chat read"))
            assert (renewed.scopes, renewed.service) == (frozenset({"chat"}), ann.service)
            assert renewed.expires_ms == 4_000_000_000_000
            assert renewed.credentials == (ann.credentials[0], "jti:i2")
            assert await code(access.renew(token("bob", IDENTITY_SECRET))) == "forbidden"
            assert await code(access.renew(token("ann", SECRET))) == "unauthenticated"


async def test_revoking_ends_who_is_here_and_lets_nobody_in(tmp_path: Path) -> None:
    """By token, by key and by user."""
    async with gate(tmp_path) as g:
        key = await g.key(user="eve")
        given = {"jti": token("ann", jti="j"), "key": key, "user": token("bob")}
        ended: dict[str, str] = {}
        for name, credential in given.items():
            g.auth.admit(await g.auth.of(bearer(credential)), on_ended=lambda why, name=name: ended.update({name: why}))  # type: ignore[misc]
        stays = g.auth.admit(Principal(user="zoe", credentials=("jti:z",)))
        await g.auth.revocations.revoke("jti:j")
        await eventually(lambda: ended)
        assert list(ended) == ["jti"]
        await g.auth.revocations.revoke(f"key:{key.split('_')[1]}")
        await g.auth.revocations.revoke_user("bob", 4_000_000_000_000)
        await eventually(lambda: len(ended) == 3)
        assert not stays.revoked
        for credential in given.values():
            assert await code(g.auth.of(bearer(credential))) == "unauthenticated"


async def test_a_key_that_is_taken_out_of_the_file_ends_too(tmp_path: Path) -> None:
    """Without a revocation."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        access = g.auth.admit(await g.auth.of(bearer(key)))
        g.file.remove(key)
        await eventually(lambda: access.revoked)
        assert await code(g.auth.of(bearer(key))) == "unauthenticated"


async def test_a_file_that_becomes_wrong_locks_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was known stays, the log says what is wrong, and revocations are still heard."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        g.file.path.write_text("nonsense")
        await eventually(lambda: "Line 1" in caplog.text)
        access = g.auth.admit(await g.auth.of(bearer(key)))
        await g.auth.revocations.revoke_user("ann", 4_000_000_000_000)
        await eventually(lambda: access.revoked)


async def test_without_the_store_nobody_new_comes_in(tmp_path: Path) -> None:
    """A revocation may be there; who is here stays, and is swept when the store is back."""
    async with gate(tmp_path) as g:
        access = g.auth.admit(await g.auth.of(bearer(token("ann", jti="j"))))
        await g.auth.revocations.revoke("jti:j")
        with g.store.failing("notes"):
            assert await code(g.auth.of(bearer(token("bob")))) == "store_unavailable"
            assert await code(g.auth.of_first_frame(token("bob"))) == "store_unavailable"
        await eventually(lambda: access.revoked)
        assert (await g.auth.of(bearer(token("bob")))).user == "bob"


async def test_who_has_left_is_not_ended(tmp_path: Path) -> None:
    """Nothing is kept of who is gone."""
    async with gate(tmp_path) as g:
        with g.auth.admit(Principal(user="ann")):
            assert len(g.auth._present) == 1
        assert not g.auth._present
