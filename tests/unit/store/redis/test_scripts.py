"""Scripts include the shared functions that they use, have the hash that Redis computes, and are documented."""

from __future__ import annotations

import hashlib

import pytest

from store.redis.scripts import FOLDER, NAMES, SHARED, load_scripts

SCRIPTS = load_scripts(channels="turnwire:0:", history_ttl_ms=1000, log_ttl_ms=500)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_documented(name: str) -> None:
    """Each script begins with a comment and documents its keys."""
    own = (FOLDER / f"{name}.lua").read_text()
    assert own.startswith("-- ")
    assert "-- KEYS[1]" in own


@pytest.mark.parametrize("name", NAMES)
def test_a_script_is_complete(name: str) -> None:
    """A script includes the shared functions that it calls, and no placeholder is left."""
    script = SCRIPTS[name]
    assert script.sha == hashlib.sha1(script.source).hexdigest().encode()
    assert b"{COUNTERS}" not in script.source
    source = script.source.decode()
    for shared in SHARED:
        for line in (FOLDER / f"{shared}.lua").read_text().splitlines():
            if line.startswith("local function "):
                function = line.removeprefix("local function ").partition("(")[0]
                assert f"{function}(" not in source or f"local function {function}(" in source, function


def test_scripts_depend_on_the_settings() -> None:
    """Gateways with different settings on one Redis don't run each other's scripts."""
    other = load_scripts(channels="turnwire:0:", history_ttl_ms=2000, log_ttl_ms=500)
    assert other["end"].sha != SCRIPTS["end"].sha
    assert b"local HISTORY_TTL_MS = 2000\n" in other["end"].source
