"""The opening of a WebSocket: check the request, choose the codec and authenticate the client.

No frame except `auth` is accepted before the client is authenticated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple

import structlog

from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.limits.connections import ConnectionPermit
from gateway.limits.loop_time import RequestTime
from gateway.protocol import requests as p
from gateway.protocol.codec import BY_SUBPROTOCOL, JSON, Codec, FrameError
from gateway.protocol.errors import CODES, ApiError, CloseCode, ErrorBody
from gateway.requests.services import Services
from gateway.telemetry.dialect import current_dialect
from gateway.turns.error_mapping import as_api_error

log = structlog.stdlib.get_logger("turnwire.connection")

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[AsgiMessage]]
Send = Callable[[AsgiMessage], Awaitable[None]]

FIRST_FRAME_BYTES_MAX = 4096
OPENING_COST_S = 0.002
"""The approximate loop time of one opening, including the handshake and the check of the credential."""
OPENING_DELAY_MAX_S = 3.0


class AcceptedSocket(NamedTuple):
    """An accepted socket. `auth_id` is the id of the `auth` frame that must still be answered, if it had one."""

    codec: Codec
    principal: Principal
    auth_id: str | None


async def open_socket(
    services: Services, permit: ConnectionPermit, scope: Scope, receive: Receive, send: Send
) -> AcceptedSocket | None:
    """Accept a socket and authenticate its client.

    Return None if the socket was refused, after sending the refusal, or if the client left before it sent `auth`.
    """
    host = origin.client_host(scope)
    opening = services.limits.loop_time.request(scope["headers"], host)
    opening.add(OPENING_COST_S)
    try:
        # A user that has used more than its share of the loop must not gain more by reconnecting.
        await asyncio.sleep(min(opening.begin(), OPENING_DELAY_MAX_S))
        codec = _negotiate_codec(services, scope)
        principal = await services.authenticator.authenticate_socket(scope["headers"], scope["query_string"])
        if principal is not None:
            await asyncio.sleep(min(opening.identify(principal), OPENING_DELAY_MAX_S))
            opening.end()
        await permit.acquire(principal, host)
    except ApiError as refused:
        opening.end()
        services.telemetry.refusals.labels(refused.code, current_dialect()).inc()
        await _send_error_response(send, refused.body)
        return None
    subprotocol = codec.subprotocol if scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    if principal is not None:
        return AcceptedSocket(codec, principal, None)
    try:
        return await _wait_for_auth(services, permit, opening, codec, receive, send)
    finally:
        opening.end()


def _negotiate_codec(services: Services, scope: Scope) -> Codec:
    """Check the opening and return the codec to use. Raises `ApiError`."""
    origin.check_host(scope["headers"], services.settings)
    origin.check_socket_origin(scope["headers"], services.settings)
    if services.runner.is_draining:
        raise ApiError("shutting_down")
    offered: list[str] = scope["subprotocols"]
    if not offered:
        return JSON
    for name in offered:
        if name in BY_SUBPROTOCOL:
            return BY_SUBPROTOCOL[name]
    raise ApiError(
        "invalid_request", f"None of the offered subprotocols is known. Offer {' or '.join(BY_SUBPROTOCOL)}."
    )


async def _send_error_response(send: Send, body: ErrorBody) -> None:
    status = CODES[body.code].http_status
    payload = JSON.encode({"error": body, "subprotocols": list(BY_SUBPROTOCOL)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(payload))]
    if body.retry_after is not None:
        headers.append((b"retry-after", body.retry_after.encode()))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": payload})


async def _wait_for_auth(
    services: Services, permit: ConnectionPermit, opening: RequestTime, codec: Codec, receive: Receive, send: Send
) -> AcceptedSocket | None:
    """Read the first frame, which must be a small and valid `auth`, and must arrive within `auth_timeout_s`.

    Close the socket and return None otherwise.
    """
    try:
        async with asyncio.timeout(services.settings.auth_timeout_s):
            message = await receive()
    except TimeoutError:
        await _close(
            send, CloseCode.NO_AUTH_IN_TIME, "No auth frame arrived in time. Connect again, and send auth first."
        )
        return None
    if message["type"] == "websocket.disconnect":
        return None
    data: bytes | str | None = message.get("bytes" if codec.binary else "text")
    if data is None:
        await _close(send, CloseCode.UNSUPPORTED_DATA, wrong_opcode_reason(codec))
        return None
    request_id: str | None = None
    try:
        request = _read_auth(codec, data)
        request_id = request.id
        principal = await services.authenticator.authenticate_token(request.token)
        opening.identify(principal)
        await permit.acquire(principal)
        return AcceptedSocket(codec, principal, request.id)
    except FrameError as invalid:
        refused, request_id = invalid.error, invalid.id
    except ApiError as error:
        refused = as_api_error(error)
    answer = codec.encode(p.ErrorAnswer(refused.body, request_id))
    with suppress(OSError):  # the client may be gone
        await send({"type": "websocket.send", **({"bytes": answer} if codec.binary else {"text": answer.decode()})})
    await _close(send, _close_code(refused), refused.code)
    return None


def _close_code(refused: ApiError) -> CloseCode:
    if refused.code == "store_unavailable":
        return CloseCode.DRAINING  # the client may retry: its credential isn't the cause
    if refused.code == "rate_limited":
        return CloseCode.TOO_MANY_CONNECTIONS
    return CloseCode.UNAUTHENTICATED if refused.code in {"unauthenticated", "forbidden"} else CloseCode.PROTOCOL_BROKEN


def _read_auth(codec: Codec, data: bytes | str) -> p.Auth:
    """Return the decoded `auth` frame. Raises `FrameError` if `data` isn't one, and `ApiError` "too_large"."""
    if len(data if isinstance(data, bytes) else data.encode()) > FIRST_FRAME_BYTES_MAX:
        raise ApiError(
            "too_large", f"The first frame must be auth, with at most {FIRST_FRAME_BYTES_MAX} bytes. Send auth first."
        )
    request = codec.decode(data)
    if not isinstance(request, p.Auth):
        raise FrameError(
            ApiError("unauthenticated", "The first frame must be auth. Send auth with a token first."), request.id
        )
    return request


def wrong_opcode_reason(codec: Codec) -> str:
    """Return the reason for closing a socket whose client sends frames of the type that `codec` doesn't have."""
    expected, other = ("binary", "text") if codec.binary else ("text", "binary")
    return f"{codec.subprotocol} has only {expected} frames. Send {expected}, not {other}."


async def _close(send: Send, code: CloseCode, reason: str) -> None:
    log.info("connection refused", code=int(code), reason=reason)
    with suppress(OSError):
        await send({"type": "websocket.close", "code": int(code), "reason": reason})
