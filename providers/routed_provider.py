"""Request an answer, or the rest of one, from one route of a dialect."""

from __future__ import annotations

from msgspec import structs

from providers.base import ChatRequest, DeltaSink, ProviderError
from providers.continuation import continuing_request
from providers.dialect import Dialect
from providers.retry.seam import AnotherAnswer
from providers.retry.seam_sink import SeamSink
from providers.route import Route


class RoutedProvider:
    """A `Provider` for one route of a dialect."""

    def __init__(self, dialect: Dialect, route: Route) -> None:
        self._dialect = dialect
        self._route = route

    async def answer(self, request: ChatRequest, sink: DeltaSink) -> None:
        """Check `request` before anything is sent, then pass the answer to `sink`. See `Provider`.

        Raise `ProviderError` if the model can't take the request or the answer fails.
        """
        self._route.check(request)
        if request.partial_answer and request.response_handle is None and self._route.dialect != "demo":
            await self._continue(request, sink)
        else:
            await self._dialect.answer(request, self._route, sink)

    async def _continue(self, request: ChatRequest, sink: DeltaSink) -> None:
        """Pass what follows the partial answer to `sink`, numbered after its parts."""
        route, quirks = self._route, self._route.quirks
        asked = route.continuation == "instruct"
        if quirks.background:  # only a whole answer can be replayed
            route = structs.replace(route, quirks=quirks.model_copy(update={"background": False}))
        stripped = route.dialect.startswith("anthropic")
        seam = SeamSink(request.partial_answer, sink, asked=asked, echoes=quirks.prefill_echoed, stripped=stripped)
        try:
            await self._dialect.answer(continuing_request(request, route), route, seam)
        except AnotherAnswer as error:
            message = f"The model {route.id} began another answer instead of continuing this one. Try again."
            raise ProviderError("upstream_incomplete", message, retryable=True, detail="another answer") from error
        except ProviderError:
            await seam.end()
            raise
        await seam.end()
