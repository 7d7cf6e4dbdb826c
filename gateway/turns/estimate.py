"""Estimate a start without sending it: its tokens, counted as for the trimming of a context, and its cost.

Nothing is stored, and no provider is asked.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from gateway.offload import offload, request_size
from gateway.protocol.requests import TurnStart
from gateway.protocol.views import input_role
from gateway.settings import Settings
from gateway.turns.accounts import cost_nano
from gateway.turns.answer_images import AnswerStore
from gateway.turns.context import History, Place, build_chat_request
from gateway.turns.continued_answer import load_answer
from gateway.turns.request_builder import fit_request
from gateway.turns.runner import TurnRunner
from gateway.turns.token_estimate import message_tokens, request_tokens
from providers.base import ChatMessage, ChatRequest, Usage
from providers.route import Route
from store.errors import NotFound


class Estimated(NamedTuple):
    """The estimate of a start. `size`, for `offload`, is the size of the whole request before it was trimmed.

    `output_tokens_max` is None if neither the request nor the model bounds the answer. `cost_nano` is the cost of the
    input alone, and `cost_max_nano` that of the input and the longest answer. Both are in billionths of a dollar, and
    None if they aren't known.
    """

    route: Route
    size: int
    input_tokens: int
    output_tokens_max: int | None
    cost_nano: int | None
    cost_max_nano: int | None
    omitted_messages: int


async def estimate_start(
    runner: TurnRunner, store: AnswerStore, settings: Settings, user: str, request: TurnStart
) -> Estimated:
    """Return the estimate of the start `request` of `user`.

    Raise `ApiError`, `ProviderError` or `StoreError` if the conversation, the model or the context can't be used. Limits
    and running turns aren't checked.
    """
    conversation, route, parent = await runner.resolve(user, request)
    new = ChatMessage(input_role(request.input_parts), tuple(request.input_parts)) if request.input_parts else None
    history = History(store, user, settings.context_bytes, settings.request_items, new)
    last = parent or (conversation.head if conversation is not None else None)
    place = Place(request.conversation, last, route.id)
    if parent is not None and request.conversation is not None:
        try:
            await store.branch(user, request.conversation, parent, bytes_max=1, count_max=1)
        except NotFound:
            raise NotFound("parent") from None
    whole = await build_chat_request(history, place, conversation, request, route.model, settings.system_prompt)
    is_stateless = request.messages is not None
    size = request_size(whole)
    fitted, input_tokens = await offload(size, _fit_and_count, route, whole, stateless=is_stateless)
    if request.continue_:
        input_tokens += message_tokens((await load_answer(store, user, request)).parts)
    output_tokens_max = request.params.max_tokens or route.max_output
    # In a thread, because the first use of the price list imports it.
    cost, cost_max = await asyncio.to_thread(_costs, route, input_tokens, output_tokens_max)
    return Estimated(route, size, input_tokens, output_tokens_max, cost, cost_max, fitted.omitted_messages)


def _fit_and_count(route: Route, chat_request: ChatRequest, *, stateless: bool) -> tuple[ChatRequest, int]:
    fitted = fit_request(route, chat_request, stateless=stateless)
    return fitted, request_tokens(fitted)


def _costs(route: Route, input_tokens: int, output_tokens_max: int | None) -> tuple[int | None, int | None]:
    written = input_tokens if route.quirks.prompt_cache else None  # costs more than other input
    longest = None if output_tokens_max is None else Usage(input_tokens, output_tokens_max, cache_write_tokens=written)
    return cost_nano(route, Usage(input_tokens, 0)), cost_nano(route, longest)
