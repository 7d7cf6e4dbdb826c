"""The keys of one provider: rotate the keys, rest failing keys, and keep the circuit of a failing provider open."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from providers.base import ErrorCode, ProviderError
from providers.retry.breaker import Breaker, Breakers
from providers.route import Endpoint, Route

LIMITED_REST_S: Final = 2.0
"""How long a key rests after a 429 without a Retry-After."""
REFUSED_REST_S: Final = 60.0
"""How long a key rests that the provider rejected or that is out of credit. The other keys are used first."""
KEY_CODES: Final[frozenset[ErrorCode]] = frozenset({"upstream_auth", "upstream_rate_limited"})


class Cooldown(Struct, frozen=True):
    """The rest of a key for one model, until the monotonic time `until` in seconds, with the error that caused it.

    If `limited`, the key is rate limited and will work again. Otherwise it may not.
    """

    until: float
    limited: bool
    code: ErrorCode
    message: str


class CoolingDown(Struct, frozen=True):
    """The reason why no key can be used now. If `limited`, a key can be used after `left_s`."""

    left_s: float
    limited: bool
    code: ErrorCode
    message: str

    def error(self) -> ProviderError:
        """Return the error that a turn fails with."""
        return ProviderError(
            self.code,
            self.message,
            retryable=self.limited or self.code not in KEY_CODES,
            retry_after_ms=round(self.left_s * 1000),
            detail="not asked: every key rests, or the circuit is open",
        )


class Key:
    """A key of a provider. `value` is empty if the provider needs none.

    `cooldowns` maps from a model's name to its rest, because rate limits apply per model.
    """

    def __init__(self, value: str, breaker: Breaker) -> None:
        self.value = value
        self.breaker = breaker
        self.cooldowns: dict[str, Cooldown] = {}


class KeyCheckout:
    """A key for one request. The caller reports the outcome with `succeeded`, `failed` or `abandoned`."""

    def __init__(self, pool: KeyPool, key: Key, model: str) -> None:
        self.value = key.value
        self._pool = pool
        self._key = key
        self._model = model
        self._probe = key.breaker.acquire()

    def succeeded(self) -> None:
        """Report that the model began to answer."""
        self._key.breaker.succeeded()
        cooldown = self._key.cooldowns.get(self._model)
        if cooldown is not None and not cooldown.limited:
            del self._key.cooldowns[self._model]

    def failed(self, error: ProviderError) -> None:
        """Report that the provider failed or rejected the request, with `error`."""
        if error.code in KEY_CODES:
            self._pool.cool_down(self._key, self._model, error)
            self.abandoned()
        elif error.retryable:
            self._key.breaker.failed(error.code, probe=self._probe)
        else:
            self.abandoned()

    def abandoned(self) -> None:
        """Report that the outcome doesn't show whether the provider works."""
        self._key.breaker.abandoned(probe=self._probe)


class KeyPool:
    """The keys of one endpoint."""

    def __init__(self, endpoint: Endpoint, breakers: Breakers, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = endpoint.title
        self._clock = clock
        self._keys = [Key(value, breakers.of(circuit(endpoint, value))) for value in endpoint.api_keys or ("",)]
        self._next = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def open(self) -> bool:
        """Whether the circuits of all keys are open, so that no request can be sent."""
        return all(key.breaker.left_s > 0 for key in self._keys)

    def check_out(self, route: Route, *, any_will_do: bool = False) -> KeyCheckout | CoolingDown:
        """Return the next key that can be used for the route's model, or `CoolingDown` if there is none.

        If `any_will_do`, return a key that was rejected rather than none.
        """
        now = self._clock()
        model = route.model
        keys = [*self._keys[self._next :], *self._keys[: self._next]]
        if route.quirks.background:
            # Another instance has to use the same key to resume or stop the answer.
            keys = self._keys[:1]
        free = next(
            (key for key in keys if key.breaker.left_s <= 0 and not self._is_cooling_down(key, model, now)), None
        )
        if free is not None:
            self._next = (self._keys.index(free) + 1) % len(self._keys)
            return KeyCheckout(self, free, model)
        usable = [key for key in keys if key.breaker.left_s <= 0]
        if not usable:
            return self._out_of_order(min(keys, key=lambda key: key.breaker.left_s).breaker)
        key = min(usable, key=lambda key: (not key.cooldowns[model].limited, key.cooldowns[model].until))
        cooldown = key.cooldowns[model]
        if not cooldown.limited and any_will_do:
            return KeyCheckout(self, key, model)
        return CoolingDown(cooldown.until - now, cooldown.limited, cooldown.code, cooldown.message)

    def cool_down(self, key: Key, model: str, error: ProviderError) -> None:
        """Let `key` rest for this model, for the error's Retry-After or for a default time."""
        now = self._clock()
        wait_s = LIMITED_REST_S if error.retryable else REFUSED_REST_S
        if error.retry_after_ms is not None:
            wait_s = error.retry_after_ms / 1000
        key.cooldowns = {name: cooldown for name, cooldown in key.cooldowns.items() if cooldown.until > now}
        limited = error.code == "upstream_rate_limited" and error.retryable
        key.cooldowns[model] = Cooldown(now + wait_s, limited, error.code, error.message)

    def _is_cooling_down(self, key: Key, model: str, now: float) -> bool:
        cooldown = key.cooldowns.get(model)
        return cooldown is not None and cooldown.until > now

    def _out_of_order(self, breaker: Breaker) -> CoolingDown:
        assert breaker.opened is not None
        message = (
            f"{self._title} has failed several times in a row, so it gets no requests now. "
            "Try again later, or choose another model."
        )
        return CoolingDown(breaker.left_s, False, breaker.opened.code, message)


def circuit(endpoint: Endpoint, key: str) -> str:
    """Return the name of the circuit for this endpoint and key. It reveals neither the address nor the key.

    It is the same on every instance with this provider, address and key.
    """
    digest = hashlib.sha256(f"{endpoint.base_url}\n{key}".encode()).hexdigest()
    return f"{endpoint.provider}:{digest[:16]}"
