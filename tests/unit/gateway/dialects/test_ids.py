"""Tests of ids that clients name in their own way."""

from __future__ import annotations

import re

from gateway.dialects.ids import own_id
from gateway.protocol.requests import OWN_ID_PATTERN


def test_ids_that_a_client_names() -> None:
    for name in ("a b", "x" * 65, "..", "ü", "\ud800"):
        found = own_id("run-", name)
        assert found == own_id("run-", name)
        assert re.fullmatch(OWN_ID_PATTERN, found)
    assert own_id("r-", "a", "bc") != own_id("r-", "ab", "c")
