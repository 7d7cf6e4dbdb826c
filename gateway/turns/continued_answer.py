"""The answer that a `turn.start` with `continue` goes on from: read it, and check that a model can go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import TurnStart
from gateway.protocol.views import body_of
from gateway.turns.continuation import can_continue
from providers.base import CitationPart, Part, ReasoningPart, TextPart
from providers.continuation import way_to_continue
from providers.route import Route
from store.api import HistoryStore
from store.errors import NotFound


class ContinuedAnswer(NamedTuple):
    """A stored answer. `parent` is the message that it answers, `model` the model that wrote it."""

    parent: str
    model: str | None
    parts: list[Part]


async def load_answer(store: HistoryStore, user: str, request: TurnStart) -> ContinuedAnswer:
    """Return the answer that `request` continues. Raises `ApiError` if it is no answer, and `StoreError`."""
    message = request.parent or ""
    try:
        record = await store.message(user, message)
    except NotFound:
        raise ApiError(
            "not_found",
            "The answer in `parent` was not found. Check the id. If it is still being written, wait for its ending.",
            path="parent",
        ) from None
    if record.role != "assistant" or record.parent is None:
        raise ApiError(
            "invalid_request",
            "`continue` goes on from an answer, and `parent` isn't one. Send the id of an assistant message.",
            path="continue",
        )
    body = await offload(len(record.body), body_of, record)
    return ContinuedAnswer(record.parent, body.model, body.parts)


def check_answer(answer: ContinuedAnswer, request: TurnStart, routes: Sequence[Route], bytes_max: int) -> None:
    """Check that a model of `routes` can go on from the answer. Raise `ApiError` "unsupported" if not.

    `routes`: those of the model that the request asks for, and of its fallbacks. `bytes_max`: the bound of an answer.
    """
    way = way_to_continue(answer.parts, request.params.response_format)
    if way == "restart":
        raise _unsupported(
            "This answer has no text to go on from. Leave `continue` out, and name its parent in `parent`."
        )
    if way is None and all(isinstance(part, TextPart | ReasoningPart | CitationPart) for part in answer.parts):
        raise _unsupported(
            "An answer in a format can't be continued. Leave out `params.response_format`, or start again."
        )
    if way is None:
        raise _unsupported(
            "An answer with a tool call, an image, a file or a refusal can't be continued. Send `input` instead."
        )
    if sum(_size(getattr(part, "text", None)) + _size(part.signature) for part in answer.parts) >= bytes_max:
        raise _unsupported("This answer is as long as an answer may be. Send `input` that asks for the rest.")
    if not any(can_continue(route, way) for route in routes):
        raise _unsupported(
            f"The model {routes[0].id} can't go on from the start of its answer. Choose a model whose `continues` is true "
            "in models.list, or send `input` that asks for the rest."
        )


def _size(text: str | None) -> int:
    """Return about the number of bytes, as `event_size` counts those of an answer."""
    return 0 if text is None else len(text) if text.isascii() else 3 * len(text)


def _unsupported(message: str) -> ApiError:
    return ApiError("unsupported", message, path="continue")
