"""Whom a credential names: each way to bring one, each way to be refused, and how it ends while somebody is here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.identity import api_keys, authenticator
from gateway.identity.authenticator import Authenticator
from gateway.identity.credential_lease import CredentialLease
from gateway.identity.principal import DEFAULT_SCOPES, Credential, Principal, principal_of
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms, rfc3339
from tests.credentials import IDENTITY_SECRET, SECRET, KeyFile, token
from tests.in_process import ControlledStore, eventually, make_settings, open_store

Headers = list[tuple[bytes, bytes]]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sweeps come soon, and a key that is missing is gone soon."""
    monkeypatch.setattr(authenticator, "SWEEP_S", 0.01)
    monkeypatch.setattr(api_keys, "REMOVAL_DELAY_S", 0.05)
    yield


class Gate:
    """An authenticator that runs, with its store and its file of keys."""

    def __init__(self, store: ControlledStore, folder: Path, **fields: Any) -> None:
        self.store = store
        self.file = KeyFile(folder)
        given = {"auth": "jwt,keys", "jwt_secret": SECRET, "api_keys": str(self.file.path), **fields}
        self.auth = Authenticator(make_settings(**given), store.as_store)

    async def key(self, **fields: Any) -> str:
        """A new key that counts."""
        key = self.file.add(**fields)
        await eventually(lambda: self.knows(key))
        return key

    def knows(self, key: str) -> bool:
        """Whether the key counts here, whatever the file says at this moment."""
        return key.split("_")[1] in (self.auth._keys._keys if self.auth._keys else {})

    async def remove(self, key: str) -> None:
        """Take a key away, until it doesn't count any more."""
        self.file.remove(key)
        await eventually(lambda: not self.knows(key))

    async def sweeps(self) -> None:
        """So many that a change is old."""
        calls = self.store.calls.count("get_ephemeral")
        await eventually(lambda: self.store.calls.count("get_ephemeral") > calls + 20)

    def present(self, principal: Principal) -> tuple[CredentialLease, list[int], list[str]]:
        """Somebody who is here, and what is heard of the end."""
        expiring: list[int] = []
        ended: list[str] = []
        return self.auth.admit(principal, expiring.append, ended.append), expiring, ended


@asynccontextmanager
async def gate(folder: Path, **fields: Any) -> AsyncIterator[Gate]:
    """One that runs."""
    async with open_store() as store:
        running_gate = Gate(store, folder, **fields)
        async with asyncio.TaskGroup() as tasks:
            background_tasks = [tasks.create_task(task) for task in running_gate.auth.background_tasks()]
            try:
                yield running_gate
            finally:
                for task in background_tasks:
                    task.cancel()


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
        assert await closed.authenticate(headers()) == await closed.authenticate_socket(bearer("nonsense"), b"ticket=x")
        assert (await closed.authenticate(headers())).scopes == DEFAULT_SCOPES | {"admin"}
        assert await code(closed.authenticate(headers(x_turnwire_identity="x"))) == "forbidden"
        anybody = Authenticator(make_settings(insecure=True), store.as_store)
        assert (await anybody.authenticate(headers())).scopes == DEFAULT_SCOPES
        assert closed.background_tasks() == []


async def test_a_token_and_a_key_come_by_header(tmp_path: Path) -> None:
    """Side by side, where both modes are on."""
    async with gate(tmp_path) as g:
        assert (await g.auth.authenticate(bearer(token("ann")))).user == "ann"
        assert (await g.auth.authenticate(headers(authorization=f"bearer  {token('ann')}"))).user == "ann"
        assert (await g.auth.authenticate(bearer(await g.key(user="bob")))).user == "bob"


async def test_who_brings_nothing(tmp_path: Path) -> None:
    """A request is refused; a socket may still send its first frame."""
    async with gate(tmp_path) as g:
        assert await code(g.auth.authenticate(headers())) == "unauthenticated"
        assert await g.auth.authenticate_socket(headers(), b"") is None


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
        assert await code(g.auth.authenticate(given)) == "unauthenticated"
        assert await code(g.auth.authenticate_socket(given, b"")) == "unauthenticated"


async def test_a_mode_that_is_off_takes_nothing(tmp_path: Path) -> None:
    """Keys don't count with jwt alone, tokens don't with keys alone."""
    async with gate(tmp_path, auth="jwt", api_keys=None) as g:
        assert await code(g.auth.authenticate(bearer(g.file.add()))) == "unauthenticated"
    async with gate(tmp_path, auth="keys", jwt_secret=None) as g:
        assert await code(g.auth.authenticate(bearer(token()))) == "unauthenticated"


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
async def test_a_long_lived_token_has_no_place_in_an_address(name: str, tmp_path: Path) -> None:
    """Not even where it would count."""
    async with gate(tmp_path) as g:
        assert await code(g.auth.authenticate_socket(headers(), b"a=b&" * 100)) == "invalid_request"
        query = f"a=b&{name}={token()}".encode()
        assert await code(g.auth.authenticate_socket(headers(), query)) == "unauthenticated"
        assert await code(g.auth.authenticate(bearer(token()), query)) == "unauthenticated"


async def test_a_ticket_opens_a_socket_and_nothing_else(tmp_path: Path) -> None:
    """In the address or in the first frame; a request over HTTP is not refused by less than a header."""
    async with gate(tmp_path) as g:
        ann = await g.auth.authenticate(bearer(token("ann")))
        tickets = [(await g.auth.tickets.issue(ann))[0] for _ in range(3)]
        found = await g.auth.authenticate_socket(headers(), f"ticket={tickets[0]}".encode())
        assert found is not None
        assert found.user == "ann"
        assert (await g.auth.authenticate_token(tickets[1])).user == "ann"
        assert await code(g.auth.authenticate(headers(), f"ticket={tickets[2]}".encode())) == "unauthenticated"
        assert await code(g.auth.authenticate_socket(headers(), f"ticket={tickets[0]}".encode())) == "unauthenticated"
        assert await code(g.auth.authenticate_socket(headers(), f"ticket={token()}".encode())) == "unauthenticated"
        assert (await g.auth.authenticate_token(token("bob"))).user == "bob"


async def test_a_service_names_its_user(tmp_path: Path) -> None:
    """By a signed token beside its own credential; the user gets no more than the service may give."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "read", "as", "admin"})
        identity = token("ann", IDENTITY_SECRET, jti="i1", scope="chat cancel admin as")
        ann = await g.auth.authenticate(bearer(service, x_turnwire_identity=identity))
        assert (ann.user, ann.service, ann.scopes) == ("ann", "service:backend", frozenset({"chat"}))
        assert [one.name for one in ann.credentials] == ["jti:i1", f"key:{service.split('_')[1]}"]
        by_default = await g.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert by_default.scopes == {"chat", "read"}


async def test_nobody_else_names_a_user(tmp_path: Path) -> None:
    """Neither a client without a credential, nor a user, nor a key that the operator didn't share, nor two at once."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        identity = token("bob", IDENTITY_SECRET)
        assert await code(g.auth.authenticate_socket(headers(x_turnwire_identity=identity), b"")) == "forbidden"
        assert await code(g.auth.authenticate(bearer(token("ann"), x_turnwire_identity=identity))) == "forbidden"
        twice = [*bearer(service, x_turnwire_identity=identity), *headers(x_turnwire_identity=identity)]
        assert await code(g.auth.authenticate(twice)) == "forbidden"
        for wrong in (token("bob", SECRET), "bob", "", token("service:backend", IDENTITY_SECRET)):
            assert await code(g.auth.authenticate(bearer(service, x_turnwire_identity=wrong))) == "unauthenticated"
    async with gate(tmp_path) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        assert await code(g.auth.authenticate(bearer(service, x_turnwire_identity=identity))) == "forbidden"


async def test_the_first_of_two_ends_counts(tmp_path: Path) -> None:
    """A user that a service names stays no longer than the service."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"as"}, lifetime_s=60)
        named = await g.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert named.expires_ms == (await g.auth.authenticate(bearer(service))).expires_ms


async def test_renewing_keeps_the_user(tmp_path: Path) -> None:
    """By a token, a key or a ticket of the same one; another's is forbidden, a wrong one is no credential."""
    async with gate(tmp_path) as g:
        with g.auth.admit(await g.auth.authenticate(bearer(token("ann")))) as lease:
            late = token("ann", exp=4_000_000_000)
            assert (await lease.renew(late)).expires_ms == 4_000_000_000_000
            assert await code(lease.renew(token("bob"))) == "forbidden"
            assert await code(lease.renew("nonsense")) == "unauthenticated"
            assert (await lease.renew(await g.key(user="ann"))).expires_ms is None


async def test_a_named_user_is_renewed_by_its_service(tmp_path: Path) -> None:
    """With another signed token, which gives no more than the first."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"chat", "as"})
        ann = await g.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        with g.auth.admit(ann) as lease:
            renewed = await lease.renew(token("ann", IDENTITY_SECRET, jti="i2", exp=4_000_000_000, scope="chat read"))
            assert (renewed.scopes, renewed.service) == (frozenset({"chat"}), ann.service)
            assert renewed.expires_ms == 4_000_000_000_000
            assert [one.name for one in renewed.credentials] == ["jti:i2", ann.credentials[1].name]
            assert await code(lease.renew(token("bob", IDENTITY_SECRET))) == "forbidden"
            assert await code(lease.renew(token("ann", SECRET))) == "unauthenticated"


async def test_revoking_ends_who_is_here_and_lets_nobody_in(tmp_path: Path) -> None:
    """By token, by key and by user."""
    async with gate(tmp_path) as g:
        key = await g.key(user="eve")
        given = {"jti": token("ann", jti="j"), "key": key, "user": token("bob")}
        ended: dict[str, str] = {}
        for name, credential in given.items():
            principal = await g.auth.authenticate(bearer(credential))
            g.auth.admit(principal, on_ended=lambda why, name=name: ended.update({name: why}))  # type: ignore[misc]
        unaffected = g.auth.admit(principal_of(Credential(user="zoe", name="jti:z")))
        await g.auth.revocations.revoke("jti:j")
        await eventually(lambda: ended)
        assert list(ended) == ["jti"]
        await g.auth.revocations.revoke(f"key:{key.split('_')[1]}")
        await g.auth.revocations.revoke_user("bob", 4_000_000_000_000)
        await eventually(lambda: len(ended) == 3)
        assert not unaffected.revoked
        for credential in given.values():
            assert await code(g.auth.authenticate(bearer(credential))) == "unauthenticated"


async def test_a_key_that_is_taken_out_of_the_file_ends_too(tmp_path: Path) -> None:
    """Without a revocation."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        lease = g.auth.admit(await g.auth.authenticate(bearer(key)))
        g.file.remove(key)
        await eventually(lambda: lease.revoked)
        assert await code(g.auth.authenticate(bearer(key))) == "unauthenticated"


TICKETED: dict[str, Any] = {
    "gone": None,
    "another key's": {"sha256": "11" * 32},
    "another user's": {"user": "eve"},
    "over": {"expires_at": "2020-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("change", TICKETED.values(), ids=TICKETED)
async def test_a_ticket_ends_with_the_key_that_it_was_traded_for(change: dict[str, Any] | None, tmp_path: Path) -> None:
    """Not only where the key is revoked: where its line is gone, or is another key's, or has ended."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        ticket, _ = await g.auth.tickets.issue(await g.auth.authenticate(bearer(key)))
        if change is None:
            await g.remove(key)
        else:
            g.file.edit(key, **change)
        assert await code(g.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_a_ticket_allows_what_its_key_does_now(tmp_path: Path) -> None:
    """Less, where the line says less, and never what no page has; it ends when the key does."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann", scopes={"chat", "read"})
        ticket, _ = await g.auth.tickets.issue(await g.auth.authenticate(bearer(key)))
        g.file.edit(key, scopes=["read", "admin"], expires_at="2100-01-01T00:00:00Z")
        ann = await g.auth.authenticate_token(ticket)
        assert (ann.scopes, ann.expires_ms) == (frozenset({"read"}), 4_102_444_800_000)


async def test_a_ticket_for_a_key_that_this_instance_has_not_seen_yet(tmp_path: Path) -> None:
    """The one that issued it looked at the file a moment earlier; one without that key takes it for none."""
    async with gate(tmp_path) as g:
        settings = make_settings(auth="keys", api_keys=str(g.file.path))
        slow = Authenticator(settings, g.store.as_store)
        without = Authenticator(make_settings(auth="jwt", jwt_secret=SECRET), g.store.as_store)
        ann = await g.auth.authenticate(bearer(await g.key(user="ann")))
        tickets = [(await g.auth.tickets.issue(ann))[0] for _ in range(2)]
        assert (await slow.authenticate_token(tickets[0])).user == "ann"
        assert await code(without.authenticate_token(tickets[1])) == "unauthenticated"


async def test_a_ticket_ends_with_its_token(tmp_path: Path) -> None:
    """Which may be in the seconds between the two."""
    async with gate(tmp_path) as g:
        token_s = int(now_ms() / 1000)
        ticket, _ = await g.auth.tickets.issue(await g.auth.authenticate(bearer(token("ann", exp=token_s))))
        assert await code(g.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_who_is_let_in_while_something_changes_is_looked_at_again(tmp_path: Path) -> None:
    """However long letting them in takes, and although nothing changes any more: by a key, a token, a renewal."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        by_key, by_token = (
            await g.auth.authenticate(bearer(key)),
            await g.auth.authenticate(bearer(token("bob", jti="b"))),
        )
        renewing = g.auth.admit(await g.auth.authenticate(bearer(token("carl", jti="c1"))))
        renew = renewing._renew

        async def renew_slowly(principal: Principal, given: str) -> Principal:
            checked = await renew(principal, given)
            await g.auth.revocations.revoke("jti:c2")
            await g.sweeps()
            return checked

        renewing._renew = renew_slowly
        await g.remove(key)
        await g.auth.revocations.revoke("jti:b")
        await g.sweeps()
        entered = [g.auth.admit(by_key), g.auth.admit(by_token)]
        await renewing.renew(token("carl", jti="c2"))
        await eventually(lambda: all(lease.revoked for lease in [*entered, renewing]))


async def test_who_comes_in_between_two_looks_is_looked_at_by_both(tmp_path: Path) -> None:
    """A key was taken away, and its client is let in while the revocations are read, which comes after the keys."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        principal = await g.auth.authenticate(bearer(key))
        await g.remove(key)
        await g.sweeps()
        with g.store.blocked("get_ephemeral") as reading:
            await reading.wait()
            entered = g.auth.admit(principal)
        await eventually(lambda: entered.revoked)


CREDENTIALS = ["its user", "its key", "its token", "its line", "its scope as"]


@pytest.mark.parametrize("kind", CREDENTIALS)
@pytest.mark.parametrize("came", ["by the header", "by a ticket", "by a renewal"])
async def test_a_service_that_is_revoked_speaks_for_nobody(came: str, kind: str, tmp_path: Path) -> None:
    """Whom it named is out, and nobody is named any more; by whatever it is revoked, however the user came in."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        if kind == "its token":
            service = token("backend", jti="s", scope="chat read as")
        else:
            service = await g.key(user=None, service="backend", scopes={"chat", "read", "as"})
        identity = token("ann", IDENTITY_SECRET, jti="i")
        named = bearer(service, x_turnwire_identity=identity)
        ann = await g.auth.authenticate(named)
        ticket, _ = await g.auth.tickets.issue(ann)
        if came == "by a ticket":
            ann = await g.auth.authenticate_token((await g.auth.tickets.issue(ann))[0])
        lease, _, ended = g.present(ann)
        if came == "by a renewal":
            await lease.renew(token("ann", IDENTITY_SECRET, jti="i2"))
        if kind == "its line":
            await g.remove(service)
        elif kind == "its scope as":
            g.file.edit(service, scopes=["chat", "read"])
        elif kind == "its user":
            await g.auth.revocations.revoke_user("service:backend", 4_000_000_000_000)
        else:
            name = "jti:s" if kind == "its token" else f"key:{service.split('_')[1]}"
            await g.auth.revocations.revoke(name)
        await eventually(lambda: ended)
        assert lease.revoked
        assert await code(g.auth.authenticate(named)) == ("forbidden" if kind == "its scope as" else "unauthenticated")
        assert await code(g.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_a_renewal_keeps_the_service_s_end_and_name(tmp_path: Path) -> None:
    """The earlier end counts, and a revocation of either ends both."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        ends_s = int(now_ms() / 1000) + 600
        for held, gone in (("s1", "s1"), ("s2", "i2")):
            service = token("backend", jti=held, scope="chat as", exp=ends_s)
            identity = token("ann", IDENTITY_SECRET, jti="i1")
            lease, _, ended = g.present(await g.auth.authenticate(bearer(service, x_turnwire_identity=identity)))
            renewed = await lease.renew(token("ann", IDENTITY_SECRET, jti="i2", exp=4_000_000_000))
            assert renewed.expires_ms == ends_s * 1000
            assert [one.name for one in renewed.credentials] == ["jti:i2", f"jti:{held}"]
            await g.auth.revocations.revoke(f"jti:{gone}")
            await eventually(lambda ended=ended: ended)  # type: ignore[misc]


async def test_an_edited_line_reaches_who_is_here(tmp_path: Path) -> None:
    """Its end and its scopes, less and more; with another hash or user, or without what streams rest on, it ends."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        lease, expiring, ended = g.present(await g.auth.authenticate(bearer(key)))
        soon = now_ms() + 30_000
        g.file.edit(key, expires_at=rfc3339(soon))
        await eventually(lambda: expiring == [soon])
        g.file.edit(key, expires_at=None)
        await eventually(lambda: lease.principal.expires_ms is None)
        g.file.edit(key, scopes=["read"])
        await eventually(lambda: lease.principal.scopes == {"read"})
        with pytest.raises(ApiError) as refused:
            lease.check(p.TurnStart(input="x"))
        assert refused.value.code == "forbidden"
        g.file.edit(key, scopes=["chat", "read", "admin"])
        await eventually(lambda: lease.principal.scopes == {"chat", "read", "admin"})
        lease.check(p.TurnStart(input="x"))
        g.file.edit(key, scopes=["chat"])
        await eventually(lambda: ended)
        assert "lost a scope" in ended[0]
        for change in ({"sha256": "11" * 32}, {"user": "eve"}):
            key = await g.key(user="ann")
            lease, _, ended = g.present(await g.auth.authenticate(bearer(key)))
            g.file.edit(key, **change)
            await eventually(lambda ended=ended: ended)  # type: ignore[misc]
            assert lease.revoked


async def test_what_a_line_allows_reaches_whom_the_service_named(tmp_path: Path) -> None:
    """And never what is withheld from them."""
    async with gate(tmp_path, identity_secret=IDENTITY_SECRET) as g:
        service = await g.key(user=None, service="backend", scopes={"read", "as"})
        identity = token("ann", IDENTITY_SECRET, scope="read chat admin as")
        lease = g.auth.admit(await g.auth.authenticate(bearer(service, x_turnwire_identity=identity)))
        assert lease.principal.scopes == {"read"}
        g.file.edit(service, scopes=["admin", "as", "chat", "read"])
        await eventually(lambda: lease.principal.scopes == {"chat", "read"})


async def test_a_file_that_is_written_again_in_place_closes_nobody(tmp_path: Path) -> None:
    """Empty, half there, away: what is seen of it for a moment changes nothing."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        lease = g.auth.admit(await g.auth.authenticate(bearer(key)))
        text = g.file.path.read_text()
        for seen in ("", text[:-40], text.splitlines(keepends=True)[0]):
            g.file.path.write_text(seen)
            await asyncio.sleep(0.025)  # two looks and more, and half of the time that counts
            g.file.path.write_text(text)
            await g.sweeps()
        assert not lease.revoked
        assert g.knows(key)


async def test_a_key_ends_while_the_store_is_away(tmp_path: Path) -> None:
    """The file is here."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        lease = g.auth.admit(await g.auth.authenticate(bearer(key)))
        with g.store.failing("get_ephemeral"):
            g.file.remove(key)
            await eventually(lambda: lease.revoked)


async def test_scopes_of_another_issuer_are_told_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By a prefix, for tokens and identities and not for our own keys; who sets none is warned."""
    async with gate(tmp_path, scope_prefix="turnwire:", identity_secret=IDENTITY_SECRET) as g:
        assert "TURNWIRE_SCOPE_PREFIX" not in caplog.text
        for said, scopes in (
            ("admin turnwire:read", {"read"}),
            ("turnwire:admin chat", {"admin"}),
            ("admin chat", set()),
            ("turnwire: turnwire:turnwire:admin xturnwire:admin", set()),
            (None, DEFAULT_SCOPES),
        ):
            assert (await g.auth.authenticate(bearer(token("ann", scope=said)))).scopes == scopes
        service = await g.key(user=None, service="backend", scopes={"chat", "read", "as"})
        identity = token("ann", IDENTITY_SECRET, scope="chat turnwire:read")
        assert (await g.auth.authenticate(bearer(service, x_turnwire_identity=identity))).scopes == {"read"}
    async with gate(tmp_path) as g:
        assert (await g.auth.authenticate(bearer(token("ann", scope="openid admin")))).scopes == {"admin"}
        assert (await g.auth.authenticate(bearer(token("ann", scope="openid")))).scopes == set()
    assert "TURNWIRE_SCOPE_PREFIX" in caplog.text


async def test_a_file_that_becomes_wrong_locks_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was known stays, the log says what is wrong, and revocations are still heard."""
    async with gate(tmp_path) as g:
        key = await g.key(user="ann")
        g.file.path.write_text("nonsense")
        await eventually(lambda: "Line 1" in caplog.text)
        lease = g.auth.admit(await g.auth.authenticate(bearer(key)))
        await g.auth.revocations.revoke_user("ann", 4_000_000_000_000)
        await eventually(lambda: lease.revoked)


async def test_without_the_store_nobody_new_comes_in(tmp_path: Path) -> None:
    """A revocation may be there; who is here stays, and is swept when the store is back."""
    async with gate(tmp_path) as g:
        lease = g.auth.admit(await g.auth.authenticate(bearer(token("ann", jti="j"))))
        await g.auth.revocations.revoke("jti:j")
        with g.store.failing("get_ephemeral"):
            assert await code(g.auth.authenticate(bearer(token("bob")))) == "store_unavailable"
            assert await code(g.auth.authenticate_token(token("bob"))) == "store_unavailable"
        await eventually(lambda: lease.revoked)
        assert (await g.auth.authenticate(bearer(token("bob")))).user == "bob"


async def test_who_has_left_is_not_ended(tmp_path: Path) -> None:
    """Nothing is kept of who is gone."""
    async with gate(tmp_path) as g:
        with g.auth.admit(Principal(user="ann")):
            assert len(g.auth._leases) == 1
        assert not g.auth._leases
