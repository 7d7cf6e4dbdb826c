"""One client's right to be here: checks by scope and time, renewal, warning, end."""

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
    """What an access told, and a way to make one."""

    def __init__(self) -> None:
        self.expiring: list[int] = []
        self.ended: list[str] = []
        self.released: list[CredentialLease] = []
        self.next: Callable[[Principal, str], Principal] = lambda principal, _: principal

    async def _renew(self, principal: Principal, token: str) -> Principal:
        return self.next(principal, token)

    def access(self, principal: Principal, warning_s: float = 60, grace_s: float = 25) -> CredentialLease:
        """An access of `principal`."""
        return CredentialLease(
            principal,
            self._renew,
            warning_s=warning_s,
            grace_s=grace_s,
            on_expiring=self.expiring.append,
            on_ended=self.ended.append,
            on_released=self.released.append,
        )


def code_of(access: CredentialLease, request: p.Request) -> str | None:
    """With which code a request is refused, if it is."""
    try:
        access.check(request)
    except ApiError as refused:
        return refused.code
    return None


async def test_requests_are_checked_by_scope() -> None:
    """Who may only read starts nothing and stops nothing."""
    with Recorder().access(Principal(user="ann", scopes=frozenset({"read"}))) as access:
        assert code_of(access, p.TurnGet(turn="t")) is None
        assert code_of(access, p.Ping()) is None
        assert code_of(access, p.TurnStart(input="x")) == "forbidden"
        assert code_of(access, p.TurnCancel(turn="t")) == "forbidden"


async def test_an_end_is_warned_of_once() -> None:
    """A renewal with a credential that ends at the same time isn't answered by the same warning, again and again."""
    recorder = Recorder()
    expires_ms = now_ms() + 30_000
    with recorder.access(Principal(user="ann", expires_ms=expires_ms)) as access:
        await eventually(lambda: recorder.expiring)
        await access.renew("the same")
        await asyncio.sleep(0.02)
        assert recorder.expiring == [expires_ms]
        recorder.next = lambda principal, token: Principal(user=principal.user, expires_ms=expires_ms + 1)
        await access.renew("a little longer")
        await eventually(lambda: len(recorder.expiring) > 1)
        assert recorder.expiring == [expires_ms, expires_ms + 1]


async def test_an_expired_credential_starts_nothing_new() -> None:
    """During the grace everything but a start is served."""
    with Recorder().access(Principal(user="ann", expires_ms=now_ms() - 1)) as access:
        assert code_of(access, p.TurnStart(input="x")) == "unauthenticated"
        assert code_of(access, p.TurnCancel(turn="t")) is None


async def test_the_end_is_announced_and_comes_after_the_grace() -> None:
    """First the warning with the time of the end, then the end."""
    recorder = Recorder()
    expires_ms = now_ms() + 60
    with recorder.access(Principal(user="ann", expires_ms=expires_ms), warning_s=0.03, grace_s=0.05):
        await eventually(lambda: recorder.expiring)
        assert (recorder.expiring, recorder.ended) == ([expires_ms], [])
        await eventually(lambda: recorder.ended)
        assert now_ms() >= expires_ms + 50
    assert len(recorder.released) == 1


async def test_renewing_puts_the_end_off() -> None:
    """The old credential's end says nothing any more."""
    recorder = Recorder()
    far = now_ms() + 3_600_000
    recorder.next = lambda principal, token: Principal(user=principal.user, expires_ms=far)
    with recorder.access(Principal(user="ann", expires_ms=now_ms() + 80), warning_s=0, grace_s=0) as access:
        assert (await access.renew("token")).expires_ms == far
        await asyncio.sleep(0.15)
        assert (recorder.expiring, recorder.ended) == ([], [])
        assert code_of(access, p.TurnStart(input="x")) is None


async def test_a_refused_renewal_changes_nothing() -> None:
    """The credential that was there counts until its own end."""
    recorder = Recorder()

    def refuse(principal: Principal, token: str) -> Principal:
        raise ApiError("forbidden")

    recorder.next = refuse
    scopes = Principal(user="ann")
    with recorder.access(scopes) as access:
        with pytest.raises(ApiError):
            await access.renew("token")
        assert access.principal is scopes


async def test_a_revoked_credential_does_nothing() -> None:
    """Whatever it asks is refused, and renewing doesn't help."""
    recorder = Recorder()
    with recorder.access(Principal(user="ann")) as access:
        access.revoke()
        assert len(recorder.ended) == 1
        assert code_of(access, p.Ping()) == "unauthenticated"
        with pytest.raises(ApiError, match="revoked"):
            await access.renew("token")


async def test_an_end_beyond_any_clock_is_never() -> None:
    """A token that ends in some thousand years sets no timer."""
    recorder = Recorder()
    with recorder.access(Principal(user="ann", expires_ms=2**53)):
        await asyncio.sleep(0.01)
    assert (recorder.expiring, recorder.ended) == ([], [])


async def test_a_change_of_the_end_is_planned_anew() -> None:
    """Earlier or later, with its warning."""
    recorder = Recorder()
    later, soon = now_ms() + 3_600_000, now_ms() + 100
    with recorder.access(Principal(user="ann", expires_ms=later), warning_s=60, grace_s=0) as access:
        access.update(Principal(user="ann", expires_ms=soon))
        await eventually(lambda: recorder.expiring == [soon])
        access.update(Principal(user="ann", expires_ms=later))
        await asyncio.sleep(0.2)
        assert recorder.ended == []
        access.update(Principal(user="ann", expires_ms=now_ms() - 1))
        await eventually(lambda: recorder.ended)


@pytest.mark.parametrize("lost", ["chat", "cancel", "admin", "read", "as"])
async def test_a_scope_that_is_lost(lost: Scope) -> None:
    """What is asked for with each request is refused from then on; what streams rest on ends the access."""
    recorder = Recorder()
    scopes: frozenset[Scope] = frozenset({"chat", "read", "cancel", "admin", "as"})
    with recorder.access(Principal(user="ann", scopes=scopes)) as access:
        access.update(Principal(user="ann", scopes=scopes - {lost}))
        assert access.revoked == (lost in {"read", "as"}) == bool(recorder.ended)
        with pytest.raises(ApiError) as refused:
            access.check_active(scopes)
        assert refused.value.code == "unauthenticated"
        if not access.revoked:
            access.check_active(scopes - {lost})
            assert code_of(access, p.TurnStart(input="x")) == ("forbidden" if lost == "chat" else None)
