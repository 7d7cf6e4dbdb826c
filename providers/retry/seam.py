"""The seam between the text of an answer that broke off and its continuation. This module does no I/O.

A continuation may begin exactly where the text ends, repeat its last words or all of it, and have too much or too
little white space. Its start is held back as long as it may still repeat the text.
"""

from __future__ import annotations

import re
from typing import Final

WINDOW_CHARS: Final = 4096
"""How far before the end of the text a repetition may begin. It may also begin at the start of the text."""
REPEATED_LETTERS_MIN: Final = 4
"""Repeated words with fewer letters and digits are taken for the model's own. A CJK character counts as two."""
RESTART_CHARS: Final = 64
"""A continuation that repeats this many characters of the start of the text, and then differs, is another answer."""
_WORD_STARTS: Final = re.compile(r"(?<!\w)\S|[^\w\s]|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_MARKS: Final = ("<<<", "...", "…")
"""What a model may write before the words that it was asked to repeat: the mark of the instruction, or an ellipsis."""
_END_MARKS: Final = ("", ">", ">>")
_SINGLE_TOKEN: Final = re.compile(r"[^\w\s]{0,3}\w{1,40}(?:[>,;)}\]]|\(\))[,;]?")
"""A closing tag, an item of a list, or a short statement. Code and tables often have the same one twice in a row."""
_FIRST_WITHOUT_BLANKS: Final = 0x0E00
"""From this code point on, most scripts write words without blanks between them."""


class AnotherAnswer(Exception):
    """The model began its answer again, in other words, instead of continuing it."""


class Seam:
    """The seam after the text `said`. A repetition at the start of the continuation is left out.

    `asked`: the model was asked to repeat the last words, so any repeated word is a repetition. `echoes`: the provider
    repeats the whole text. Otherwise, a repetition has at least `REPEATED_LETTERS_MIN` letters, and `said` doesn't
    itself end with it twice. `stripped`: the model got the text without the blank at its end, so it writes that blank
    again. A blank is any amount of white space.
    """

    def __init__(self, said: str, *, asked: bool = False, echoes: bool = False, stripped: bool = False) -> None:
        self._said = said.rstrip()
        self._blank = said[len(self._said) :]
        """The white space at the end of the text. `_said` is the text without it."""
        self._asked = asked
        self._echoes = echoes
        self._stripped = stripped or asked
        self._first = len(self._said) - len(self._said.lstrip())
        """The place of the first character that isn't a blank."""
        window = max(self._first, len(self._said) - WINDOW_CHARS)
        starts = [match.start() for match in _WORD_STARTS.finditer(self._said, window)]
        if self._said and (not starts or starts[0] != self._first):
            starts.insert(0, self._first)
        self._open = starts
        """The places in the text from which the continuation so far may be a repetition."""
        self._repeated: list[int] = []
        """The places from which the continuation has repeated the text to its end, in their order."""
        self._lead = ""
        """The blank, and the mark, at the start of the continuation. After a repetition, the blank that follows it."""
        self._held: list[str] = []
        self._length = 0
        """The number of characters of the continuation so far, without `_lead`."""
        self._trims_blank = False
        """Whether the repetition has ended, and only the blank after it isn't decided."""
        self._is_marked = False
        """Whether a mark came before the repetition, so that one may follow it."""
        self._tail = ""
        """What may be the start of the mark after the repetition."""
        self.is_done = False
        """Whether everything that follows is passed on unchanged."""

    def feed(self, text: str) -> str:
        """Return what to append to the text now: nothing until the seam is decided.

        `text` is the next piece of the continuation. Raise `AnotherAnswer` if it turns out to be another answer.
        """
        if self.is_done:
            return text
        if self._trims_blank:
            return self._trim(text)
        if not self._length:
            text = self._skip_lead(text)
            if not text:
                return self.close() if len(self._lead) > WINDOW_CHARS else ""
        self._held.append(text)
        self._match(text)
        return "" if self._open else self._decide()

    def _skip_lead(self, text: str) -> str:
        """Move the blank at the start of `text` to the lead, and also a mark before a repetition that was asked for."""
        lead = self._lead + text
        text = lead.lstrip()
        if self._asked and not self._said.startswith(_MARKS):
            if text and any(mark != text and mark.startswith(text) for mark in _MARKS):
                self._lead = lead
                return ""
            mark = next((mark for mark in _MARKS if text.startswith(mark)), "")
            text = text[len(mark) :].lstrip()
        self._lead = lead[: len(lead) - len(text)]
        return text

    def close(self) -> str:
        """Return what is still held, at the end of the continuation."""
        if self.is_done:
            return ""
        if self._trims_blank:
            return self._trim("", is_end=True)
        is_repeated = bool(self._open) and self._length > 0 and not self._repeated
        if is_repeated and (self._asked or self._echoes or self._length >= RESTART_CHARS):
            self.is_done = True
            return ""  # it broke off within the repetition
        return self._decide() + self._end_blank()

    def _end_blank(self) -> str:
        return "" if self.is_done else self._trim("", is_end=True)

    def _match(self, text: str) -> None:
        """Keep the places from which the continuation, now with `text`, still repeats what was said.

        If the continuation has repeated everything from a place on, the place moves to `_repeated`.
        """
        said, matched = self._said, self._length
        still: list[int] = []
        repeated: list[int] = []
        for start in self._open:
            at = start + matched
            if len(said) - at > len(text):
                if said.startswith(text, at):
                    still.append(start)
            elif text.startswith(said[at:]):
                repeated.append(start)
        is_restart = matched >= RESTART_CHARS and self._first in self._open
        if is_restart and self._first not in still and self._first not in repeated:
            raise AnotherAnswer
        self._open = still
        self._repeated = sorted(self._repeated + repeated)
        self._length += len(text)

    def _decide(self) -> str:
        text = "".join(self._held)
        self._held.clear()
        for start in self._repeated:
            if self._is_repetition(start):
                self._trims_blank = True
                self._is_marked = "<<<" in self._lead
                self._lead = ""
                return self._trim(text[len(self._said) - start :])
        self.is_done = True
        if self._blank:
            # Two spaces in a line are one too many, but a line break after another one may be a new paragraph.
            is_whole = len(self._blank) > 1 and self._lead.startswith(self._blank)
            is_known = self._stripped or is_whole or "\n" not in self._blank
            return (_without(self._lead, self._blank) if is_known else self._lead) + text
        is_glued = self._asked and not self._lead and bool(self._said) and bool(text)
        if is_glued and _has_blank_between(self._said[-1], text[0]):
            return " " + text
        return self._lead + text

    def _is_repetition(self, start: int) -> bool:
        """Return whether the text from `start` on was repeated, and isn't the model's own words."""
        repeated = self._said[start:]
        letters = sum(2 if ord(char) >= 0x3040 else 1 for char in repeated if char.isalnum())
        if self._asked:
            is_word = start == self._first or self._said[start - 1].isspace()
            return letters >= (2 if is_word else REPEATED_LETTERS_MIN)
        if self._echoes and start == self._first:
            return True
        if letters < REPEATED_LETTERS_MIN or _SINGLE_TOKEN.fullmatch(repeated):
            return False
        before = self._said[max(0, start - len(repeated) - RESTART_CHARS) : start].rstrip()
        shorter = (len(self._said) - other for other in self._repeated if other > start)
        is_periodic = any(
            2 * size >= len(repeated) or (repeated[size].isspace() and repeated[size:-size].isspace())
            for size in shorter
        )
        return not is_periodic and not before.endswith(repeated)

    def _trim(self, text: str, *, is_end: bool = False) -> str:
        """Return `text`, which follows a repetition, without the blank that was already said, and without a mark."""
        text = self._tail + text
        self._tail = ""
        if self._is_marked:
            if text in _END_MARKS and not is_end:
                self._tail = text
                return ""
            self._is_marked = False
            text = text.removeprefix(">>>")
            if not text and not is_end:
                return ""
        stripped = text.lstrip()
        self._lead += text[: len(text) - len(stripped)]
        if self._blank and not stripped and not is_end and len(self._lead) <= WINDOW_CHARS:
            return ""
        self.is_done = True
        return _without(self._lead, self._blank) + stripped


def _without(lead: str, blank: str) -> str:
    """Return the blank `lead` without the beginning that repeats `blank`, which was said before it.

    If it repeats nothing, it is kept only if it has a line break.
    """
    if not blank:
        return lead
    pairs = zip(lead, blank, strict=False)
    common = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(lead), len(blank)))
    return lead[common:] if common or "\n" in lead else ""


def _has_blank_between(before: str, after: str) -> bool:
    """Return whether a blank belongs between `before`, the end of a text, and `after`, the start of the next word."""
    if ord(before) >= _FIRST_WITHOUT_BLANKS or ord(after) >= _FIRST_WITHOUT_BLANKS:
        return False
    return after.isalnum() and (before.isalnum() or before in ",.;:!?)")
