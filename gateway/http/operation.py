"""One row of the HTTP API: what it takes, what it answers, who serves it. Routing and the documents are made of such rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.request_body import read_body, read_query
from gateway.http.session import HttpSession
from gateway.identity import origin
from gateway.identity.principal import Principal
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.value_count import ValueCount
from gateway.requests.services import Services


@dataclass(slots=True)
class RequestContext:
    """One request to one operation. `streaming`: its answer has begun; `body_bytes`: what is kept of its body."""

    operation: Operation
    services: Services
    principal: Principal
    scope: Scope
    receive: Receive
    send: Send
    streaming: bool = False
    body_bytes: int = 0

    @property
    def headers(self) -> Headers:
        """The request's."""
        return Headers(scope=self.scope)

    @property
    def path(self) -> Mapping[str, str]:
        """The values in the address."""
        found: dict[str, str] = self.scope["path_params"]
        return found

    def query(self) -> dict[str, str]:
        """The query's fields; where there is a body they stand there, and none in the query. Raises `ApiError`."""
        return read_query(self.scope["query_string"], () if self.operation.has_body else self.operation.fields)

    async def body(self, bytes_max: int) -> bytes:
        """Read the body. Its size counts against what all clients may send at once until `drop_body` is called.

        Reading may take a minute: the credential is checked again behind it. Raises `ApiError` and `ClientGone`.
        """
        limits, values = self.services.limits, ValueCount(self.services.settings.request_items)
        limits.large_bodies.check(self.principal.user)
        with self.services.authenticator.admit(self.principal) as access:
            body = await read_body(self.headers, self.receive, bytes_max, self._keep, values)
        access.check_held(self.principal.scopes)
        self.principal = access.principal
        limits.large_bodies.charge(self.principal.user, len(body))
        return body

    def _keep(self, size: int) -> None:
        self.services.limits.bodies.grow(self.body_bytes, size)
        self.body_bytes = size

    def drop_body(self) -> None:
        """What was asked for is under way, or refused."""
        self.services.limits.bodies.leave(self.body_bytes)
        self.body_bytes = 0

    def place(self, path: str) -> str:
        """The address of something here, as the client sees it: below the prefix that it came by."""
        prefix: str = self.scope.get("root_path", "")
        return prefix + path

    def session(self, *, reads: bool = False, stays: bool = False) -> HttpSession:
        """A session for this request; one that `stays` for long counts as a connection. Raises `ApiError`."""
        if stays and self.services.runner.draining:
            raise ApiError("shutting_down", retry_after_ms=1000)
        host = origin.host_of(self.scope) if stays else None
        return HttpSession(self.services, self.principal, reads=reads, host=host)


class Field(Struct, frozen=True):
    """A request header that an operation looks at."""

    name: str
    description: str
    pattern: str | None = None


class PartGet(p.Request, frozen=True, tag="part.get"):
    """Which part of which message."""

    message: p.Key
    number: Annotated[int, Meta(ge=0, le=999_999)]


class Answer(Struct, frozen=True, kw_only=True):
    """One way in which an operation answers: JSON of a `shape`, a stream of events, bytes (`*/*`), or no body."""

    status: int = 200
    description: str
    shape: type[Struct] | None = None
    streams: bool = False
    bytes: bool = False
    headers: tuple[str, ...] = ()


class Operation(Struct, frozen=True, kw_only=True):
    """One method at one path. `{names}` in the path are fields of `request`; `fields` are those in query or body.

    `public`: answered without a credential, to any origin.
    """

    method: str
    path: str
    summary: str
    serve: Callable[[RequestContext], Awaitable[Response | None]]
    answers: tuple[Answer, ...]
    request: type[p.Request] | None = None
    fields: tuple[str, ...] = ()
    headers: tuple[Field, ...] = ()
    public: bool = False

    @property
    def has_body(self) -> bool:
        """Whether `fields` stand in a body."""
        return self.method in {"POST", "PATCH"}
