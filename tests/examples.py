"""The number of examples of property tests: each test's own number, or the one that `make fuzz` sets for all."""

from __future__ import annotations

import os

FUZZED = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def examples(number: int) -> int:
    """Return `number`, or the number of `make fuzz` if it runs the tests."""
    return FUZZED or number
