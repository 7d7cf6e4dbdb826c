"""The fields of a delta of Chat Completions that hold reasoning, beside its content. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from providers.delta_buffer import DeltaBuffer
from providers.openai.chat_schema import Delta, Piece, encode_detail
from providers.openai.reasoning import Reasoning
from providers.thoughts import thought_text


class ReasoningFields:
    """The reasoning of one answer in fields of its own, of which several may have the same text.

    `keeps_details`: the signatures are whole details, as OpenRouter wants them back.
    """

    def __init__(self, parts: DeltaBuffer, reasoning: Reasoning, *, keeps_details: bool) -> None:
        self.signed: set[int] = set()
        """The numbers of the reasoning parts that have their signature."""
        self._parts = parts
        self._reasoning = reasoning
        self._keeps_details = keeps_details

    def add(self, delta: Delta) -> None:
        """Add the reasoning of `delta`."""
        reasoning = self._reasoning
        if value := delta.reasoning_content:
            reasoning.add("reasoning_content", value if isinstance(value, str) else thought_text(value))
        if value := delta.reasoning:
            reasoning.add("reasoning", value if isinstance(value, str) else thought_text(value))
        if delta.reasoning_text or delta.thinking or delta.thinking_blocks:
            reasoning.add("reasoning_text", thought_text(delta.reasoning_text))
            reasoning.add("thinking", thought_text(delta.thinking))
            reasoning.add("thinking_blocks", thought_text(delta.thinking_blocks))
        if delta.thoughts or delta.thought or delta.reasoning_summary:
            reasoning.add("thoughts", thought_text(delta.thoughts))
            reasoning.add("thought", thought_text(delta.thought))
            reasoning.add("reasoning_summary", thought_text(delta.reasoning_summary))
        if details := delta.reasoning_details:
            self._add_details(details if isinstance(details, list) else [details])

    def _add_details(self, details: Sequence[Piece | str]) -> None:
        """Process reasoning in the format of OpenRouter."""
        parts = self._parts
        for detail in details:
            if isinstance(detail, str):
                self._reasoning.add_snapshot("reasoning_details", detail)
                continue
            text = detail.words or thought_text(detail.summary)
            self._reasoning.add_snapshot("reasoning_details" if detail.words else "reasoning_summaries", text)
            if signature := detail.signature or detail.data:
                part = self._reasoning.part if text else parts.last if parts.last_kind == "reasoning" else -1
                if part < 0 or part in self.signed:
                    part = parts.open_part("reasoning", redacted=detail.data is not None)
                self.signed.add(part)
                parts.append_signature(part, encode_detail(detail) if self._keeps_details else signature)
