"""Tests of a credential lease: checks of scope and time, renewal, expiry warning, and end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.identity.credential_lease import CredentialLease
from gateway.identity.principal import Principal, Scope
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from tests.in_process import eventually


class Recorder:
    """A factory of leases that records their callbacks."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.expiring: list[int] = []
        self.ended: list[str] = []
        self.released: list[CredentialLease] = []
        self.next: Callable[[Principal, str], Principal] = lambda principal, _: principal

    def _on_expiring(self, expires_ms: int) -> None:
        self.calls.append("expiring")
        self.expiring.append(expires_ms)

    def _on_ended(self, reason: str) -> None:
        self.calls.append("ended")
        self.ended.append(reason)

    async def _renew(self, principal: Principal, token: str) -> Principal:
        return self.next(principal, token)

    def lease(self, principal: Principal, warning_s: float = 60, grace_s: float = 25) -> CredentialLease:
        """Return a lease of `principal`."""
        return CredentialLease(
            principal,
            self._renew,
            warning_s=warning_s,
            grace_s=grace_s,
            on_expiring=self._on_expiring,
            on_ended=self._on_ended,
            on_released=self.released.append,
        )


def code_of(lease: CredentialLease, request: p.Request) -> str | None:
    """Return the code with which a request is refused, or None."""
    try:
        lease.check(request)
    except ApiError as refused:
        return refused.code
    return None


async def test_requests_are_checked_by_scope() -> None:
    """With only the scope `read`, starting and cancelling are forbidden."""
    with Recorder().lease(Principal(user="ann", scopes=frozenset({"read"}))) as lease:
        assert code_of(lease, p.TurnGet(turn="t")) is None
        assert code_of(lease, p.Ping()) is None
        assert code_of(lease, p.TurnStart(input="x")) == "forbidden"
        assert code_of(lease, p.TurnCancel(turn="t")) == "forbidden"


async def test_an_expiry_is_announced_once() -> None:
    """A renewal with the same expiry doesn't repeat the warning."""
    recorder = Recorder()
    expires_ms = now_ms() + 30_000
    with recorder.lease(Principal(user="ann", expires_ms=expires_ms)) as lease:
        await eventually(lambda: recorder.expiring)
        await lease.renew("the same")
        await asyncio.sleep(0.02)
        assert recorder.expiring == [expires_ms]
        recorder.next = lambda principal, token: Principal(user=principal.user, expires_ms=expires_ms + 1)
        await lease.renew("a little longer")
        await eventually(lambda: len(recorder.expiring) > 1)
        assert recorder.expiring == [expires_ms, expires_ms + 1]


async def test_an_expired_credential_starts_no_turn() -> None:
    """During the grace period, a cancel is still allowed."""
    with Recorder().lease(Principal(user="ann", expires_ms=now_ms() - 1)) as lease:
        assert code_of(lease, p.TurnStart(input="x")) == "unauthenticated"
        assert code_of(lease, p.TurnCancel(turn="t")) is None


async def test_a_lease_ends_after_the_warning_and_the_grace() -> None:
    """The warning with the expiry comes first. The lease ends after the grace period."""
    recorder = Recorder()
    expires_ms = now_ms() + 60
    with recorder.lease(Principal(user="ann", expires_ms=expires_ms), warning_s=0.03, grace_s=0.05):
        await eventually(lambda: recorder.ended)
        assert now_ms() >= expires_ms + 50
    assert recorder.calls == ["expiring", "ended"]
    assert recorder.expiring == [expires_ms]
    assert len(recorder.released) == 1


async def test_a_renewal_postpones_the_end() -> None:
    """The old credential's expiry no longer applies."""
    recorder = Recorder()
    far = now_ms() + 3_600_000
    recorder.next = lambda principal, token: Principal(user=principal.user, expires_ms=far)
    with recorder.lease(Principal(user="ann", expires_ms=now_ms() + 800), warning_s=0, grace_s=0) as lease:
        assert (await lease.renew("token")).expires_ms == far
        await asyncio.sleep(1)
        assert (recorder.expiring, recorder.ended) == ([], [])
        assert code_of(lease, p.TurnStart(input="x")) is None


async def test_a_refused_renewal_changes_nothing() -> None:
    """The lease keeps its credential."""
    recorder = Recorder()

    def refuse(principal: Principal, token: str) -> Principal:
        raise ApiError("forbidden")

    recorder.next = refuse
    ann = Principal(user="ann")
    with recorder.lease(ann) as lease:
        with pytest.raises(ApiError):
            await lease.renew("token")
        assert lease.principal is ann


async def test_a_revoked_credential_allows_nothing() -> None:
    """Every request is refused, and so is a renewal."""
    recorder = Recorder()
    with recorder.lease(Principal(user="ann")) as lease:
        lease.revoke()
        assert len(recorder.ended) == 1
        assert code_of(lease, p.Ping()) == "unauthenticated"
        with pytest.raises(ApiError, match="revoked"):
            await lease.renew("token")


async def test_a_very_distant_expiry_sets_no_timer() -> None:
    """A token can expire thousands of years from now."""
    recorder = Recorder()
    with recorder.lease(Principal(user="ann", expires_ms=2**53)):
        await asyncio.sleep(0.01)
    assert (recorder.expiring, recorder.ended) == ([], [])


async def test_a_changed_expiry_is_rescheduled() -> None:
    """An earlier or later expiry is applied, along with its warning."""
    recorder = Recorder()
    later, soon = now_ms() + 3_600_000, now_ms() + 1000
    with recorder.lease(Principal(user="ann", expires_ms=later), warning_s=60, grace_s=0) as lease:
        lease.update(Principal(user="ann", expires_ms=soon))
        await eventually(lambda: recorder.expiring == [soon])
        lease.update(Principal(user="ann", expires_ms=later))
        await asyncio.sleep(1.1)
        assert recorder.ended == []
        lease.update(Principal(user="ann", expires_ms=now_ms() - 1))
        await eventually(lambda: recorder.ended)


@pytest.mark.parametrize("lost", ["chat", "cancel", "admin", "read", "as"])
async def test_a_lost_scope_is_enforced(lost: Scope) -> None:
    """A request that needs the lost scope is refused. If attachments depend on the scope, the lease ends."""
    recorder = Recorder()
    scopes: frozenset[Scope] = frozenset({"chat", "read", "cancel", "admin", "as"})
    with recorder.lease(Principal(user="ann", scopes=scopes)) as lease:
        lease.update(Principal(user="ann", scopes=scopes - {lost}))
        assert lease.revoked == (lost in {"read", "as"}) == bool(recorder.ended)
        with pytest.raises(ApiError) as refused:
            lease.check_active(scopes)
        assert refused.value.code == "unauthenticated"
        if not lease.revoked:
            lease.check_active(scopes - {lost})
            assert code_of(lease, p.TurnStart(input="x")) == ("forbidden" if lost == "chat" else None)
