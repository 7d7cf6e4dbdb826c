"""Opens one WebSocket to the gateway, and says why it can't be opened."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl as ssl_module
from typing import Any, NoReturn
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    ProxyError,
    WebSocketException,
)
from websockets.typing import Subprotocol

from turnwire.client.close_codes import UNAUTHENTICATED, reason_of
from turnwire.client.codecs import Codec, ErrorAnswer
from turnwire.client.credentials import fresh
from turnwire.client.errors import (
    ConnectFailed,
    NotAGateway,
    ProtocolMismatch,
    Unauthenticated,
)
from turnwire.client.events import Ready
from turnwire.client.lifetime import abort
from turnwire.client.options import Options
from turnwire.client.probe import check_protocol, not_a_gateway, place_of, unreachable
from turnwire.client.records import ErrorRecord

FRAME_BYTES_MAX = 2**20
USER_AGENT = "turnwire-python"

logger = logging.getLogger("turnwire.client.websocket")
logger.propagate = False
logger.addHandler(logging.NullHandler())


async def open_socket(options: Options, codec: Codec) -> tuple[ClientConnection, Ready]:
    """Return a socket and its first frame. Raise a `ConnectFailed`."""
    process = os.getpid()
    try:
        async with asyncio.timeout(options.open_timeout):
            websocket = await _handshake(options, codec)
            try:
                return websocket, await _ready(options, codec, websocket)
            except BaseException:
                abort(websocket.transport, process)
                raise
    except TimeoutError:
        message = f"The gateway at {place_of(options)} didn't answer within {options.open_timeout:g} s. "
        raise _perhaps_blocked(ConnectFailed(f"{message}Check the address, or try again.")) from None


async def _handshake(options: Options, codec: Codec) -> ClientConnection:
    headers = dict(options.headers)
    url = options.address.socket
    token = await fresh(options.token)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    ticket = await fresh(options.ticket)
    if ticket is not None:
        parts = urlsplit(url)
        query = "&".join(filter(None, (parts.query, urlencode({"ticket": ticket}))))
        url = urlunsplit(parts._replace(query=query))
    tls: dict[str, Any] = {"ssl": options.ssl} if options.ssl is not None else {}
    try:
        return await open_websocket(
            url,
            subprotocols=[Subprotocol(codec.subprotocol)],
            compression=None,
            additional_headers=headers,
            user_agent_header=USER_AGENT,
            open_timeout=None,
            ping_interval=None,
            close_timeout=1.0,
            max_size=FRAME_BYTES_MAX,
            logger=logger,
            **tls,
        )
    except Exception as error:
        _explain(options, error)


def _explain(options: Options, error: Exception) -> NoReturn:
    """Raise the `ConnectFailed` for what has prevented the handshake."""
    place = place_of(options)
    if isinstance(error, TimeoutError):
        raise error
    if isinstance(error, ssl_module.SSLError):
        raise unreachable(options, error) from error
    if isinstance(error, InvalidStatus):
        _explain_status(options, error)
    if isinstance(error, NegotiationError):
        raise ProtocolMismatch(
            f"What answers at {place} doesn't speak turnwire.v1. "
            "Install the version of the turnwire package that fits the gateway."
        ) from error
    if isinstance(error, (InvalidProxy, ProxyError)):
        raise ConnectFailed(
            f"The proxy on the way to {place} doesn't work: {error}. Correct it, or set NO_PROXY."
        ) from error
    if isinstance(error, InvalidURI):
        raise ConnectFailed(f"The address {place} leads elsewhere: {error}. Use the gateway's own address.") from error
    if isinstance(error, (InvalidHandshake, ConnectionClosed, EOFError)):
        raise _perhaps_blocked(
            NotAGateway(not_a_gateway(place, "It doesn't answer as a WebSocket server does"))
        ) from error
    if isinstance(error, ConnectionResetError):
        raise _perhaps_blocked(unreachable(options, error)) from error
    if isinstance(error, (OSError, UnicodeError, WebSocketException, ValueError)):
        raise unreachable(options, error) from error
    raise error


def _explain_status(options: Options, refused: InvalidStatus) -> NoReturn:
    """Raise the error for an HTTP answer instead of a WebSocket."""
    place, status = place_of(options), refused.response.status_code
    try:
        answer: Any = msgspec.json.decode(refused.response.body or b"")
        record = msgspec.convert(answer["error"], ErrorRecord)
    except (msgspec.DecodeError, KeyError, TypeError):
        failed = NotAGateway(not_a_gateway(place, f"It answers with HTTP {status}"), retryable=status >= 500)
        raise _perhaps_blocked(failed) from refused
    subprotocols = answer.get("subprotocols")
    if isinstance(subprotocols, list) and status == 400 and "turnwire.v1.json" not in subprotocols:
        check_protocol(options, ", ".join(map(str, subprotocols)))
    if status == 426:
        raise _perhaps_blocked(NotAGateway(record.message)) from refused
    kind = Unauthenticated if status == 401 else ConnectFailed
    retry_after = refused.response.headers.get("Retry-After", "")
    after_ms = record.retry_after_ms or (float(retry_after) * 1000 if retry_after.isdigit() else None)
    raise kind(record.message, code=record.code, retryable=record.retryable, retry_after_ms=after_ms) from refused


async def _ready(options: Options, codec: Codec, websocket: ClientConnection) -> Ready:
    """Return the first frame."""
    place = place_of(options)
    if websocket.subprotocol != codec.subprotocol:
        raise NotAGateway(not_a_gateway(place, "Its WebSocket doesn't speak turnwire.v1"))
    try:
        frame = codec.decode(await websocket.recv(decode=False))
    except ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd else None
        message = f"{reason_of(code, f'{place} has closed the socket at once')}."
        if code is None:  # not the gateway's own doing
            raise _perhaps_blocked(ConnectFailed(message)) from error
        raise (Unauthenticated if code == UNAUTHENTICATED else ConnectFailed)(message) from error
    except msgspec.DecodeError as error:
        raise NotAGateway(not_a_gateway(place, "It sends frames that can't be decoded")) from error
    if isinstance(frame, ErrorAnswer):
        record = frame.error
        kind = Unauthenticated if record.code == "unauthenticated" else ConnectFailed
        raise kind(record.message, code=record.code, retryable=record.retryable, retry_after_ms=record.retry_after_ms)
    if not isinstance(frame, Ready):
        raise NotAGateway(not_a_gateway(place, "Its first frame isn't that of a gateway"))
    check_protocol(options, frame.protocol)
    return frame


def _perhaps_blocked(error: ConnectFailed) -> ConnectFailed:
    """Mark an error that a proxy may have caused, which lets no WebSocket through."""
    error.perhaps_blocked = True
    return error
