"""The keys of one provider: use them in rotation, let failing keys cool down, and skip keys whose circuit is open."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from providers.base import ErrorCode, ProviderError
from providers.endpoint import Endpoint
from providers.retry.breaker import Breaker, Breakers
from providers.route import Route

RATE_LIMITED_COOLDOWN_S: Final = 2.0
"""How long a key cools down after a 429 without a Retry-After."""
REJECTED_COOLDOWN_S: Final = 60.0
"""How long a key that was rejected or is out of credit cools down. The other keys are used first."""
KEY_CODES: Final[frozenset[ErrorCode]] = frozenset({"upstream_auth", "upstream_rate_limited"})


class Cooldown(Struct, frozen=True):
    """The cooldown of a key for one model, until the monotonic time `until` in seconds, with the error that caused it.

    If `is_rate_limited`, the key will work again. Otherwise it may not.
    """

    until: float
    is_rate_limited: bool
    code: ErrorCode
    message: str


class CoolingDown(Struct, frozen=True):
    """The reason why no key can be used now. If `is_rate_limited`, a key can be used after `wait_s`."""

    wait_s: float
    is_rate_limited: bool
    code: ErrorCode
    message: str

    def error(self) -> ProviderError:
        """Return the error that a turn fails with."""
        return ProviderError(
            self.code,
            self.message,
            retryable=self.is_rate_limited or self.code not in KEY_CODES,
            retry_after_ms=round(self.wait_s * 1000),
            detail="not sent: every key is cooling down, or the circuit is open",
        )


class Key:
    """A key of a provider. `value` is empty if the provider needs none.

    `cooldowns` maps from a model's name to its cooldown, because rate limits apply per model.
    """

    def __init__(self, value: str, breaker: Breaker) -> None:
        self.value = value
        self.breaker = breaker
        self.cooldowns: dict[str, Cooldown] = {}


class KeyCheckout:
    """A key for one request. The caller reports the outcome with `record_success` or `record_failure`, or calls `release`.

    It calls `record_interruption` if an answer breaks off after `record_success`.
    """

    def __init__(self, pool: KeyPool, key: Key, model: str) -> None:
        self.value = key.value
        self._pool = pool
        self._key = key
        self._model = model
        self._is_probe = key.breaker.acquire()

    def record_success(self) -> None:
        """Record that the model began to answer."""
        self._key.breaker.record_success()
        cooldown = self._key.cooldowns.get(self._model)
        if cooldown is not None and not cooldown.is_rate_limited:
            del self._key.cooldowns[self._model]

    def record_failure(self, error: ProviderError) -> None:
        """Record that the provider failed or rejected the request, with `error`."""
        if error.code in KEY_CODES:
            self._pool.cool_down(self._key, self._model, error)
            self.release()
        elif error.retryable:
            self._key.breaker.record_failure(error.code, probe=self._is_probe)
        else:
            self.release()

    def record_interruption(self, error: ProviderError) -> None:
        """Record that an answer broke off with `error` after `record_success`. A limited or rejected key cools down.

        A provider's only key cools down only if the provider says for how long: the key has just worked, and may still work.
        """
        if error.code in KEY_CODES and (len(self._pool) > 1 or error.retry_after_ms is not None):
            self._pool.cool_down(self._key, self._model, error)

    def release(self) -> None:
        """Return the key without an outcome that shows whether the provider works."""
        self._key.breaker.release(probe=self._is_probe)


class KeyPool:
    """The keys of one endpoint."""

    def __init__(self, endpoint: Endpoint, breakers: Breakers, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = endpoint.title
        self._clock = clock
        self._keys = [Key(value, breakers.get(circuit_name(endpoint, value))) for value in endpoint.api_keys or ("",)]
        self._next = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def is_open(self) -> bool:
        """Whether the circuits of all keys are open, so that no request can be sent."""
        return all(key.breaker.wait_s > 0 for key in self._keys)

    def check_out(self, route: Route, *, allow_rejected: bool = False) -> KeyCheckout | CoolingDown:
        """Return the next key that can be used for the route's model, or `CoolingDown` if there is none.

        If `allow_rejected`, and every key with a closed circuit was rejected or is out of credit, return one of them.
        """
        now = self._clock()
        model = route.model
        keys = [*self._keys[self._next :], *self._keys[: self._next]]
        if route.quirks.background:
            # Another instance has to use the same key to resume or stop the answer.
            keys = self._keys[:1]
        closed = [key for key in keys if key.breaker.wait_s <= 0]
        if not closed:
            return self._open_circuit(min(keys, key=lambda key: key.breaker.wait_s).breaker)
        for key in closed:
            if model not in key.cooldowns or key.cooldowns[model].until <= now:
                self._next = (self._keys.index(key) + 1) % len(self._keys)
                return KeyCheckout(self, key, model)
        key = min(closed, key=lambda key: (not key.cooldowns[model].is_rate_limited, key.cooldowns[model].until))
        cooldown = key.cooldowns[model]
        if not cooldown.is_rate_limited and allow_rejected:
            return KeyCheckout(self, key, model)
        return CoolingDown(cooldown.until - now, cooldown.is_rate_limited, cooldown.code, cooldown.message)

    def cool_down(self, key: Key, model: str, error: ProviderError) -> None:
        """Start a cooldown of `key` for this model, for the error's Retry-After or for a default time."""
        now = self._clock()
        wait_s = RATE_LIMITED_COOLDOWN_S if error.retryable else REJECTED_COOLDOWN_S
        if error.retry_after_ms is not None:
            wait_s = error.retry_after_ms / 1000
        key.cooldowns = {name: cooldown for name, cooldown in key.cooldowns.items() if cooldown.until > now}
        is_rate_limited = error.code == "upstream_rate_limited" and error.retryable
        key.cooldowns[model] = Cooldown(now + wait_s, is_rate_limited, error.code, error.message)

    def _open_circuit(self, breaker: Breaker) -> CoolingDown:
        assert breaker.opening is not None
        message = (
            f"{self._title} has failed several times in a row, so it gets no requests now. "
            "Try again later, or choose another model."
        )
        return CoolingDown(breaker.wait_s, False, breaker.opening.code, message)


def circuit_name(endpoint: Endpoint, key: str) -> str:
    """Return the name of the circuit for this endpoint and key. It reveals neither the address nor the key.

    It is the same on every instance with this provider, address and key.
    """
    digest = hashlib.sha256(f"{endpoint.base_url}\n{key}".encode()).hexdigest()
    return f"{endpoint.provider}:{digest[:16]}"
