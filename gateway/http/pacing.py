"""Pacing of HTTP requests: each user, and each network before authentication, gets its share of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.limits.loop_time import RequestTime
from gateway.requests.services import Services
from gateway.tasks import MeteredCoroutine
from gateway.transport.uvicorn_http import PARSE_STEP_S, protocol_of

App = Callable[[Scope, Receive, Send], Coroutine[Any, Any, None]]

REQUEST_TIME = "turnwire.request_time"
"""The key of the `RequestTime` in a request's scope."""


PARSING_PREFIX = "\1"
"""The prefix of a payer's account for parsing. No user's name has a control character, so no user has this account."""
REST_PER_WORK = 9
"""For each second for which its bytes were parsed, a connection without a payer isn't read for this many seconds."""


def charge_parsing(services: Services, scope: Scope | None, took_s: float) -> float:
    """Charge the parsing of a connection's bytes to the payer of its newest request. See `Charge`.

    Each payer has a second account, for parsing, which allows another tenth of the loop's time. So a client whose
    requests took too much time can still send the rest of a body, which many clients do before they read the response.

    Before the first request there is no payer, because the address may be a proxy's, which many clients share. Then the
    connection itself isn't read for a while, if its bytes were parsed for longer than `PARSE_STEP_S`. A service is never
    charged.
    """
    loop_time = services.limits.loop_time
    time: RequestTime | None = None if scope is None else scope.get(REQUEST_TIME)
    if time is None:
        return REST_PER_WORK * took_s if loop_time.is_enforced and took_s > PARSE_STEP_S else 0.0
    if time.payer is None:
        return 0.0
    account = PARSING_PREFIX + time.payer
    loop_time.charge(account, took_s)
    return loop_time.delay_s(account)


class Pacing:
    """Middleware that delays the requests of a user or network that has taken more than its share of the loop.

    The time of every request is counted, but not that of a stream of events, which is sent by a task of its own.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, unless the client leaves before it can be served."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: Services = scope["state"]["services"]
        time = services.limits.loop_time.request(scope["headers"], origin.client_host(scope))
        scope[REQUEST_TIME] = time
        if (delay_s := time.begin()) and not await protocol_of(scope).wait(delay_s):
            return
        try:
            await MeteredCoroutine(self._app(scope, receive, send), time.add)
        finally:
            time.end()


async def identify(scope: Scope, principal: Principal) -> None:
    """Charge the request to the user of the verified credential. Wait if that user has taken more than its share.

    Raise `ClientDisconnect` if the client disconnects while it waits.
    """
    time: RequestTime = scope[REQUEST_TIME]
    if (delay_s := time.identify(principal)) and not await protocol_of(scope).wait(delay_s):
        raise ClientDisconnect
