"""The short way for the chunks of a chat stream that differ from an earlier one only in their plain text.

`ChatDecoder` is the truth. A chunk that it has decoded teaches the bytes before and after the text. A later chunk with the same
bytes around a text without quotes, backslashes and control characters is the same JSON with another text, so it needs no parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from providers.http.sse import Event
from providers.openai.chat_schema import Choice, Chunk, Delta, chunk_decoder

if TYPE_CHECKING:
    from providers.openai.chat_chunks import ChatDecoder

LESSONS_MAX: Final = 8
"""After so many lessons without a use, nothing is learned any more: each chunk of this stream differs in more than its text."""
CHUNK_BYTES_MAX: Final = 4096
_BEGIN, _END = b"data: ", b"\n\n"
_PLACEHOLDER: Final = "Turnwire"


class PlainChunks:
    """The short way of one stream. It is open while the decoder would only append the text to the current part."""

    __slots__ = ("_before", "_behind", "_between", "_decoder", "_is_open", "_lessons", "_record", "_watched", "part")

    def __init__(self, decoder: ChatDecoder) -> None:
        self._decoder = decoder
        self._is_open = False
        self._lessons = LESSONS_MAX
        self._before = self._behind = self._between = b""
        """The bytes before and after the text, and between the texts of two chunks. They are empty before the first lesson."""
        self.part = -1
        self._watched: list[str] | None = None
        self._record = decoder.record_text

    def decode(self, chunk: bytes) -> str | None:
        """Return the text of one or more chunks as the decoder would, or None if they have to go the long way."""
        if not self._is_open or len(chunk) > CHUNK_BYTES_MAX:
            return None
        if not chunk.startswith(self._before) or not chunk.endswith(self._behind):
            return None
        raw = chunk[len(self._before) : len(chunk) - len(self._behind)]
        try:
            if self._between in raw:
                text = "".join([piece.decode() for piece in raw.split(self._between)])
            else:
                text = raw.decode()
        except UnicodeDecodeError:
            return None
        if not text or '"' in text or "\\" in text or not text.isprintable():
            return None
        if self._watched is not None:
            if "<" in text:
                return None
            self._watched.append(text)
        self._record(text)
        self._lessons = LESSONS_MAX
        return text

    def observe(self, chunk: bytes, events: list[Event]) -> None:
        """Open the short way if the chunk, which went the long way and held `events`, shows that it may be used."""
        # The parser is between two events if the chunk ended with a blank line.
        self._is_open = chunk.endswith(_END) and self._decoder.only_appends_text and self._knows(chunk, events)
        if self._is_open:
            self.part, self._watched = self._decoder.parts.last, self._decoder.watched_text

    def _knows(self, chunk: bytes, events: list[Event]) -> bool:
        """Return whether the bytes around the last text of the chunk are known, or could be learned from it."""
        if self._before and chunk.startswith(self._before) and chunk.endswith(self._behind):
            return True
        if not self._lessons or not events or len(chunk) > CHUNK_BYTES_MAX:
            return False
        data = events[-1][1]
        if not chunk.endswith(b"%b%b%b" % (_BEGIN, data, _END)):
            return False
        self._lessons -= 1
        return self._learn(data)

    def _learn(self, data: bytes) -> bool:
        """Learn the bytes around the text of a chunk that holds nothing else. Return whether it is such a chunk."""
        try:
            choices = chunk_decoder.decode(data).choices
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        content = choices[0].delta.content if choices and choices[0].delta is not None else None
        if not isinstance(content, str) or not content.isprintable():
            return False
        quoted = b'"%b"' % content.encode()
        start = data.find(quoted) + 1
        if not start or quoted in data[start:]:
            return False
        before, behind = data[:start], data[start + len(quoted) - 2 :]
        # This is what the decoder would get for any other text: nothing but the text.
        plain = Chunk(choices=[Choice(self._decoder.choice, Delta(_PLACEHOLDER))])
        if chunk_decoder.decode(before + _PLACEHOLDER.encode() + behind) != plain:
            return False
        self._before, self._behind = _BEGIN + before, behind + _END
        self._between = self._behind + self._before
        return True
