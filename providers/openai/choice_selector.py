"""Select the one choice of a chat stream that is the answer. This module does no I/O.

That is the choice with the index 0. Some hosts count from 1, or send several choices although one was requested.
"""

from __future__ import annotations

from typing import Final

from providers.openai.chat_schema import Choice

UNDECIDED: Final = -1
"""The index of the answer while it isn't known."""
HELD_MAX: Final = 8
"""When this many pieces of other choices are held back, the index 0 isn't expected any more, and the choice of the
first piece is the answer."""


class ChoiceSelector:
    """The selection in one stream. `index` is the index of the answer, or `UNDECIDED`."""

    __slots__ = ("_held", "index")

    def __init__(self) -> None:
        self.index = 0
        self._held: list[Choice] = []

    def add_other(self, choice: Choice, *, has_answer: bool) -> list[Choice]:
        """Process a choice whose index isn't `index`. Return the choices to decode now.

        `choice` is held back until it is known whether there is one with the index 0. `has_answer`: a part of the answer
        was decoded, so other choices are dropped.
        """
        if self.index == UNDECIDED and not choice.index:
            self.index = 0
            self._held.clear()
            return [choice]
        if self.index <= 0 and not has_answer:
            self.index = UNDECIDED
            self._held.append(choice)
            if len(self._held) == HELD_MAX:
                return self.release()
        return []

    def release(self) -> list[Choice]:
        """Select the choice of the first piece that is held back, if any. Return its pieces, and drop those of others."""
        held, self._held = self._held, []
        if held:
            self.index = held[0].index
        return [choice for choice in held if choice.index == self.index]
