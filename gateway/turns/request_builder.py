"""One turn's question, cut to each model that is tried for it, and what clients are told of the trying."""

from __future__ import annotations

from msgspec import structs

from gateway.offload import aside, size_of
from gateway.turns.context import fits, trimmed
from gateway.turns.event_writer import EventWriter
from providers.base import ChatRequest, Delta, DeltaSink, ProviderError
from providers.route import Route

ANSWER_TOKENS = 4096


async def check(route: Route, question: ChatRequest) -> None:
    """Raise `ProviderError` for what the model can't take."""
    route.check(question)
    await aside(size_of(question), route.check_length, question)


class RequestBuilder:
    """The `Asker` of one turn, which wants `wanted` to answer `question`: the whole of it, untrimmed."""

    def __init__(self, event_writer: EventWriter, wanted: Route, question: ChatRequest, *, stateless: bool) -> None:
        self.taker: DeltaSink = lambda _: False
        """What takes the batches of an answer that has begun."""
        self._event_writer = event_writer
        self._wanted = wanted
        self._question = question
        self._stateless = stateless
        self._trimmed = 0
        self._size = size_of(question)

    async def question(self, route: Route) -> ChatRequest:
        """What to ask this model. Raises `ProviderError`: it can't take that, or, a fallback, hasn't the room for it."""
        return await aside(self._size, self._cut, route)

    def _cut(self, route: Route) -> ChatRequest:
        question = structs.replace(self._question, model=route.model)
        answer_tokens = question.params.max_tokens
        if route is not self._wanted:
            question = structs.replace(question, messages=tuple(message.unsigned() for message in question.messages))
        if route is not self._wanted and answer_tokens is not None and route.max_output is not None:
            answer_tokens = min(answer_tokens, route.max_output)
            question = structs.replace(question, params=structs.replace(question.params, max_tokens=answer_tokens))
        if answer_tokens is None:
            answer_tokens = min(route.max_output or ANSWER_TOKENS, (route.context_window or 0) // 4)
        if not self._stateless:
            question, _ = trimmed(question, route.context_window, answer_tokens)
        route.check(question)
        route.check_length(question)
        if route is not self._wanted and not fits(question, route.context_window, answer_tokens):
            raise ProviderError("context_length_exceeded", f"The conversation is too long for the model {route.id}.")
        return question

    def falling_back(self, route: Route) -> None:
        """See `Asker`."""
        self._event_writer.live_turn.model = route.id
        self._event_writer.watch.falling_back(route)
        self._event_writer.status(status="fallback", model=route.id)

    def requesting(self, route: Route, question: ChatRequest) -> None:
        """See `Asker`."""
        dropped = question.left_out + len(self._question.messages) - len(question.messages)
        if dropped != self._trimmed:
            self._trimmed = dropped
            self._event_writer.status(status="trimmed", messages=dropped)
        self._event_writer.asked(route, question)

    def failed(self, route: Route, error: ProviderError) -> None:
        """See `Asker`."""
        self._event_writer.watch.failed(route, error)

    def retrying(self, attempt: int, delay_ms: int) -> None:
        """See `Asker`."""
        self._event_writer.watch.retrying()
        self._event_writer.status(status="retrying", attempt=attempt, delay_ms=delay_ms)

    def take(self, batch: list[Delta]) -> bool:
        """See `Asker`."""
        return self.taker(batch)
