"""One operation of the HTTP API: its request, its answers and its handler. Also the context of one request to it.

The routes and the documents are built from the table of operations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta, Struct
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.dialects.base import Dialect
from gateway.http.request_body import R, decode_body, decode_query, parse_query, read_body
from gateway.http.session import HttpSession
from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.identity.principal import Scope as RequiredScope
from gateway.protocol import requests as p
from gateway.protocol.codec import EVENTS, JSON
from gateway.protocol.errors import ApiError
from gateway.protocol.plain_text import PLAIN_PATTERN
from gateway.protocol.value_count import ValueCount
from gateway.requests.services import Services
from gateway.telemetry.dialect import adopt_dialect


@dataclass(slots=True)
class RequestContext:
    """One request to one operation.

    `streaming` is true once a streamed answer has begun. `body_bytes` is the size of the body that is held in memory.
    `answer_headers` are added to an answer of a dialect, also to an error. `body_dialect` is that of the body, if it isn't
    the operation's.
    """

    operation: Operation
    services: Services
    principal: Principal
    scope: Scope
    receive: Receive
    send: Send
    streaming: bool = False
    body_bytes: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    body_dialect: Dialect | None = None

    def adopt(self, dialect: Dialect) -> None:
        """Adopt the dialect of the body, at an address that several dialects share."""
        self.body_dialect = dialect
        adopt_dialect(dialect.name)

    @property
    def dialect(self) -> Dialect | None:
        """The dialect of the answer, also of an error.

        Where several share an address, `Accept` tells them apart until the body is read.
        """
        other = self.operation.other_dialect
        if self.body_dialect is None and other is not None and other.error_type in self.headers.get("accept", ""):
            return other
        return self.operation.dialect if self.body_dialect is None else self.body_dialect

    def begin(self) -> None:
        """Record that a streamed answer begins."""
        self.streaming = True

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(scope=self.scope)

    @property
    def path_params(self) -> Mapping[str, str]:
        """The path parameters, by name."""
        found: dict[str, str] = self.scope["path_params"]
        return found

    def query(self) -> dict[str, str]:
        """Return the fields of the query. Raises `ApiError`.

        An operation with a body takes its fields from the body, and none from the query.
        """
        return parse_query(self.scope["query_string"], () if self.operation.has_body else self.operation.fields)

    async def parse(self, kind: type[R]) -> R:
        """Decode the path, and the query or the body, to a request of the type `kind`, and return it.

        Raises `ApiError` and `ClientDisconnect`.
        """
        if not self.operation.has_body:
            return decode_query(kind, self.path_params, self.query())
        body = await self.body(self.services.settings.frame_bytes)
        return decode_body(kind, self.path_params, body, self.operation.fields)

    async def body(self, bytes_max: int) -> bytes:
        """Read and return the body, of at most `bytes_max` bytes. Raises `ApiError` and `ClientDisconnect`.

        Its size is charged to the memory for all bodies until `release_body` is called. Reading may take a minute, so the
        credential is checked again afterwards.
        """
        limits, values = self.services.limits, ValueCount(self.services.settings.request_items)
        limits.large_bodies.check(self.principal.user)
        with self.services.authenticator.admit(self.principal) as credential:
            body = await read_body(self.headers, self.receive, bytes_max, self._charge_body, values)
        credential.check_active(self.principal.scopes)
        self.principal = credential.principal
        limits.large_bodies.charge(self.principal.user, len(body))
        return body

    def _charge_body(self, size: int) -> None:
        self.services.limits.bodies.grow(self.body_bytes, size)
        self.body_bytes = size

    def release_body(self) -> None:
        """Release the memory for the body, when the request is under way or refused. More calls have no effect."""
        self.services.limits.bodies.release(self.body_bytes)
        self.body_bytes = 0

    def external_path(self, path: str) -> str:
        """Return `path` as the client sees it: with the prefix of this request before it."""
        prefix: str = self.scope.get("root_path", "")
        return prefix + path

    def session(self, *, is_streamed: bool = False, holds_permit: bool = False) -> HttpSession:
        """Return a session for this request. Raise `ApiError` if it takes a permit and the instance is draining.

        `is_streamed`: the outbox is sent to the client. `holds_permit`: the session takes a connection permit.
        """
        if holds_permit and self.services.runner.is_draining:
            raise ApiError("shutting_down", retry_after_ms=1000)
        host = origin.client_host(self.scope) if holds_permit else None
        codec = JSON if self.operation.dialect is None else EVENTS
        return HttpSession(self.services, self.principal, is_streamed=is_streamed, host=host, codec=codec)


Identifier = Annotated[str, Meta(min_length=1, max_length=1000, pattern=PLAIN_PATTERN)]


class HeaderSpec(Struct, frozen=True):
    """A request header that an operation reads. `pattern` is a regular expression for its value."""

    name: str
    description: str
    pattern: str | None = None


class PartGet(p.Request, frozen=True, tag="part.get"):
    """Get the data of an image or a file in a message.

    `number` is the part's number, from 0. `turn` is the turn of an answer that is in no conversation.
    """

    message: p.Key
    number: Annotated[int, Meta(ge=0, le=999_999)]
    turn: p.Key | None = None


class ResponseSpec(Struct, frozen=True):
    """One possible response of an operation.

    Its body is JSON of the type `result_type` (with `is_list`, a list of them), a stream of events, bytes (`*/*`), or lines
    of JSON of the `line_types`. If both `result_type` and `is_stream` are set, the client's `Accept` selects one. If
    nothing is set, there is no body.
    """

    description: str
    result_type: type[Struct] | None = None
    status: int = 200
    is_stream: bool = False
    is_binary: bool = False
    headers: tuple[str, ...] = ()
    line_types: tuple[type[Struct], ...] = ()
    is_list: bool = False


Handler = Callable[[RequestContext], Awaitable[Response | None]]


class Operation(Struct, frozen=True):
    """One method of one path.

    For a public operation, the endpoint checks neither the origin nor a credential; if `may_require_admin`, its handler
    checks the credential, as the settings say. An operation that isn't public requires `scope`, if it is set.

    The `{names}` in the path are fields of `request`; `fields` are its fields in the query or the body.
    An operation of a `dialect` has errors in its shape. `body` is the type of its body, if it has one;
    `is_body_optional`: it may be empty. `variant` is the name of a header, in lower case, and the operation that
    serves the requests that have it. `other_dialect` and `other_body` are those of other bodies at this address.
    """

    method: str
    path: str
    summary: str
    handler: Handler
    responses: tuple[ResponseSpec, ...]
    request: type[p.Request] | None = None
    scope: RequiredScope | None = None
    fields: tuple[str, ...] = ()
    headers: tuple[HeaderSpec, ...] = ()
    is_public: bool = False
    may_require_admin: bool = False
    dialect: Dialect | None = None
    body: type[Struct] | None = None
    is_body_optional: bool = False
    variant: tuple[str, Operation] | None = None
    other_dialect: Dialect | None = None
    other_body: type[Struct] | None = None

    def for_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> Operation:
        """Return the operation that serves a request with `headers`: this one, or its variant."""
        if self.variant is None:
            return self
        name, operation = self.variant
        return operation if any(header == name.encode() for header, _ in headers) else self

    @property
    def has_body(self) -> bool:
        """Whether `fields` are in a body; if not, they are in the query."""
        return self.method in {"POST", "PATCH"}
