"""The token counts of one answer in Anthropic's Messages API, merged from all reports in its stream. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from providers.base import Usage
from providers.token_counts import read_count

ITERATIONS_MAX: Final = 1000
"""The maximum number of iterations that are added up."""
PLACEHOLDER: Final = 1
"""The number of output tokens that the start of a message reports before there are any."""

_INPUT, _READ, _WRITTEN = "input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"
_OUTPUT, _THINKING = "output_tokens", "thinking_tokens"
_INPUT_GROUP: Final = (_INPUT, _READ, _WRITTEN)
"""The counts that make up the whole input. `input_tokens` excludes the cached ones."""
_NAMES: Final = (*_INPUT_GROUP, _OUTPUT, _THINKING)

Counts = dict[str, int]


class MessagesUsage:
    """The usage of one answer. Neither its input nor its output shrinks.

    Reports are cumulative, and a later one may omit counts or give 0 for them. If an answer consists of several
    messages, their counts are added up.
    """

    def __init__(self) -> None:
        self._earlier: Counts = {}
        """The counts of the messages before the current one."""
        self._counts: Counts = {}
        self._message: str | None = None
        self._has_ended = False
        """Whether a report at the end of the message gave its output tokens. The number at its start is preliminary."""

    def begin_message(self, message: str | None, usage: dict[str, Any] | None) -> None:
        """Begin the message with the id `message`, if it is another one. `usage` is its first report, or None."""
        if self._counts and (self._has_ended or (message and self._message and message != self._message)):
            self._earlier = _sum((self._earlier, self._counts))
            self._counts = {}
            self._has_ended = False
        self._message = message or self._message
        self._merge(_read(usage or {}))

    def add(self, usage: dict[str, Any] | None) -> None:
        """Add `usage`, a report that comes after the message's start, or None."""
        reported = _read(usage or {})
        output = reported.get(_OUTPUT)
        if output == 0 and self._counts.get(_OUTPUT) == PLACEHOLDER and not self._has_ended:
            # A refusal that costs nothing ends like this. In any other report, 0 means that the count isn't known.
            self._counts[_OUTPUT] = 0
            self._has_ended = True
        self._has_ended = self._has_ended or bool(output)
        self._merge(reported)

    def usage(self, *, is_complete: bool) -> Usage | None:
        """Return the usage so far, or None if there was no report.

        It is estimated if the answer `is_complete` but no report at its end gave its output.
        """
        counts = _sum((self._earlier, self._counts))
        if not counts:
            return None
        return Usage(
            input_tokens=_input(counts),
            output_tokens=counts.get(_OUTPUT, 0),
            reasoning_tokens=counts.get(_THINKING),
            cache_read_tokens=counts.get(_READ),
            cache_write_tokens=counts.get(_WRITTEN),
            estimated=is_complete and not self._has_ended,
        )

    def _merge(self, reported: Counts) -> None:
        counts = self._counts
        for name in (_OUTPUT, _THINKING):
            if name in reported:
                counts[name] = max(reported[name], counts.get(name, 0))
        # The parts of the input are merged together, because a later report may divide the same input in another way.
        given = {name: reported[name] for name in _INPUT_GROUP if name in reported}
        merged = {
            name: given.get(name) or counts.get(name, 0) for name in _INPUT_GROUP if name in given or name in counts
        }
        has_cached = bool(given.get(_READ) or given.get(_WRITTEN))
        is_whole = not has_cached and given.get(_INPUT) == _input(counts)
        if _input(merged) >= _input(counts) and not is_whole:
            counts |= merged
        else:
            counts |= {name: 0 for name in given if name not in counts}


def _read(usage: dict[str, Any]) -> Counts:
    """Return the counts of one report: its own, or the sums over its iterations where these are larger.

    Its own counts don't include some iterations, such as a compaction.
    """
    counts = _read_flat(usage)
    iterations = usage.get("iterations")
    if isinstance(iterations, list):
        summed = _sum(_read_flat(each) for each in islice(iterations, ITERATIONS_MAX) if isinstance(each, dict))
        if _input(summed) >= _input(counts):
            counts |= {name: summed[name] for name in _INPUT_GROUP if name in summed}
        for name in (_OUTPUT, _THINKING):
            if name in summed:
                counts[name] = max(summed[name], counts.get(name, 0))
    return counts


def _read_flat(usage: dict[str, Any]) -> Counts:
    values = dict(usage)
    details = usage.get("output_tokens_details")
    if isinstance(details, dict):
        values[_THINKING] = details.get(_THINKING)
    counts = {name: count for name in _NAMES if (count := read_count(values.get(name))) is not None}
    written = usage.get("cache_creation")
    if _WRITTEN not in counts and isinstance(written, dict):
        parts = [read_count(written.get(f"ephemeral_{ttl}_input_tokens")) for ttl in ("5m", "1h")]
        if any(part is not None for part in parts):
            counts[_WRITTEN] = sum(part or 0 for part in parts)
    return counts


def _sum(reports: Iterable[Counts]) -> Counts:
    total: Counts = {}
    for counts in reports:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _input(counts: Counts) -> int:
    return sum(counts.get(name, 0) for name in _INPUT_GROUP)
