"""The requests of the protocol as HTTP requests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from turnwire.client.codecs import JSON
from turnwire.client.credentials import fresh, is_renewable
from turnwire.client.errors import ConnectionLost, TurnwireError, from_record
from turnwire.client.http import HttpError, HttpResponse, send
from turnwire.client.options import Options
from turnwire.client.probe import unreachable
from turnwire.client.records import ErrorRecord
from turnwire.client.requests import IDEMPOTENT

ATTEMPTS = 5
ANSWER_S = 60.0


class Route(NamedTuple):
    """Where a request is sent. Fields in braces are taken from the request; the others go to the query or the body."""

    method: str
    path: str


ROUTES: Final = {
    "turn.start": Route("POST", "/v1/turns"),
    "turn.estimate": Route("POST", "/v1/turns/estimate"),
    "turn.get": Route("GET", "/v1/turns/{turn}"),
    "conversation.create": Route("POST", "/v1/conversations"),
    "conversation.list": Route("GET", "/v1/conversations"),
    "conversation.get": Route("GET", "/v1/conversations/{conversation}"),
    "conversation.update": Route("PATCH", "/v1/conversations/{conversation}"),
    "conversation.delete": Route("DELETE", "/v1/conversations/{conversation}"),
    "conversation.messages": Route("GET", "/v1/conversations/{conversation}/messages"),
    "conversation.clear": Route("DELETE", "/v1/conversations/{conversation}/context"),
    "feedback.put": Route("POST", "/v1/messages/{message}/feedback"),
    "usage.get": Route("GET", "/v1/usage"),
    "models.list": Route("GET", "/v1/models"),
    "ping": Route("GET", "/v1"),
}


class HttpApi:
    """Sends requests, each on a connection of its own."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def request(self, kind: str, fields: Mapping[str, Any]) -> Any:
        """Return the result. Raise the gateway's error, or `ConnectionLost`."""
        if kind == "turn.cancel":
            return await self._cancel(fields)
        route = ROUTES.get(kind)
        if route is None:
            raise unsupported(f"{kind} needs a WebSocket, and this connection uses HTTP")
        headers = {"Prefer": "respond-async"} if kind == "turn.start" else {}
        path, rest = _filled(route.path, fields)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with await self.open(route.method, path, rest, headers) as response:
                    body = await response.body()
                    return msgspec.json.decode(body) if body else {}
            except (OSError, TimeoutError, HttpError, msgspec.DecodeError) as error:
                if kind not in IDEMPOTENT or attempt == ATTEMPTS:
                    raise ConnectionLost(f"{unreachable(self._options, error).message}") from error
            await asyncio.sleep(random.random() * 0.5 * 2**attempt)
        raise AssertionError  # the last attempt returns or raises

    async def open(
        self,
        method: str,
        path: str,
        fields: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        timeout_s: float = ANSWER_S,
    ) -> HttpResponse:
        """Send a request and return its answer, whose body is to be read.

        Raise the gateway's error, OSError, `TimeoutError` and `HttpError`. A refused credential gets one more attempt.
        """
        for is_last in (False, True):
            response = await self._send(method, path, fields, headers, timeout_s)
            if response.status < 400:
                return response
            async with response:
                error = await _error(response)
            if response.status != 401 or is_last or not is_renewable(self._options.token):
                raise error
        raise AssertionError

    async def _send(
        self, method: str, path: str, fields: Mapping[str, Any], headers: Mapping[str, str], timeout_s: float
    ) -> HttpResponse:
        sent = {"Accept": "application/json", "User-Agent": "turnwire-python", **self._options.headers, **headers}
        token = await fresh(self._options.token)
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        url, body = f"{self._options.address.base}{path}", None
        if method in ("POST", "PATCH"):
            sent["Content-Type"] = "application/json"
            body = _encoded(fields)
        elif fields:
            url += "?" + urlencode({name: _query(value) for name, value in fields.items()})
        return await send(method, url, headers=sent, body=body, ssl=self._options.ssl, timeout_s=timeout_s)

    async def _cancel(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        turns = fields.get("turns") or ([fields["turn"]] if "turn" in fields else None)
        if turns is None:
            raise unsupported("Cancelling all turns of a conversation needs a WebSocket, and this connection uses HTTP")
        reason = {"reason": fields["reason"]} if fields.get("reason") else {}
        outcomes: dict[str, Any] = {}
        for turn in turns:
            async with await self.open("POST", f"/v1/turns/{quote(turn, safe='')}/cancel", reason, {}) as response:
                outcomes.update(msgspec.json.decode(await response.body())["turns"])
        return {"turns": outcomes}


def unsupported(why: str) -> TurnwireError:
    """Return the error for what only a socket can do."""
    return TurnwireError(f"{why}. Let the proxy pass WebSockets.", code="unsupported")


def _filled(path: str, fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path with its fields, and the other fields."""
    in_path = {name: quote(str(value), safe="") for name, value in fields.items() if f"{{{name}}}" in path}
    return path.format(**in_path), {name: value for name, value in fields.items() if name not in in_path}


def _encoded(fields: Mapping[str, Any]) -> bytes:
    try:
        return JSON.encode(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise TurnwireError(
            f"A field can't be sent: {error}. Use texts, numbers, lists and dicts.", code="invalid_request"
        ) from error


def _query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _error(response: HttpResponse) -> TurnwireError:
    try:
        answer = msgspec.json.decode(await response.body())
        record = msgspec.convert(answer["error"], ErrorRecord)
    except (msgspec.DecodeError, HttpError, KeyError, TypeError):
        return TurnwireError(
            f"The gateway, or a proxy before it, has answered with HTTP {response.status}. Try again, or ask the operator.",
            code="http_error",
            retryable=response.status >= 500,
        )
    retry_after = response.headers.get("retry-after", "")
    if record.retry_after_ms is None and retry_after.isdigit():
        record.retry_after_ms = int(retry_after) * 1000
    return from_record(record)
