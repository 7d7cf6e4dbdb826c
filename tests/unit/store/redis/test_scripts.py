"""Scripts are put together with what they use, known by Redis' own hash, and say what they take."""

from __future__ import annotations

import hashlib

import pytest

from store.redis.scripts import FOLDER, NAMES, SHARED, load_scripts

SCRIPTS = load_scripts(channels="turnwire:0:", history_ttl_ms=1000, log_ttl_ms=500)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_says_what_it_is(name: str) -> None:
    """Each opens with a comment that says what it does and names its keys."""
    own = (FOLDER / f"{name}.lua").read_text()
    assert own.startswith("-- ")
    assert "-- KEYS[1]" in own


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_whole(name: str) -> None:
    """It brings the shared functions that it calls, and no mark is left in it."""
    script = SCRIPTS[name]
    assert script.sha == hashlib.sha1(script.source).hexdigest().encode()
    assert b"{COUNTERS}" not in script.source
    source = script.source.decode()
    for shared in SHARED:
        for line in (FOLDER / f"{shared}.lua").read_text().splitlines():
            if line.startswith("local function "):
                function = line.removeprefix("local function ").partition("(")[0]
                assert f"{function}(" not in source or f"local function {function}(" in source, function


def test_other_times_make_other_scripts() -> None:
    """Two gateways with different settings on one Redis don't run each other's scripts."""
    other = load_scripts(channels="turnwire:0:", history_ttl_ms=2000, log_ttl_ms=500)
    assert other["end"].sha != SCRIPTS["end"].sha
    assert b"local HISTORY_TTL_MS = 2000\n" in other["end"].source
