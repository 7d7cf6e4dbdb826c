"""The number of examples of property tests: their own in `make test`, and that of `make fuzz`."""

from __future__ import annotations

import os

FUZZED = int(os.environ.get("TURNWIRE_FUZZ_EXAMPLES", "0"))


def examples(number: int) -> int:
    """Return `number`, or the number of `make fuzz` if it runs the tests."""
    return FUZZED or number
