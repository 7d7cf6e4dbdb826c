"""One user's requests may take a tenth of the event loop's time. A well-behaved client needs a hundredth.

The time of a request is charged to its payer, and a payer over its share waits. An HTTP request, or the opening of a
socket, waits before its credential is verified. Until then its payer is the user for whom the same credential was
verified before; if the credential is new, or there is none, the payer is the client's network.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.identity.authenticator import IDENTITY_HEADER
from gateway.identity.origin import Headers, credential_values, header_values
from gateway.identity.principal import Principal
from gateway.limits.connections import network_of
from gateway.limits.rate_limiter import RateLimiter

LOOP_TIME_MS_PER_S = 100
"""This limit applies even if no other user wants the time."""
LOOP_TIME_BURST_MS = 100
REQUEST_COST_S = 0.0002
"""The approximate loop time of the HTTP server for a request, without the application's.

It is charged when the request arrives, so that requests that wait at the same time are served one after the other.
"""
SEND_COST_S_PER_BYTE = 30e-9
"""The approximate loop time to send a byte of a large result or of a replay. It is charged when the request is served."""
CREDENTIALS_MAX = 10_000
NETWORK_PREFIX = "\0"
"""The prefix of a network's account. No user's name has a control character, so no user has the same account."""


class LoopTime:
    """The loop time that users and networks have taken, and the users of the credentials that were verified last.

    `clock` returns seconds. If `is_enforced` is false, nothing is counted and no request waits.
    """

    def __init__(self, clock: Callable[[], float], *, is_enforced: bool) -> None:
        self._taken = RateLimiter(LOOP_TIME_MS_PER_S, LOOP_TIME_BURST_MS, clock, settled=False) if is_enforced else None
        self.is_enforced = is_enforced
        self._payers: dict[int, str | None] = {}

    def charge(self, payer: str, took_s: float) -> None:
        """Count the time, in seconds, that the event loop worked for one of the payer's requests."""
        if self._taken is not None:
            self._taken.charge(payer, took_s * 1000)

    def charge_sending(self, payer: str, size: int) -> None:
        """Count the time to send `size` bytes of a large result or of a turn's earlier events."""
        self.charge(payer, size * SEND_COST_S_PER_BYTE)

    def delay_s(self, payer: str) -> float:
        """Return for how many seconds the payer's next request must wait.

        It is above 0 for a payer that has taken more than its share.
        """
        return 0.0 if self._taken is None else self._taken.wait_ms(payer) / 1000

    def request(self, headers: Headers, host: str) -> RequestTime:
        """Return the loop time of a new request with these headers, from the address `host`."""
        network = NETWORK_PREFIX + network_of(host)
        authorizations = tuple(credential_values(headers))
        if not authorizations:
            return RequestTime(self, network, None, None)
        credential = hash(authorizations)
        identified = hash((authorizations, *header_values(headers, IDENTITY_HEADER.lower().encode())))
        payer = self._payers.get(identified, self._payers.get(credential, network))
        return RequestTime(self, payer, credential, identified)

    def remember(self, credential: int | None, payer: str | None) -> None:
        """Remember the payer of requests with the hash `credential`.

        If there are too many, forget the one that was verified longest ago.
        """
        if credential is None:
            return
        self._payers.pop(credential, None)  # so that it becomes the newest again
        self._payers[credential] = payer
        if len(self._payers) > CREDENTIALS_MAX:
            del self._payers[next(iter(self._payers))]

    def forget(self, user: str) -> None:
        """Forget the time that the user has taken, and which credentials are the user's."""
        if self._taken is not None:
            self._taken.forget(user)
        self._payers = {credential: payer for credential, payer in self._payers.items() if payer != user}


class RequestTime:
    """The loop time of one request, and its payer. `payer` is None for a service, which acts for many users.

    `credential` and `identified` are hashes of the credential in its headers, without and with the identity that a
    service names.
    """

    def __init__(self, loop_time: LoopTime, payer: str | None, credential: int | None, identified: int | None) -> None:
        self.payer = payer
        self._loop_time = loop_time
        self._credential = credential
        self._identified = identified
        self._took_s = 0.0

    def begin(self) -> float:
        """Charge the server's time, and return for how many seconds the request must wait."""
        if self.payer is None:
            return 0.0
        delay_s = self._loop_time.delay_s(self.payer)
        self._loop_time.charge(self.payer, REQUEST_COST_S)
        return delay_s

    def identify(self, principal: Principal) -> float:
        """Make the user of the verified credential the payer. Return for how many seconds the request must still wait."""
        before, self.payer = self.payer, None if principal.is_service else principal.user
        self._loop_time.remember(self._identified, self.payer)
        if principal.by_service:
            self._loop_time.remember(self._credential, None)
        return self.begin() if self.payer != before else 0.0

    def add(self, took_s: float) -> None:
        """Count loop time, in seconds."""
        self._took_s += took_s

    def end(self) -> None:
        """Charge the payer for the time that was counted since the last call."""
        took_s, self._took_s = self._took_s, 0.0
        if self.payer is not None:
            self._loop_time.charge(self.payer, took_s)
