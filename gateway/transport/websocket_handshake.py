"""The opening handshake of a WebSocket: each response has the id of its request."""

from __future__ import annotations

from http import HTTPStatus

from websockets.exceptions import HeaderLineTooLong, RequestLineTooLong, TooManyHeaders
from websockets.http11 import MAX_LINE_LENGTH, MAX_NUM_HEADERS, Request, Response
from websockets.server import ServerProtocol

from gateway.protocol.codec import BY_SUBPROTOCOL, JSON
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import REQUEST_ID_HEADER, new_id, request_id_in

REQUEST_ID = REQUEST_ID_HEADER.decode()


class Handshake(ServerProtocol):
    """The handshake of the library. Each of its responses has the id of the request."""

    request_id = ""
    _request: Request | None = None

    def accept(self, request: Request) -> Response:
        """Return the response to the opening. Give the request an id if it has none that can be used."""
        self._request = request
        self.request_id = request_id_in(
            (name.lower().encode(), value.encode()) for name, value in request.headers.raw_items()
        )
        if REQUEST_ID in request.headers:
            del request.headers[REQUEST_ID]
        request.headers[REQUEST_ID] = self.request_id
        return super().accept(request)

    def send_response(self, response: Response) -> None:
        """Send a response to the opening, and forget the headers of both: they would be kept as long as the socket."""
        response.headers.setdefault(REQUEST_ID, self.request_id)
        super().send_response(response)
        response.headers.clear()
        if self._request is not None:
            self._request.headers.clear()


def opening_error_response(error: Exception) -> bytes:
    """Return the response to an opening whose head the library can't read, for which it has raised `error`."""
    refused = ApiError("invalid_request", "Not a WebSocket opening. Send a GET request of HTTP/1.1 without a body.")
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, HeaderLineTooLong | TooManyHeaders):
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        refused = ApiError(
            "too_large",
            f"The opening has too many or too long headers. Send at most {MAX_NUM_HEADERS} headers of {MAX_LINE_LENGTH} bytes.",
        )
    elif isinstance(error, RequestLineTooLong):
        status = HTTPStatus.REQUEST_URI_TOO_LONG
        refused = ApiError(
            "too_large", f"The address of the opening is longer than {MAX_LINE_LENGTH} bytes. Shorten it."
        )
    body = JSON.encode({"error": refused.body, "subprotocols": list(BY_SUBPROTOCOL)})
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{REQUEST_ID}: {new_id('rq')}\r\nConnection: close\r\n\r\n"
    ).encode() + body
