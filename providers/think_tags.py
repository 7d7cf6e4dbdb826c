"""The separation of reasoning that a host sends inside the text, between tags such as `<think>` and `</think>`.

Some chat templates write the opening tag into the prompt, so that the text has only the closing tag: everything before
it is reasoning. A tag in the middle of an ordinary answer stays text. This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal

TAGS: Final = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<mm:think>": "</mm:think>",
    "<seed:think>": "</seed:think>",
    "<longcat_think>": "</longcat_think>",
    "<|channel>thought": "<channel|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "[think]": "[/think]",
    "◁think▷": "◁/think▷",
}
"""Map from each opening tag to its closing tag. Upper and lower case aren't distinguished."""

REASONING_RESTATED: Final = "the model's reasoning was taken for its answer, so both are sent again"
ANSWER_RESTATED: Final = "the model's answer was taken for reasoning, so it is sent again"

TAG_MAX: Final = max(map(len, (*TAGS, *TAGS.values())))
_CLOSE: Final = {tag: re.compile(re.escape(close), re.IGNORECASE) for tag, close in TAGS.items()}

BLANKS_MAX: Final = 1000
"""The maximum number of characters (white space and the start of a tag) that are held back for the rest of the tag."""
WATCH_MAX: Final = 1_000_000
"""The maximum number of characters of text before a closing tag whose opening tag is missing."""

_LONE_CLOSE: Final = ("</think>", "</thinking>", "</thought>", "</reasoning>", "</mm:think>", "</seed:think>")
"""The closing tags whose opening tag may be in the prompt."""
_AT_START: Final = (*TAGS, *_LONE_CLOSE)
_WATCHED_TAGS: Final = (*(tag for tag, close in TAGS.items() if close in _LONE_CLOSE), *_LONE_CLOSE)
_WATCHED: Final = re.compile("|".join(map(re.escape, _WATCHED_TAGS)), re.IGNORECASE)
_QUOTES: Final = ("`", "'", '"', "\u201c", "\u2018", "«", "(", "<")
_AFTER_A_WORD: Final = (" ", "\t", *",.;:!?)")

Piece = tuple[Literal["reasoning", "text", "restated"], str]
"""A kind and a text. "restated": all text so far was reasoning, and the piece has all of it."""


class ThinkTags:
    """An incremental parser of one text. It holds back a possible start of a tag, which may be split over chunks.

    `is_opened`: the prompt has the opening tag, so the text begins with reasoning, unless it has an opening tag itself.
    `may_restate` is asked whether the text so far may still become reasoning; None means that it never may.
    """

    def __init__(self, *, is_opened: bool = False, may_restate: Callable[[], bool] | None = None) -> None:
        self._state: Literal["before", "entering", "thinking", "leaving", "watching", "after"] = "before"
        self._pending = ""
        self._tag = "<think>"
        self._is_opened = is_opened
        self._may_restate = may_restate
        self.watched: list[str] | None = None
        """The text so far, if it may still become reasoning. The caller may add text without "<" to it, instead of
        calling `feed`. None in any other state."""
        self._text: list[str] = []
        self.is_assumed = False
        """Whether the text was taken for reasoning, although no tag has said so."""

    def feed(self, text: str) -> list[Piece]:
        """Return the pieces of reasoning and text that `text` adds."""
        if self._state == "after":
            return [("text", text)]
        if self._pending:
            text, self._pending = self._pending + text, ""
        if self._state == "watching":
            return self._watching(text)
        if self._state == "before":
            return self._before(text)
        if self._state == "entering":
            return self._entering(text)
        if self._state == "thinking":
            return self._thinking(text)
        return self._leaving(text)

    @property
    def is_done(self) -> bool:
        """Whether everything that follows is text."""
        return self._state == "after"

    def expect_text(self) -> None:
        """Record that the reasoning comes in a field of its own, so that text without tags is the answer."""
        self._is_opened = False

    def settle(self) -> list[Piece]:
        """Return the pieces for a closing tag at the end of the text so far, because something other than text follows it."""
        if self._state != "watching" or self._pending.lower() not in _LONE_CLOSE:
            return []
        pending, self._pending = self._pending, ""
        return self._judge(pending, "")

    def close(self) -> list[Piece]:
        """Return the text that was held back for the rest of a tag."""
        pending, self._pending = self._pending, ""
        if not pending or (self._state == "leaving" and pending.isspace()):
            return []
        if self._state == "watching" and pending.lower() in _LONE_CLOSE:
            return self._judge(pending, "")
        if self._state == "leaving" and pending.strip().lower() in _LONE_CLOSE:
            return []
        return [("reasoning" if self._state == "thinking" else "text", pending)]

    def _before(self, text: str) -> list[Piece]:
        start = text.lstrip()
        if (tag := _tag_at_start(start)) is not None:
            if tag in TAGS:
                self._tag = tag
                self._state = "entering"
                return self._entering(start[len(tag) :])
            # The reasoning came in another field, or there was none.
            self._state = "leaving"
            return self._leaving(start[len(tag) :])
        if len(text) <= BLANKS_MAX and (not start or _is_start_of_tag(start)):
            self._pending = text
            return []
        return self._begin_text(text)

    def _begin_text(self, text: str) -> list[Piece]:
        if self._is_opened:
            self.is_assumed = True
            self._state = "thinking"
            return self._thinking(text)
        if self._may_restate is None:
            self._state = "after"
            return [("text", text)]
        self._state = "watching"
        return self._watching(text)

    def _entering(self, text: str) -> list[Piece]:
        """Skip the line breaks between the opening tag and the reasoning."""
        text = text.lstrip("\n")
        if not text:
            return []
        self._state = "thinking"
        return self._thinking(text)

    def _thinking(self, text: str) -> list[Piece]:
        close = TAGS[self._tag]
        if close[0] not in text:
            return [("reasoning", text)]
        if (found := _CLOSE[self._tag].search(text)) is not None:
            self._state = "leaving"
            self.is_assumed = False
            pieces: list[Piece] = [("reasoning", text[: found.start()])] if found.start() else []
            return pieces + self._leaving(text[found.end() :])
        held = _held_size(text, (close,))
        self._pending = text[len(text) - held :]
        thought = text[: len(text) - held]
        return [("reasoning", thought)] if thought else []

    def _leaving(self, text: str) -> list[Piece]:
        """Skip the line breaks between the closing tag and the answer. Another opening tag continues the reasoning."""
        text = text.lstrip("\n")
        start = text.lstrip()
        tag = _tag_at_start(start)
        if tag in TAGS:
            self._tag = tag
            self._state = "entering"
            return self._entering(start[len(tag) :])
        if tag is not None:
            return self._leaving(start[len(tag) :])
        if len(text) <= BLANKS_MAX and (not start or _is_start_of_tag(start)):
            self._pending = text
            return []
        if self._may_restate is None or self.is_assumed:
            self._state = "after"
            return [("text", text)]
        # The model may think again, and end that with another closing tag.
        self._state = "watching"
        return self._watching(text)

    def _watching(self, text: str) -> list[Piece]:
        """Return `text` as text, unless it has a closing tag whose opening tag is missing."""
        self.watched = None
        found = _WATCHED.search(text)
        if found is None:
            held = _held_size(text, _WATCHED_TAGS)
            self._pending = text[len(text) - held :]
            if not held:
                self.watched = self._text
            return self._keep(text[: len(text) - held])
        if not found.group().startswith("</"):
            # The answer is about such tags.
            return self._end_watch(text)
        pieces = self._keep(text[: found.start()])
        if found.end() == len(text):
            self._pending = found.group()
            return pieces
        return pieces + self._judge(found.group(), text[found.end() :])

    def _judge(self, tag: str, rest: str) -> list[Piece]:
        """Decide whether `tag`, which precedes `rest`, ends the reasoning or is only mentioned."""
        before = "".join(self._text)
        if self._may_restate is None or len(before) > WATCH_MAX or _is_mention(before, rest) or not self._may_restate():
            return self._end_watch(tag + rest)
        self._state, self._text = "leaving", []
        pieces: list[Piece] = [("restated", before)]
        return pieces + self._leaving(rest)

    def _keep(self, text: str) -> list[Piece]:
        if not text:
            return []
        self._text.append(text)
        return [("text", text)]

    def _end_watch(self, text: str) -> list[Piece]:
        self._state, self._text = "after", []
        return [("text", text)]


def _tag_at_start(text: str) -> str | None:
    lower = text[:TAG_MAX].lower()
    return next((tag for tag in _AT_START if lower.startswith(tag)), None)


def _is_start_of_tag(text: str) -> bool:
    lower = text[:TAG_MAX].lower()
    return any(tag.startswith(lower) for tag in _AT_START)


def _held_size(text: str, tags: tuple[str, ...]) -> int:
    """Return the size of the end of `text` that is the start of one of `tags`, but not all of it.

    The tags have the same first character, which is nowhere else in them.
    """
    at = text.rfind(tags[0][0])
    if at < 0 or len(text) - at >= TAG_MAX:
        return 0
    end = text[at:].lower()
    return len(end) if any(tag.startswith(end) and tag != end for tag in tags) else 0


def _is_mention(before: str, rest: str) -> bool:
    """Return whether a closing tag between `before` and `rest` is part of what the answer says: in code, in quotes, or
    as a word of a sentence."""
    line = before[before.rfind("\n") + 1 :]
    if before.count("```") % 2 or line.count("`") % 2 or before[-1:] in _QUOTES:
        return True
    return before[-1:] in (" ", "\t") and rest[:1] in _AFTER_A_WORD
