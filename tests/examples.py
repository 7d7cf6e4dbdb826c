"""How many examples a property test looks at: as many as it says, or as many as `make fuzz` does."""

from __future__ import annotations

import os

FUZZED = int(os.environ.get("TURNWIRE_FUZZ_EXAMPLES", "0"))


def examples(number: int) -> int:
    """The number for `make test`, or that of `make fuzz`."""
    return FUZZED or number
