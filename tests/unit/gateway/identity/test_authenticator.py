"""Tests of the authenticator: ways to send a credential, refusals, and credentials that end during use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.identity import api_keys, credential_sweeps
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
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorten the interval of sweeps and the delay before a missing key is invalid."""
    monkeypatch.setattr(credential_sweeps, "SWEEP_S", 0.01)
    monkeypatch.setattr(api_keys, "REMOVAL_DELAY_S", 0.05)
    yield


class AuthenticatorHarness:
    """A running authenticator with its store and its key file."""

    def __init__(self, store: ControlledStore, folder: Path, **fields: Any) -> None:
        self.store = store
        self.file = KeyFile(folder)
        given = {"auth": "jwt,keys", "jwt_secret": SECRET, "api_keys": str(self.file.path), **fields}
        self.auth = Authenticator(make_settings(**given), store.as_store)

    async def key(self, **fields: Any) -> str:
        """Return a new valid key."""
        key = self.file.add(**fields)
        await eventually(lambda: self.knows(key))
        return key

    def knows(self, key: str) -> bool:
        """Return whether the key is valid here, regardless of the current file."""
        return key.split("_")[1] in (self.auth._keys._keys if self.auth._keys else {})

    async def remove(self, key: str) -> None:
        """Remove a key, and wait until it is invalid."""
        self.file.remove(key)
        await eventually(lambda: not self.knows(key))

    async def sweeps(self) -> None:
        """Wait for several sweeps, so that an earlier change has been applied to all leases."""
        calls = self.store.calls.count("get_ephemeral")
        await eventually(lambda: self.store.calls.count("get_ephemeral") > calls + 20)

    def admitted(self, principal: Principal) -> tuple[CredentialLease, list[int], list[str]]:
        """Admit a principal, and return its lease with the lists of expiry warnings and end reasons."""
        expiring: list[int] = []
        ended: list[str] = []
        return self.auth.admit(principal, expiring.append, ended.append), expiring, ended


@asynccontextmanager
async def run_authenticator(folder: Path, **fields: Any) -> AsyncIterator[AuthenticatorHarness]:
    """Run an authenticator."""
    async with open_store() as store:
        harness = AuthenticatorHarness(store, folder, **fields)
        async with asyncio.TaskGroup() as tasks:
            background_tasks = [tasks.create_task(work()) for work in harness.auth.background_tasks()]
            try:
                yield harness
            finally:
                for task in background_tasks:
                    task.cancel()


def headers(**given: str) -> Headers:
    """Return headers as the server passes them; `_` is replaced by `-`."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]


def bearer(credential: str, **more: str) -> Headers:
    """Return headers with a credential."""
    return headers(authorization=f"Bearer {credential}", **more)


async def code(waiting: Any) -> str:
    """Return the code of the error that is raised."""
    with pytest.raises(ApiError) as refused:
        await waiting
    return refused.value.code


async def test_with_auth_off_everyone_is_local() -> None:
    """Credentials are ignored, but an identity is refused.

    On loopback the client has the default scopes and `admin`, with `TURNWIRE_INSECURE=1` only the default ones.
    """
    async with open_store() as store:
        on_loopback = Authenticator(make_settings(), store.as_store)
        local = await on_loopback.authenticate(headers())
        assert local == await on_loopback.authenticate_socket(bearer("nonsense"), b"ticket=x")
        assert local.scopes == DEFAULT_SCOPES | {"admin"}
        assert await code(on_loopback.authenticate(headers(x_turnwire_identity="x"))) == "forbidden"
        insecure = Authenticator(make_settings(insecure=True), store.as_store)
        assert (await insecure.authenticate(headers())).scopes == DEFAULT_SCOPES
        assert on_loopback.background_tasks() == []


async def test_a_token_and_a_key_are_accepted_in_a_header(tmp_path: Path) -> None:
    """Both kinds are accepted if both modes are on."""
    async with run_authenticator(tmp_path) as h:
        assert (await h.auth.authenticate(bearer(token("ann")))).user == "ann"
        assert (await h.auth.authenticate(headers(authorization=f"bearer  {token('ann')}"))).user == "ann"
        assert (await h.auth.authenticate(bearer(await h.key(user="bob")))).user == "bob"


async def test_a_client_without_a_credential(tmp_path: Path) -> None:
    """An HTTP request is refused. A socket may still authenticate with its first frame."""
    async with run_authenticator(tmp_path) as h:
        assert await code(h.auth.authenticate(headers())) == "unauthenticated"
        assert await h.auth.authenticate_socket(headers(), b"") is None


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
async def test_an_invalid_header_is_refused(given: Headers, tmp_path: Path) -> None:
    """An invalid credential is never treated like a missing one."""
    async with run_authenticator(tmp_path) as h:
        assert await code(h.auth.authenticate(given)) == "unauthenticated"
        assert await code(h.auth.authenticate_socket(given, b"")) == "unauthenticated"


async def test_a_mode_that_is_off_accepts_no_credential(tmp_path: Path) -> None:
    """Keys are refused with `jwt` alone, and tokens with `keys` alone."""
    async with run_authenticator(tmp_path, auth="jwt", api_keys=None) as h:
        assert await code(h.auth.authenticate(bearer(h.file.add()))) == "unauthenticated"
    async with run_authenticator(tmp_path, auth="keys", jwt_secret=None) as h:
        assert await code(h.auth.authenticate(bearer(token()))) == "unauthenticated"


@pytest.mark.parametrize("name", ["token", "access_token", "api_key"])
async def test_a_long_lived_token_in_a_url_is_refused(name: str, tmp_path: Path) -> None:
    """This includes a valid token, and a request that also has a valid header. Too many query fields are refused too."""
    async with run_authenticator(tmp_path) as h:
        assert await code(h.auth.authenticate_socket(headers(), b"a=b&" * 100)) == "invalid_request"
        query = f"a=b&{name}={token()}".encode()
        assert await code(h.auth.authenticate_socket(headers(), query)) == "unauthenticated"
        assert await code(h.auth.authenticate(bearer(token()), query)) == "unauthenticated"


async def test_a_ticket_is_valid_only_for_a_socket(tmp_path: Path) -> None:
    """A ticket is accepted in the URL or in the first frame. An HTTP request with a ticket is refused."""
    async with run_authenticator(tmp_path) as h:
        ann = await h.auth.authenticate(bearer(token("ann")))
        tickets = [(await h.auth.tickets.issue(ann))[0] for _ in range(3)]
        found = await h.auth.authenticate_socket(headers(), f"ticket={tickets[0]}".encode())
        assert found is not None
        assert found.user == "ann"
        assert (await h.auth.authenticate_token(tickets[1])).user == "ann"
        assert await code(h.auth.authenticate(headers(), f"ticket={tickets[2]}".encode())) == "unauthenticated"
        assert await code(h.auth.authenticate_socket(headers(), f"ticket={tickets[0]}".encode())) == "unauthenticated"
        assert await code(h.auth.authenticate_socket(headers(), f"ticket={token()}".encode())) == "unauthenticated"
        assert (await h.auth.authenticate_token(token("bob"))).user == "bob"


async def test_a_service_acts_for_a_user(tmp_path: Path) -> None:
    """It sends a signed token for the user along with its own credential.

    The user gets no scope that the service lacks, and never `admin` or `as`.
    """
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        service = await h.key(user=None, service="backend", scopes={"chat", "read", "as", "admin"})
        identity = token("ann", IDENTITY_SECRET, jti="i1", scope="chat cancel admin as")
        ann = await h.auth.authenticate(bearer(service, x_turnwire_identity=identity))
        assert (ann.user, ann.service, ann.scopes) == ("ann", "service:backend", frozenset({"chat"}))
        assert [one.name for one in ann.credentials] == ["jti:i1", f"key:{service.split('_')[1]}"]
        by_default = await h.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert by_default.scopes == {"chat", "read"}


async def test_only_a_service_can_act_for_a_user(tmp_path: Path) -> None:
    """An identity token is refused without a credential, from a user, with a wrong signature, or if sent twice.

    It is also refused if no identity key is set.
    """
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        service = await h.key(user=None, service="backend", scopes={"chat", "as"})
        identity = token("bob", IDENTITY_SECRET)
        assert await code(h.auth.authenticate_socket(headers(x_turnwire_identity=identity), b"")) == "forbidden"
        assert await code(h.auth.authenticate(bearer(token("ann"), x_turnwire_identity=identity))) == "forbidden"
        twice = [*bearer(service, x_turnwire_identity=identity), *headers(x_turnwire_identity=identity)]
        assert await code(h.auth.authenticate(twice)) == "forbidden"
        for wrong in (token("bob", SECRET), "bob", "", token("service:backend", IDENTITY_SECRET)):
            assert await code(h.auth.authenticate(bearer(service, x_turnwire_identity=wrong))) == "unauthenticated"
    async with run_authenticator(tmp_path) as h:
        service = await h.key(user=None, service="backend", scopes={"chat", "as"})
        assert await code(h.auth.authenticate(bearer(service, x_turnwire_identity=identity))) == "forbidden"


async def test_the_earlier_of_two_expiries_applies(tmp_path: Path) -> None:
    """A user for whom a service acts expires no later than the service."""
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        service = await h.key(user=None, service="backend", scopes={"as"}, lifetime_s=60)
        named = await h.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        assert named.expires_ms == (await h.auth.authenticate(bearer(service))).expires_ms


async def test_a_renewal_keeps_the_user(tmp_path: Path) -> None:
    """A token or key of the same user is accepted.

    Another user's is forbidden, and an invalid one is unauthenticated.
    """
    async with run_authenticator(tmp_path) as h:
        with h.auth.admit(await h.auth.authenticate(bearer(token("ann")))) as lease:
            late = token("ann", exp=4_000_000_000)
            assert (await lease.renew(late)).expires_ms == 4_000_000_000_000
            assert await code(lease.renew(token("bob"))) == "forbidden"
            assert await code(lease.renew("nonsense")) == "unauthenticated"
            assert (await lease.renew(await h.key(user="ann"))).expires_ms is None


async def test_a_service_renews_its_user(tmp_path: Path) -> None:
    """It sends another signed token, which grants no more than the service has."""
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        service = await h.key(user=None, service="backend", scopes={"chat", "as"})
        ann = await h.auth.authenticate(bearer(service, x_turnwire_identity=token("ann", IDENTITY_SECRET)))
        with h.auth.admit(ann) as lease:
            renewed = await lease.renew(token("ann", IDENTITY_SECRET, jti="i2", exp=4_000_000_000, scope="chat read"))
            assert (renewed.scopes, renewed.service) == (frozenset({"chat"}), ann.service)
            assert renewed.expires_ms == 4_000_000_000_000
            assert [one.name for one in renewed.credentials] == ["jti:i2", ann.credentials[1].name]
            assert await code(lease.renew(token("bob", IDENTITY_SECRET))) == "forbidden"
            assert await code(lease.renew(token("ann", SECRET))) == "unauthenticated"


async def test_a_revocation_ends_leases_and_refuses_new_ones(tmp_path: Path) -> None:
    """This holds for revocations by token, by key and by user."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="eve")
        given = {"jti": token("ann", jti="j"), "key": key, "user": token("bob")}
        ended: dict[str, str] = {}
        for name, credential in given.items():
            principal = await h.auth.authenticate(bearer(credential))
            h.auth.admit(principal, on_ended=lambda why, name=name: ended.update({name: why}))  # type: ignore[misc]
        unaffected = h.auth.admit(principal_of(Credential(user="zoe", name="jti:z")))
        await h.auth.revocations.revoke("jti:j")
        await eventually(lambda: ended)
        assert list(ended) == ["jti"]
        await h.auth.revocations.revoke(f"key:{key.split('_')[1]}")
        await h.auth.revocations.revoke_user("bob", 4_000_000_000_000)
        await eventually(lambda: len(ended) == 3)
        assert not unaffected.revoked
        for credential in given.values():
            assert await code(h.auth.authenticate(bearer(credential))) == "unauthenticated"


async def test_removing_a_key_from_the_file_ends_its_lease(tmp_path: Path) -> None:
    """No revocation is needed."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        lease = h.auth.admit(await h.auth.authenticate(bearer(key)))
        h.file.remove(key)
        await eventually(lambda: lease.revoked)
        assert await code(h.auth.authenticate(bearer(key))) == "unauthenticated"


TICKET_CHANGES: dict[str, Any] = {
    "removed": None,
    "another key's": {"sha256": "11" * 32},
    "another user's": {"user": "eve"},
    "expired": {"expires_at": "2020-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("change", TICKET_CHANGES.values(), ids=TICKET_CHANGES)
async def test_a_ticket_ends_with_its_key(change: dict[str, Any] | None, tmp_path: Path) -> None:
    """The ticket is invalid if the key's line was removed, if it is a different key now, or if the key has expired."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        ticket, _ = await h.auth.tickets.issue(await h.auth.authenticate(bearer(key)))
        if change is None:
            await h.remove(key)
        else:
            h.file.edit(key, **change)
        assert await code(h.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_a_ticket_has_the_current_scopes_of_its_key(tmp_path: Path) -> None:
    """Scopes removed from the key are removed from the ticket, and a ticket never has `admin`.

    The access expires with the key.
    """
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann", scopes={"chat", "read"})
        ticket, _ = await h.auth.tickets.issue(await h.auth.authenticate(bearer(key)))
        h.file.edit(key, scopes=["read", "admin"], expires_at="2100-01-01T00:00:00Z")
        ann = await h.auth.authenticate_token(ticket)
        assert (ann.scopes, ann.expires_ms) == (frozenset({"read"}), 4_102_444_800_000)


async def test_a_ticket_for_a_key_that_this_instance_has_not_seen_yet(tmp_path: Path) -> None:
    """The issuing instance may have loaded the key file a moment earlier, so the other one reads it again.

    An instance that has no key file refuses the ticket.
    """
    async with run_authenticator(tmp_path) as h:
        settings = make_settings(auth="keys", api_keys=str(h.file.path))
        slow = Authenticator(settings, h.store.as_store)
        without = Authenticator(make_settings(auth="jwt", jwt_secret=SECRET), h.store.as_store)
        ann = await h.auth.authenticate(bearer(await h.key(user="ann")))
        tickets = [(await h.auth.tickets.issue(ann))[0] for _ in range(2)]
        assert (await slow.authenticate_token(tickets[0])).user == "ann"
        assert await code(without.authenticate_token(tickets[1])) == "unauthenticated"


async def test_a_ticket_expires_with_its_token(tmp_path: Path) -> None:
    """The token has just expired, and is accepted only because of the leeway. A ticket has no leeway."""
    async with run_authenticator(tmp_path) as h:
        token_s = int(now_ms() / 1000)
        ticket, _ = await h.auth.tickets.issue(await h.auth.authenticate(bearer(token("ann", exp=token_s))))
        assert await code(h.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_a_client_admitted_during_a_change_is_checked_again(tmp_path: Path) -> None:
    """This holds for a key, a token and a renewal, however long the admission takes. No further change is needed."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        by_key, by_token = (
            await h.auth.authenticate(bearer(key)),
            await h.auth.authenticate(bearer(token("bob", jti="b"))),
        )
        renewing = h.auth.admit(await h.auth.authenticate(bearer(token("carl", jti="c1"))))
        renew = renewing._renew

        async def renew_slowly(principal: Principal, given: str) -> Principal:
            checked = await renew(principal, given)
            await h.auth.revocations.revoke("jti:c2")
            await h.sweeps()
            return checked

        renewing._renew = renew_slowly
        await h.remove(key)
        await h.auth.revocations.revoke("jti:b")
        await h.sweeps()
        entered = [h.auth.admit(by_key), h.auth.admit(by_token)]
        await renewing.renew(token("carl", jti="c2"))
        await eventually(lambda: all(lease.revoked for lease in [*entered, renewing]))


async def test_a_client_admitted_during_a_sweep_is_checked(tmp_path: Path) -> None:
    """A client with a removed key is admitted when a sweep has already checked the keys and reads the revocations."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        principal = await h.auth.authenticate(bearer(key))
        await h.remove(key)
        await h.sweeps()
        with h.store.blocked("get_ephemeral") as reading:
            await reading.wait()
            entered = h.auth.admit(principal)
        await eventually(lambda: entered.revoked)


REVOKED = ["its user", "its key", "its token", "its line", "its scope as"]


@pytest.mark.parametrize("kind", REVOKED)
@pytest.mark.parametrize("admission", ["by the header", "by a ticket", "by a renewal"])
async def test_a_revoked_service_can_no_longer_act_for_users(admission: str, kind: str, tmp_path: Path) -> None:
    """Leases of its users end, and new ones are refused. This holds for each kind of revocation and of admission."""
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        if kind == "its token":
            service = token("backend", jti="s", scope="chat read as")
        else:
            service = await h.key(user=None, service="backend", scopes={"chat", "read", "as"})
        identity = token("ann", IDENTITY_SECRET, jti="i")
        named = bearer(service, x_turnwire_identity=identity)
        ann = await h.auth.authenticate(named)
        ticket, _ = await h.auth.tickets.issue(ann)
        if admission == "by a ticket":
            ann = await h.auth.authenticate_token((await h.auth.tickets.issue(ann))[0])
        lease, _, ended = h.admitted(ann)
        if admission == "by a renewal":
            await lease.renew(token("ann", IDENTITY_SECRET, jti="i2"))
        if kind == "its line":
            await h.remove(service)
        elif kind == "its scope as":
            h.file.edit(service, scopes=["chat", "read"])
        elif kind == "its user":
            await h.auth.revocations.revoke_user("service:backend", 4_000_000_000_000)
        else:
            name = "jti:s" if kind == "its token" else f"key:{service.split('_')[1]}"
            await h.auth.revocations.revoke(name)
        await eventually(lambda: ended)
        assert lease.revoked
        assert await code(h.auth.authenticate(named)) == ("forbidden" if kind == "its scope as" else "unauthenticated")
        assert await code(h.auth.authenticate_token(ticket)) == "unauthenticated"


async def test_a_renewal_keeps_the_services_expiry_and_name(tmp_path: Path) -> None:
    """The earlier expiry applies, and revoking either credential ends the lease."""
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        ends_s = int(now_ms() / 1000) + 600
        for held, gone in (("s1", "s1"), ("s2", "i2")):
            service = token("backend", jti=held, scope="chat as", exp=ends_s)
            identity = token("ann", IDENTITY_SECRET, jti="i1")
            lease, _, ended = h.admitted(await h.auth.authenticate(bearer(service, x_turnwire_identity=identity)))
            renewed = await lease.renew(token("ann", IDENTITY_SECRET, jti="i2", exp=4_000_000_000))
            assert renewed.expires_ms == ends_s * 1000
            assert [one.name for one in renewed.credentials] == ["jti:i2", f"jti:{held}"]
            await h.auth.revocations.revoke(f"jti:{gone}")
            await eventually(lambda ended=ended: ended)  # type: ignore[misc]


async def test_an_edited_line_changes_existing_leases(tmp_path: Path) -> None:
    """A new expiry and added or removed scopes are applied.

    The lease ends with another hash or user, or without the scope `read`.
    """
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        lease, expiring, ended = h.admitted(await h.auth.authenticate(bearer(key)))
        soon = now_ms() + 30_000
        h.file.edit(key, expires_at=rfc3339(soon))
        await eventually(lambda: expiring == [soon])
        h.file.edit(key, expires_at=None)
        await eventually(lambda: lease.principal.expires_ms is None)
        h.file.edit(key, scopes=["read"])
        await eventually(lambda: lease.principal.scopes == {"read"})
        with pytest.raises(ApiError) as refused:
            lease.check(p.TurnStart(input="x"))
        assert refused.value.code == "forbidden"
        h.file.edit(key, scopes=["chat", "read", "admin"])
        await eventually(lambda: lease.principal.scopes == {"chat", "read", "admin"})
        lease.check(p.TurnStart(input="x"))
        h.file.edit(key, scopes=["chat"])
        await eventually(lambda: ended)
        assert "lost a scope" in ended[0]
        for change in ({"sha256": "11" * 32}, {"user": "eve"}):
            key = await h.key(user="ann")
            lease, _, ended = h.admitted(await h.auth.authenticate(bearer(key)))
            h.file.edit(key, **change)
            await eventually(lambda ended=ended: ended)  # type: ignore[misc]
            assert lease.revoked


async def test_a_services_edited_scopes_change_its_users_leases(tmp_path: Path) -> None:
    """Scopes that are withheld from users are never added."""
    async with run_authenticator(tmp_path, identity_secret=IDENTITY_SECRET) as h:
        service = await h.key(user=None, service="backend", scopes={"read", "as"})
        identity = token("ann", IDENTITY_SECRET, scope="read chat admin as")
        lease = h.auth.admit(await h.auth.authenticate(bearer(service, x_turnwire_identity=identity)))
        assert lease.principal.scopes == {"read"}
        h.file.edit(service, scopes=["admin", "as", "chat", "read"])
        await eventually(lambda: lease.principal.scopes == {"chat", "read"})


async def test_rewriting_the_key_file_in_place_ends_no_lease(tmp_path: Path) -> None:
    """An empty or incomplete file that is seen for a moment changes nothing."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        lease = h.auth.admit(await h.auth.authenticate(bearer(key)))
        text = h.file.path.read_text()
        for seen in ("", text[:-40], text.splitlines(keepends=True)[0]):
            h.file.path.write_text(seen)
            await asyncio.sleep(0.025)  # more than two sweeps, and half of the removal delay
            h.file.path.write_text(text)
            await h.sweeps()
        assert not lease.revoked
        assert h.knows(key)


async def test_a_removed_key_ends_its_lease_without_the_store(tmp_path: Path) -> None:
    """The key file is local."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        lease = h.auth.admit(await h.auth.authenticate(bearer(key)))
        with h.store.failing("get_ephemeral"):
            h.file.remove(key)
            await eventually(lambda: lease.revoked)


async def test_a_scope_prefix_distinguishes_our_scopes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The prefix applies to tokens and identities, not to our own keys. A warning is logged if no prefix is set."""
    async with run_authenticator(tmp_path, scope_prefix="turnwire:", identity_secret=IDENTITY_SECRET) as h:
        assert "TURNWIRE_SCOPE_PREFIX" not in caplog.text
        for claim, scopes in (
            ("admin turnwire:read", {"read"}),
            ("turnwire:admin chat", {"admin"}),
            ("admin chat", set()),
            ("turnwire: turnwire:turnwire:admin xturnwire:admin", set()),
            (None, DEFAULT_SCOPES),
        ):
            assert (await h.auth.authenticate(bearer(token("ann", scope=claim)))).scopes == scopes
        service = await h.key(user=None, service="backend", scopes={"chat", "read", "as"})
        identity = token("ann", IDENTITY_SECRET, scope="chat turnwire:read")
        assert (await h.auth.authenticate(bearer(service, x_turnwire_identity=identity))).scopes == {"read"}
    async with run_authenticator(tmp_path) as h:
        assert (await h.auth.authenticate(bearer(token("ann", scope="openid admin")))).scopes == {"admin"}
        assert (await h.auth.authenticate(bearer(token("ann", scope="openid")))).scopes == set()
    assert "TURNWIRE_SCOPE_PREFIX" in caplog.text


async def test_an_invalid_key_file_locks_out_no_client(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Known keys stay valid, the error is logged, and revocations still take effect."""
    async with run_authenticator(tmp_path) as h:
        key = await h.key(user="ann")
        h.file.path.write_text("nonsense")
        await eventually(lambda: "Line 1" in caplog.text)
        lease = h.auth.admit(await h.auth.authenticate(bearer(key)))
        await h.auth.revocations.revoke_user("ann", 4_000_000_000_000)
        await eventually(lambda: lease.revoked)


async def test_without_the_store_no_new_client_is_admitted(tmp_path: Path) -> None:
    """Its credential may have been revoked. Existing leases stay, and are checked when the store is back."""
    async with run_authenticator(tmp_path) as h:
        lease = h.auth.admit(await h.auth.authenticate(bearer(token("ann", jti="j"))))
        with h.store.failing("get_ephemeral"):
            await h.auth.revocations.revoke("jti:j")
            assert await code(h.auth.authenticate(bearer(token("bob")))) == "store_unavailable"
            assert await code(h.auth.authenticate_token(token("bob"))) == "store_unavailable"
            assert not lease.revoked
        await eventually(lambda: lease.revoked)
        assert (await h.auth.authenticate(bearer(token("bob")))).user == "bob"


async def test_a_released_lease_is_forgotten(tmp_path: Path) -> None:
    """No reference to the lease is kept."""
    async with run_authenticator(tmp_path) as h:
        with h.auth.admit(Principal(user="ann")):
            assert len(h.auth._leases) == 1
        assert not h.auth._leases
