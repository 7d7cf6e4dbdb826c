"""The content blocks of a message as parts: those of the stream, and those of `message_start`. This module does no I/O."""

from __future__ import annotations

from typing import Any

from providers.anthropic.schema import Block, Citation, Delta
from providers.call_arguments import OpenCall, OpenCalls, as_text
from providers.delta_buffer import DeltaBuffer
from providers.media import Media
from providers.tagged_text import TaggedText
from providers.thoughts import is_thought_type, thought_text


class ContentBlocks:
    """The blocks so far. `text` takes the text of a host that may send reasoning in it. None for any other host."""

    def __init__(self, parts: DeltaBuffer, text: TaggedText | None) -> None:
        self.is_open = False
        """Whether the last block that started hasn't stopped."""
        self.has_hosted = False
        """Whether the provider has run a tool itself."""
        self.calls = OpenCalls(parts)
        self._parts = parts
        self._text = text
        self._thoughts: set[int] = set()
        """The indexes of the blocks of reasoning."""
        self._images: dict[int, Block] = {}
        """Map from a block's index to its image, whose data hasn't arrived yet."""
        self._held: list[Block] = []
        """The blocks that came with `message_start`. They are used unless the stream begins them again."""
        self._open_calls: dict[int, OpenCall] = {}
        """Map from a block's index to its tool call."""
        self._initial_arguments: dict[OpenCall, str] = {}
        """Map from a tool call to its initial arguments, used only if no others arrive."""
        self._initial_thoughts: dict[int, tuple[str, int]] = {}
        """Map from a block's index to the thinking at its start, and how many of its characters a host has repeated."""
        self._media = Media(parts)

    def hold(self, content: list[Block] | str | None) -> None:
        """Hold back the blocks that came with `message_start`, which some hosts begin again."""
        self._held = ([Block(type="text", text=content)] if isinstance(content, str) else content) or self._held

    def use_held(self) -> None:
        """Add the blocks that came with `message_start`, if no event has begun them again."""
        held, self._held = self._held, []
        for index, block in enumerate(held):
            self._start(index, block)
            self.stop(index)

    def start(self, index: int, block: Block) -> None:
        """Start the block number `index`."""
        if self._held:
            if index < len(self._held):
                self._held = []
            self.use_held()
        self._start(index, block)

    def add(self, index: int, delta: Delta) -> None:
        """Add a delta of the block number `index`."""
        if self._held:
            self.use_held()
        if delta.type == "text_delta" and index not in self._thoughts:
            if self._text is None:
                self._parts.append_text("text", delta.text or "")
            else:
                self._text.append(delta.text or "")
        elif is_thought_type(delta.type) or (delta.text and index in self._thoughts) or delta.thinking:
            self._think(index, thought_text(delta.thinking or delta.reasoning or delta.text))
        elif delta.type == "input_json_delta":
            call = self._open_calls.get(index)
            if call is not None and delta.partial_json:
                self._initial_arguments.pop(call, None)
                self._open_calls[index] = self.calls.append(call, as_text(delta.partial_json))
        elif delta.type == "signature_delta":
            if delta.signature:
                self._sign(index, delta.signature)
        else:
            self._add_other_delta(index, delta)

    def stop(self, index: int) -> None:
        """Finish the block number `index`."""
        self.is_open = False
        if self._images:
            self._close_image(index)
        if (call := self._open_calls.get(index)) is not None:
            self._open_calls[index] = self.calls.append(call, self._initial_arguments.pop(call, ""))

    def close(self, *, complete: bool) -> None:
        """Finish the answer. If it is `complete`, add what the blocks began with if nothing else has arrived."""
        if self._text is not None:
            self._text.close()
        if complete:
            for index in list(self._images):
                self._close_image(index)
            for call, arguments in self._initial_arguments.items():
                self.calls.append(call, arguments)
        self.calls.close(complete=complete)
        if complete:
            self._media.close()

    def _start(self, index: int, block: Block) -> None:
        """Start a block. The part of a text or thinking block starts with its first content: some blocks stay empty."""
        self.is_open = True
        # Some hosts give several blocks one index.
        self._parts.remove_key(index)
        self._open_calls.pop(index, None)
        self._thoughts.discard(index)
        self._initial_thoughts.pop(index, None)
        if self._text is not None and block.type not in ("text", "thinking"):
            self._text.settle()
        if block.type == "tool_use":
            call = self._open_calls[index] = self.calls.open(block.id or "", block.name or "")
            self._initial_arguments[call] = as_text(block.input)
        elif block.type in ("server_tool_use", "mcp_tool_use"):
            self.has_hosted = True
        elif block.type == "redacted_thinking":
            self._parts.append_signature(self._parts.open_part("reasoning", redacted=True), block.data or "")
        elif block.type == "text":
            self._append_text(block.text or "")
            for citation in block.citations or ():
                self._add_citation(citation)
        elif is_thought_type(block.type):
            self._start_thinking(index, block)
        else:
            self._add_other(index, block)

    def _start_thinking(self, index: int, block: Block) -> None:
        self._thoughts.add(index)
        thought = thought_text(block.thinking or block.reasoning or block.text)
        if thought or block.signature:
            part = self._parts.open_part("reasoning", key=index)
            self._parts.append(part, thought)
            self._initial_thoughts[index] = thought, 0
            self._parts.append_signature(part, block.signature or "")
            if self._text is not None:
                self._text.record(thought, block.signature or "")

    def _append_text(self, text: str) -> None:
        if self._text is None:
            self._parts.append_text("text", text)
        else:
            self._text.append(text)

    def _add_other(self, index: int, block: Block) -> None:
        """Add a block of another type: its text, its image, or a sentence in its place."""
        if "image" in block.type:
            self._images[index] = block
        elif block.text and not block.type.endswith(("_use", "_result")):
            self._append_text(block.text)
        else:
            self._media.add_piece(block.type, block)

    def _add_other_delta(self, index: int, delta: Delta) -> None:
        if delta.type.startswith("image"):
            self._add_image(index, delta.source or delta.data)
        elif not delta.type and delta.text:
            self._append_text(delta.text)
        elif delta.type == "citations_delta" and delta.citation is not None:
            self._add_citation(delta.citation)

    def _think(self, index: int, text: str) -> None:
        if thought := self._without_initial(index, text):
            self._parts.append(self._thinking_part(index), thought)
            if self._text is not None:
                self._text.record(thought)

    def _sign(self, index: int, signature: str) -> None:
        self._parts.append_signature(self._thinking_part(index), signature)
        if self._text is not None:
            self._text.record(signature=signature)

    def _add_image(self, index: int, image: Any) -> None:
        """Add the image that arrives after the start of its block."""
        if image:
            block = self._images.pop(index, Block())
            claimed = block.source.get("media_type") if isinstance(block.source, dict) else block.media_type
            self._media.add_image(image, claimed if isinstance(claimed, str) else "")

    def _close_image(self, index: int) -> None:
        if (block := self._images.pop(index, None)) is not None:
            self._media.add_piece(block.type, block)

    def _without_initial(self, index: int, thought: str) -> str:
        """Return `thought` without the thinking that the start of its block already had: some hosts repeat it."""
        initial, repeated = self._initial_thoughts.pop(index, ("", 0))
        if not initial:
            return thought
        left = len(initial) - repeated
        if len(thought) >= left and thought.startswith(initial[repeated:]):
            return thought[left:]
        if initial.startswith(thought, repeated):
            self._initial_thoughts[index] = initial, repeated + len(thought)
            return ""
        return initial[:repeated] + thought

    def _add_citation(self, citation: Citation) -> None:
        self._parts.add_citation(
            url=citation.url, title=citation.title or citation.document_title, text=citation.cited_text
        )

    def _thinking_part(self, index: int) -> int:
        part = self._parts.find_part(index)
        return part if part is not None else self._parts.open_part("reasoning", key=index)
