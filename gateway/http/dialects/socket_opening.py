"""The opening of a dialect's socket whose credential may come with its first message, as browsers can send no headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from gateway.dialects.base import Dialect
from gateway.http.dialects.socket_session import SocketSession, open_socket
from gateway.http.responses import error_response
from gateway.identity import origin
from gateway.identity.named_user import act_for_named_user
from gateway.identity.origin import credential_values
from gateway.protocol.errors import ApiError
from gateway.requests.services import Services
from gateway.telemetry.dialect import adopt_dialect, current_dialect
from gateway.telemetry.tracing import adopt_trace_context
from gateway.transport.uvicorn_websocket import websocket_of
from gateway.turns.error_mapping import as_api_error

POLICY_VIOLATION = 1008

Opened = tuple[SocketSession, Message | None]


async def open_socket_late(
    stack: AsyncExitStack,
    dialect: Dialect,
    scope: Scope,
    receive: Receive,
    send: Send,
    credential_in: Callable[[str], str | None],
) -> Opened | None:
    """Accept a socket, and return its session and, if it had the credential, its first message. `stack` ends the session.

    `credential_in` returns the credential in a message, or None; it may raise `ApiError`. Return None after sending a
    refusal, or if the client left.
    """
    services: Services = scope["state"]["services"]
    if services.authenticator.is_open or _has_credential(scope):
        session = await open_socket(stack, dialect, scope, receive, send)
        return None if session is None else (session, None)
    await receive()
    adopt_trace_context(scope["headers"])
    adopt_dialect(dialect.name)
    host = origin.client_host(scope)
    with services.limits.connection_permit() as permit:
        try:
            origin.check_host(scope["headers"], services.settings)
            origin.check_socket_origin(scope["headers"], services.settings)
            if services.runner.is_draining:
                raise ApiError("shutting_down", retry_after_ms=1000)
            await permit.acquire(None, host)
        except Exception as error:
            refused = as_api_error(error)
            services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
            response = error_response(refused, dialect=dialect)
            head = {"status": response.status_code, "headers": response.raw_headers}
            await send({"type": "websocket.http.response.start", **head})
            await send({"type": "websocket.http.response.body", "body": response.body})
            return None
        offered: list[str] = scope["subprotocols"]
        await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
        try:
            async with asyncio.timeout(services.settings.auth_timeout_s):
                message = await receive()
            if message["type"] == "websocket.disconnect":
                return None
            token = credential_in(message.get("text") or "")
            if token is None:
                raise ApiError(
                    "unauthenticated",
                    "The credential is missing. Send it in the frame's headers, or a ticket in the address.",
                )
            principal = act_for_named_user(await services.authenticator.authenticate_token(token), scope["headers"])
        except TimeoutError:
            await _close(send, "No frame with a credential arrived in time. Connect again.")
            return None
        except Exception as error:
            refused = as_api_error(error)
            services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
            await _close(send, refused.body.message)
            return None
    session = SocketSession(services, principal, host, websocket_of(scope))
    try:
        await stack.enter_async_context(session)
    except ApiError as refused:
        await _close(send, refused.body.message)
        return None
    return session, message


def _has_credential(scope: Scope) -> bool:
    return bool(credential_values(scope["headers"])) or b"ticket" in parse_qs(scope["query_string"])


async def _close(send: Send, reason: str) -> None:
    with suppress(OSError):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason[:100]})
