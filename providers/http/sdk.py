"""The base of the dialects whose requests an official SDK builds, signs and sends.

The bytes of the stream are read without the SDK.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final

import httpx2

from providers.base import DeltaSink
from providers.endpoint import Endpoint
from providers.errors.failures import Failures
from providers.http.body import ResponseBody
from providers.http.sse import SseParser
from providers.http.stream import Decoder, DeltaStream, Parser
from providers.http.transport import body_of, http_client
from providers.route import Route
from providers.timeouts import Timeouts

_LISTS: Final = ("messages", "input", "tools")


def as_is(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return `arguments` for a method of an SDK, with the long lists moved to where the SDK sends them as they are.

    The SDK would convert the lists item by item, which takes a second for ten thousand items.
    """
    lists = {name: value for name in _LISTS if (value := arguments.get(name))}
    empty: list[Any] = []
    return arguments | dict.fromkeys(lists, empty) | {"extra_body": arguments.get("extra_body", {}) | lists}


class SdkDialect:
    """The client of one endpoint. A subclass sends the requests. See `dialect.Dialect`."""

    SDK_ERROR: type[Exception]
    """The base class of the SDK's exceptions."""
    CREDENTIAL_ERRORS: tuple[type[Exception], ...] = ()
    """The exceptions that a cloud's library raises if it finds no valid credentials."""
    PARSER: type[Parser] = SseParser
    """The parser of the streams."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
        self._failures = Failures(endpoint)
        self._timeouts = timeouts
        self.skipped_events = 0
        """The number of events so far that held no chunk of an answer."""
        client = http_client(timeouts, endpoint.proxy)
        self._client = self._create_client(
            endpoint, default_headers=endpoint.headers, max_retries=0, http_client=client
        )

    def _create_client(self, endpoint: Endpoint, **options: Any) -> Any:
        """Return the SDK's client with these options, which all SDKs have."""
        raise NotImplementedError

    def _timeout(self, route: Route) -> httpx2.Timeout:
        return httpx2.Timeout(self._timeouts.first_event_timeout_s(route), connect=self._timeouts.connect_s)

    async def _stream(self, opening: AbstractAsyncContextManager[Any], decoder: Decoder, sink: DeltaSink) -> None:
        """Send the request by entering `opening`, and pass the batches of the answer to `sink`. See `DeltaStream`.

        Raise `ProviderError` on failure.
        """
        with self._errors():
            body = await _open(opening)
            del opening
            timeouts = self._timeouts
            stream = DeltaStream(
                body, decoder, self._failures, timeouts.between_events_s, sink, self.PARSER(), timeouts.alive_s
            )
            try:
                await stream.run()
            finally:
                self.skipped_events += stream.skipped
                await body.aclose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the exceptions of the SDK and of the transport as `ProviderError`."""
        try:
            yield
        except (self.SDK_ERROR, httpx2.HTTPError) as error:
            raise self._failures.from_exception(error) from error
        except self.CREDENTIAL_ERRORS as error:
            raise self._failures.no_credentials(error) from error

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self._client.close()


async def _open(opening: AbstractAsyncContextManager[Any]) -> ResponseBody:
    """Send the request. Return the body of the response, which the caller closes.

    At its exit, the SDK's context would only close this body. Until then it would keep the request with all of its
    messages and the response, which take more memory than the rest of the stream.
    """
    response = await opening.__aenter__()
    return body_of(response.http_response)
