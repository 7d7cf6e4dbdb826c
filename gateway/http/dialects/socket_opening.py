"""The opening of a dialect's WebSocket: the checks, the credential, and the refusal in the dialect's shape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from gateway.dialects.base import Dialect
from gateway.http.dialects.socket_session import SocketSession
from gateway.http.responses import error_response
from gateway.identity import origin
from gateway.identity.origin import credential_values
from gateway.identity.principal import Principal
from gateway.identity.user_in_header import act_for_user_in_header
from gateway.protocol.errors import ApiError
from gateway.requests.services import Services
from gateway.telemetry.dialect import adopt_dialect, current_dialect
from gateway.telemetry.tracing import adopt_trace_context
from gateway.transport.uvicorn_websocket import websocket_of
from gateway.turns.error_mapping import as_api_error

OPENING_COST_S: Final = 0.002
OPENING_DELAY_MAX_S: Final = 3.0
POLICY_VIOLATION: Final = 1008

Opened = tuple[SocketSession, Message | None]


async def open_socket(
    stack: AsyncExitStack, dialect: Dialect, scope: Scope, receive: Receive, send: Send
) -> SocketSession | None:
    """Accept a socket, and return its session, which `stack` ends. Return None after sending a refusal.

    The credential must come with the opening.
    """
    services: Services = scope["state"]["services"]
    await _begin(dialect, scope, receive)
    host = origin.client_host(scope)
    opening = services.limits.loop_time.request(scope["headers"], host)
    opening.add(OPENING_COST_S)
    try:
        # A user that has used more than its share of the loop must not gain more by reconnecting.
        await asyncio.sleep(min(opening.begin(), OPENING_DELAY_MAX_S))
        principal = await _authenticate_opening(services, scope)
        await asyncio.sleep(min(opening.identify(principal), OPENING_DELAY_MAX_S))
        session = SocketSession(services, principal, host, websocket_of(scope))
        await stack.enter_async_context(session)
    except Exception as error:
        await _refuse(services, dialect, error, send)
        return None
    finally:
        opening.end()
    await _accept(scope, send)
    return session


async def open_socket_by_message(
    stack: AsyncExitStack,
    dialect: Dialect,
    scope: Scope,
    receive: Receive,
    send: Send,
    credential_in: Callable[[str], str | None],
) -> Opened | None:
    """Accept a socket whose credential may come with its first message, as browsers can send no headers.

    Return its session, which `stack` ends, and the first message if that had the credential. `credential_in` returns
    the credential in a message, or None; it may raise `ApiError`. Return None after sending a refusal, or if the client
    left.
    """
    services: Services = scope["state"]["services"]
    if services.authenticator.is_open or _has_credential(scope):
        session = await open_socket(stack, dialect, scope, receive, send)
        return None if session is None else (session, None)
    await _begin(dialect, scope, receive)
    host = origin.client_host(scope)
    with services.limits.connection_permit() as permit:
        try:
            await _checked_credential(services, scope)  # there is none yet, but one in the wrong place is refused
            await permit.acquire(None, host)
        except Exception as error:
            await _refuse(services, dialect, error, send)
            return None
        await _accept(scope, send)
        try:
            async with asyncio.timeout(services.settings.auth_timeout_s):
                message = await receive()
            if message["type"] == "websocket.disconnect":
                return None
            principal = await _authenticate_message(services, scope, credential_in(message.get("text") or ""))
        except TimeoutError:
            await _close(send, "No frame with a credential arrived in time. Connect again.")
            return None
        except Exception as error:
            await _close(send, _counted(services, error).body.message)
            return None
    session = SocketSession(services, principal, host, websocket_of(scope))
    try:
        await stack.enter_async_context(session)
    except ApiError as refused:
        await _close(send, refused.body.message)
        return None
    return session, message


async def _begin(dialect: Dialect, scope: Scope, receive: Receive) -> None:
    """Receive the opening, and let logs, traces and metrics name the dialect."""
    await receive()
    adopt_trace_context(scope["headers"])
    adopt_dialect(dialect.name)


async def _checked_credential(services: Services, scope: Scope) -> Principal | None:
    """Check the opening. Return the caller that its credential names, or None if it has no credential.

    Raises `ApiError`.
    """
    headers = scope["headers"]
    origin.check_host(headers, services.settings)
    origin.check_socket_origin(headers, services.settings)
    if services.runner.is_draining:
        raise ApiError("shutting_down", retry_after_ms=1000)
    return await services.authenticator.authenticate_socket(headers, scope["query_string"])


async def _authenticate_opening(services: Services, scope: Scope) -> Principal:
    """Return the caller for the credential of the opening. Raises `ApiError`."""
    principal = await _checked_credential(services, scope)
    if principal is None:
        raise ApiError("unauthenticated")
    return act_for_user_in_header(principal, scope["headers"])


async def _authenticate_message(services: Services, scope: Scope, token: str | None) -> Principal:
    """Return the caller for the credential in the first message. Raises `ApiError`."""
    if token is None:
        raise ApiError(
            "unauthenticated",
            "The credential is missing. Send it in the frame's headers, or a ticket in the address.",
        )
    return act_for_user_in_header(await services.authenticator.authenticate_token(token), scope["headers"])


def _counted(services: Services, error: Exception) -> ApiError:
    """Return the error of a refusal, after counting it."""
    refused = as_api_error(error)
    services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
    return refused


async def _refuse(services: Services, dialect: Dialect, error: Exception, send: Send) -> None:
    """Answer the opening with an error as an HTTP response."""
    response = error_response(_counted(services, error), dialect=dialect)
    head = {"status": response.status_code, "headers": response.raw_headers}
    await send({"type": "websocket.http.response.start", **head})
    await send({"type": "websocket.http.response.body", "body": response.body})


async def _accept(scope: Scope, send: Send) -> None:
    offered: list[str] = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})


def _has_credential(scope: Scope) -> bool:
    return bool(credential_values(scope["headers"])) or b"ticket" in parse_qs(scope["query_string"])


async def _close(send: Send, reason: str) -> None:
    with suppress(OSError):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason[:100]})
