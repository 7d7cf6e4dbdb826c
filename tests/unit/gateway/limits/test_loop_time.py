"""Tests of the accounts of the event loop's time: who pays for an HTTP request, and who has to wait."""

from __future__ import annotations

import pytest

from gateway.identity.principal import Credential, Principal, principal_of
from gateway.limits.loop_time import CREDENTIALS_MAX, REQUEST_COST_S, LoopTime, RequestTime

HOST = "10.0.0.1"
SERVICE = Credential(user="service:backend", scopes=frozenset({"as", "read"}))


class Accounts:
    """The accounts of a gateway, with a clock that the test controls."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop_time = LoopTime(lambda: self.now, is_enforced=True)

    def request(self, token: str | None, host: str = HOST, identity: str | None = None) -> RequestTime:
        """Return the account of a new request."""
        headers = {b"authorization": token, b"x-turnwire-identity": identity}
        return self.loop_time.request([(k, v.encode()) for k, v in headers.items() if v is not None], host)

    def serve(
        self, token: str | None, took_s: float, principal: Principal | None = None, identity: str | None = None
    ) -> None:
        """Serve a request that takes `took_s` of the loop's time. `principal` is None if its credential is invalid."""
        request = self.request(token, identity=identity)
        request.begin()
        if principal is not None:
            request.identify(principal)
        request.add(took_s)
        request.end()


def test_a_user_pays_with_its_credential() -> None:
    """After a second of loop time, a user's next request waits for nine seconds, from any address.

    It waits before its credential is verified. Other users of the address don't wait.
    """
    accounts = Accounts()
    accounts.serve("eve's", 1, Principal(user="eve"))
    assert accounts.request("eve's", "10.0.0.2").begin() == pytest.approx(9, abs=0.1)
    assert accounts.request("ann's").begin() == 0
    assert accounts.request(None).begin() == 0
    accounts.now += 10
    assert accounts.request("eve's").begin() == 0


def test_another_credential_of_the_user_waits_after_it_is_verified() -> None:
    """A user can't avoid the wait with a second credential."""
    accounts = Accounts()
    accounts.serve("eve's", 1, Principal(user="eve"))
    other = accounts.request("eve's second")
    assert other.begin() == 0
    assert other.identify(Principal(user="eve")) == pytest.approx(9, abs=0.1)
    assert accounts.request("eve's second").begin() > 8


@pytest.mark.parametrize(
    ("host", "same", "other"), [(HOST, HOST, "10.0.0.2"), ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")]
)
def test_a_network_pays_for_requests_without_a_valid_credential(host: str, same: str, other: str) -> None:
    """A network is an IPv4 address or an IPv6 /64. A user whose credential is known doesn't wait for its network."""
    accounts = Accounts()
    accounts.serve("ann's", 0.001, Principal(user="ann"))
    for token in (None, "invalid"):
        request = accounts.request(token, host)
        request.begin()
        request.add(0.5)
        request.end()
    assert accounts.request("invalid too", same).begin() > 5
    assert accounts.request(None, same).begin() > 5
    assert accounts.request(None, other).begin() == 0
    assert accounts.request("ann's", same).begin() == 0


def test_a_service_does_not_pay_but_the_users_that_it_names_do() -> None:
    """A service sends all of its users' requests from one address, and each request may name another user."""
    accounts = Accounts()
    accounts.serve("key", 5, principal_of(SERVICE))
    assert accounts.request("key").begin() == 0
    accounts = Accounts()
    named = principal_of(Credential(user="eve"), SERVICE)
    accounts.serve("key", 1, named, identity="1")
    accounts.serve(None, 1)
    assert accounts.request("key", identity="1").begin() > 8
    second = accounts.request("key", identity="2")
    assert second.begin() == 0
    assert second.identify(named) > 8
    assert accounts.request("key", identity="3").begin() == 0


def test_requests_that_wait_at_the_same_time_continue_one_after_the_other() -> None:
    """Each request waits longer than the one before, so that they don't all use the loop at the same moment."""
    accounts = Accounts()
    accounts.serve(None, 0.2)
    delays = [accounts.request(None).begin() for _ in range(500)]
    assert delays == sorted(delays)
    assert delays[-1] - delays[0] == pytest.approx(499 * REQUEST_COST_S * 10, rel=0.05)


def test_an_erased_user_is_forgotten() -> None:
    """The instance has neither the user's name nor its credentials in memory any more."""
    accounts = Accounts()
    accounts.serve("eve's", 1, Principal(user="eve"))
    accounts.serve("ann's", 1, Principal(user="ann"))
    accounts.loop_time.forget("eve")
    assert accounts.request("eve's").payer != "eve"
    assert accounts.loop_time.delay_s("eve") == 0
    assert accounts.request("ann's").begin() > 8


def test_with_auth_off_nobody_waits() -> None:
    """All clients are one user then."""
    accounts = Accounts()
    accounts.loop_time = LoopTime(lambda: 0.0, is_enforced=False)
    accounts.serve(None, 5)
    assert accounts.request(None).begin() == 0


def test_the_known_credentials_are_bounded() -> None:
    """The one that was verified longest ago is forgotten."""
    accounts = Accounts()
    accounts.request("ann's").identify(Principal(user="ann"))
    for n in range(CREDENTIALS_MAX + 10):
        accounts.request(str(n)).identify(Principal(user="eve"))
        if n == 10:
            accounts.request("ann's").identify(Principal(user="ann"))
    assert accounts.request("ann's").payer == "ann"
    assert accounts.request("10").payer != "eve"
    assert accounts.request("11").payer == "eve"
