"""Titles that a model writes: once the first prompt of a conversation has an answer, if the operator has turned that on.

Each is an ordinary turn of the user without a conversation, so it is counted in the user's usage and budget. It begins after
the answer has ended, so no turn waits for it; if too many titles are being written, the conversation keeps the title it has.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Literal

import structlog

from gateway.offload import offload
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from gateway.protocol.plain_text import escape_invisible
from gateway.protocol.requests import InputMessage, TurnStart
from gateway.protocol.views import TITLE_CHARS_MAX, body_of, title_of, update_event
from gateway.tasks import spawn
from gateway.turns.abort import Abort
from gateway.turns.instance import Instance
from gateway.turns.live_turn import LiveTurn
from gateway.turns.message_fold import fold
from gateway.turns.prepared_start import prepare
from gateway.turns.starter import TurnStarter
from gateway.turns.subscriptions import ConversationSubscriptions
from providers.base import Params, Part, ProviderError, TextPart
from providers.catalog.catalog import Catalog
from providers.catalog.costs import per_million
from providers.continuation import said_text
from store.errors import StoreError
from store.records import Change

log = structlog.stdlib.get_logger("turnwire.turn")

OFF, AUTO = "off", "auto"
TEXT_CHARS_MAX = 2000
"""How much of the prompt, and how much of the answer, the model is shown."""
TOKENS_MAX = 24
THINKING_TOKENS_MAX = 512
"""For a thinking model: some think a little, even if they are told not to."""
TIMEOUT_S = 20.0
AT_ONCE = 8
FIRST_EXCHANGE = 2
EARLY_MESSAGES_MAX = 16
"""How many messages a conversation may have by then: other answers to its first prompt, and prompts that wait in the queue."""
READ_BYTES_MAX = 262_144
INPUT_PER_OUTPUT = 40
"""About how many tokens of input a title takes for each of its own, to compare prices."""

_INSTRUCTION = (
    "Write a title for the conversation below: 2 to 6 words, in the language of its first message, on one line, without "
    "quotation marks, markup or a final period. Answer with the title alone."
)
_AROUND = " \t#>*_`\"'“”„«»-."
"""What is removed around a title: markup, quotation marks, a final period."""

Result = Literal["written", "failed", "skipped", "superseded"]


class Titles:
    """The titles that this instance writes: at most one for each user, and `AT_ONCE` together, at a time."""

    def __init__(self, instance: Instance, starter: TurnStarter, subscriptions: ConversationSubscriptions) -> None:
        self._instance = instance
        self._starter = starter
        self._subscriptions = subscriptions
        self._model: str | None = None
        self._users: set[str] = set()
        self._warn_of_unusable_model()

    def _warn_of_unusable_model(self) -> None:
        chosen = self._instance.settings.titles
        if chosen != AUTO:
            try:
                self._instance.catalog.resolve(chosen)
            except ProviderError as error:
                log.warning("no titles can be written", setting="TURNWIRE_TITLES", error=str(error))

    def on_completed(self, live_turn: LiveTurn) -> None:
        """Write a title for the conversation of the turn, whose answer is complete, if it needs one. Never awaits."""
        if live_turn.conversation is None:
            return
        running_max = self._instance.settings.user_running_turns
        is_busy = running_max and len(self._instance.registry.live(live_turn.user)) * 2 >= running_max
        if live_turn.user in self._users or len(self._users) >= AT_ONCE or is_busy:
            self._count("skipped")
            return
        self._users.add(live_turn.user)
        spawn(self._instance.tasks, self._run(live_turn.user, live_turn.conversation, live_turn.message))

    def _count(self, result: Result) -> None:
        self._instance.telemetry.titles.labels(result).inc()

    async def _run(self, user: str, conversation: str, answer: str) -> None:
        try:
            result = await self._write(user, conversation, answer)
            if result is not None:
                self._count(result)
        except (ApiError, ProviderError, StoreError) as error:
            self._count("failed")
            log.info("title not written", conversation=conversation, error=str(error))
        except Exception:
            self._count("failed")
            log.exception("title not written", conversation=conversation)
        finally:
            self._users.discard(user)

    async def _write(self, user: str, conversation: str, answer: str) -> Result | None:
        """Write a title. Return None if the conversation needs none."""
        store = self._instance.store
        record = await store.conversation(user, conversation)
        if record.messages > EARLY_MESSAGES_MAX:
            return None
        exchange, older = await store.branch(user, conversation, answer, READ_BYTES_MAX, FIRST_EXCHANGE)
        if older or len(exchange) != FIRST_EXCHANGE:
            return None
        size = sum(len(message.body) for message in exchange)
        prompt, said = [(await offload(size, body_of, message)).parts for message in exchange]
        if record.title != title_of(prompt):
            return None
        model = await self._find_model()
        if model is None:
            return "skipped"
        title = title_from(await self._ask(user, model, prompt, said))
        if not title:
            return "failed"
        change = Change(title=title, replaced_title=record.title)
        changed = await store.update_conversation(user, conversation, change, now_ms())
        if changed.title != title:
            return "superseded"
        await self._subscriptions.send(user, conversation, update_event(changed))
        return "written"

    async def _find_model(self) -> str | None:
        """Return the model that writes titles, or None if `auto` finds none."""
        chosen = self._instance.settings.titles
        if chosen != AUTO:
            return chosen
        if self._model is None:
            # In a thread, because the first use of the price list imports it.
            self._model = await asyncio.to_thread(cheapest_model, self._instance.catalog)
        return self._model

    async def _ask(self, user: str, model: str, prompt: list[Part], said: list[Part]) -> str:
        """Return what the model says. Raises `ApiError` if its turn isn't accepted or isn't completed in time."""
        settings = self._instance.settings
        shown = f"User: {said_text(prompt)[:TEXT_CHARS_MAX]}\n\nAssistant: {said_text(said)[:TEXT_CHARS_MAX]}"
        thinks = self._instance.catalog.resolve(model).thinks
        request = TurnStart(
            model=model,
            messages=[InputMessage(role="user", parts=[TextPart(f"{_INSTRUCTION}\n\n{shown}")])],
            params=Params(
                max_tokens=THINKING_TOKENS_MAX if thinks else TOKENS_MAX, reasoning="none" if thinks else None
            ),
        )
        prepared = prepare(
            request, settings.input_bytes, settings.body_bytes, settings.request_items, settings.metadata_bytes
        )
        live_turn, _ = self._starter.start(user, request, prepared)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.shield(live_turn.accepted)
                await live_turn.ended.wait()
        except TimeoutError:
            live_turn.signal.abort(Abort("limit", "The title took too long."))
            raise ApiError("upstream_timeout") from None
        if live_turn.state != "completed":
            raise ApiError("upstream_error", "The model that writes titles failed. See the log of its turn.")
        return said_text(fold(live_turn.log.events))


def cheapest_model(catalog: Catalog) -> str | None:
    """Return the usable model with the lowest known price for a title, or None. This may import the price list."""
    prices = {
        info.id: INPUT_PER_OUTPUT * Decimal(info.price["input"]) + Decimal(info.price["output"])
        for info in catalog.models(per_million)
        if info.price is not None and info.available and not info.legacy and info.type != "demo"
    }
    return min(prices, key=lambda model: (prices[model], model), default=None)


def title_from(said: str) -> str:
    """Return the first line of what a model said as a title: without markup and quotation marks, at most 60 characters."""
    for line in said[:TEXT_CHARS_MAX].splitlines():
        title = escape_invisible(" ".join(line.split())).strip(_AROUND)
        label, colon, rest = title.partition(":")
        if colon and label.strip(_AROUND).casefold() == "title":
            title = rest.strip(_AROUND)
        if title:
            return title if len(title) <= TITLE_CHARS_MAX else title[: TITLE_CHARS_MAX - 1].rstrip() + "…"
    return ""
