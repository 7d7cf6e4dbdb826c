"""Continue the stream of an answer after a reset: a record of what the client has. No I/O.

No dialect can take text back. After a reset, what the client has already is left out of the new answer. If the new
answer doesn't begin with it, the stream must end with an error (law 7).
"""

from __future__ import annotations

from msgspec import structs

from gateway.protocol.events import TurnPart


class Diverged(Exception):
    """The new answer doesn't begin with what the client has."""


class SentAnswer:
    """The parts of an answer that were sent. Everything that is sent must be added to `texts` and `signatures`.

    `is_behind`: after a reset, the new answer has not yet reached the end of what was sent. Until then, pass it through
    `is_new`, `unsent_text` and `unsent_signature`. They raise `Diverged`.
    """

    def __init__(self) -> None:
        self.texts: list[list[str]] = []
        self.signatures: list[list[str]] = []
        self.is_behind = False
        self._parts: list[TurnPart] = []
        self._seen = 0
        self._sent_texts: list[str] = []
        self._sent_signatures: list[str] = []
        self._text_cursors: list[int] = []
        self._signature_cursors: list[int] = []

    def reset(self) -> None:
        """Begin the answer again."""
        self._sent_texts = ["".join(pieces) for pieces in self.texts]
        self._sent_signatures = ["".join(pieces) for pieces in self.signatures]
        self._text_cursors = [0] * len(self._parts)
        self._signature_cursors = [0] * len(self._parts)
        self._seen = 0
        self.is_behind = bool(self._parts)

    def is_new(self, part: TurnPart) -> bool:
        """Return whether this part, the next one of the answer, has to be sent."""
        if not self.is_behind:
            self._parts.append(part)
            self.texts.append([])
            self.signatures.append([])
            return True
        if self._seen == len(self._parts) or _fields(part) != _fields(self._parts[self._seen]):
            raise Diverged
        self._seen += 1
        self._compare()
        return False

    def unsent_text(self, part: int, text: str) -> str:
        """Return the end of `text`, the next text of part number `part`, that wasn't sent; empty if all of it was."""
        return self._unsent(self._sent_texts, self._text_cursors, part, text)

    def unsent_signature(self, part: int, signature: str) -> str:
        """Return the end of `signature`, the next piece of the signature of part number `part`, that wasn't sent."""
        return self._unsent(self._sent_signatures, self._signature_cursors, part, signature)

    def check_whole(self) -> None:
        """Check at the end of the answer that it has everything that was sent."""
        if self.is_behind:
            raise Diverged

    def _unsent(self, sent: list[str], cursors: list[int], part: int, text: str) -> str:
        start = cursors[part]
        known = sent[part][start : start + len(text)]
        if not text.startswith(known):
            raise Diverged
        rest = text[len(known) :]
        is_last = part == len(self._parts) - 1
        if rest and not is_last and self._parts[part].kind != "tool_call":
            raise Diverged  # the client has later parts, so this one can't grow
        if rest and any(self._text_cursors[n] < len(self._sent_texts[n]) for n in range(part)):
            raise Diverged  # an earlier part is shorter so far than what the client has
        cursors[part] = start + len(known)
        self._compare()
        return rest

    def _compare(self) -> None:
        """End the comparison if the new answer has everything that was sent."""
        self.is_behind = not (
            self._seen == len(self._parts)
            and all(map(_is_at_end, self._sent_texts, self._text_cursors))
            and all(map(_is_at_end, self._sent_signatures, self._signature_cursors))
        )


def _is_at_end(sent: str, cursor: int) -> bool:
    return cursor == len(sent)


def _fields(part: TurnPart) -> TurnPart:
    return structs.replace(part, turn="", seq=0, after=None)
