"""Check docs/troubleshooting.md against the code: its settings, addresses, codes, metrics, commands and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.routing import Route

from gateway.commands.command_line import COMMANDS
from gateway.http.operations import OPERATIONS
from gateway.http.routes import routes
from gateway.protocol.errors import CODES, CloseCode
from gateway.settings import setting_variables
from providers.catalog.endpoints import variables_of
from providers.catalog.schema import shipped_rows
from tests.in_process import make_settings
from tests.test_operations_docs import metrics

DOCUMENT = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
MISTAKES = {"TURNWIRE_LOGLEVEL"}
"""The variables that are wrong on purpose."""


def test_the_variables_exist() -> None:
    """Each variable belongs to a setting or a provider, except the shell's `TOKEN` and the one in `MISTAKES`."""
    known = setting_variables().union(*map(variables_of, shipped_rows().providers.values())) | {"TOKEN"}
    named = set(re.findall(r"\b(?:[A-Z][A-Z0-9]*_[A-Z0-9_]+|TOKEN|PORT)\b", TEXT))
    assert len(named) > 20
    assert named - known == MISTAKES


def test_the_addresses_exist() -> None:
    """Each path in a URL, and each path at the beginning of a code span, is one of the gateway's."""
    known = {operation.path for operation in OPERATIONS} | {
        route.path for route in routes(make_settings()) if isinstance(route, Route)
    }
    named = set(re.findall(r"(?:https?://[\w.]+(?::8000)?|`)(/[a-z][\w/]*)", TEXT))
    assert {"/ws", "/ready", "/metrics", "/health", "/v1/usage"} <= named <= known


def test_the_codes_exist() -> None:
    """Each code of an error and each close code is one of the protocol's."""
    shown = set(re.findall(r'"code":"(\w+)"', TEXT)) | set(re.findall(r"## .*`(\w+)`", TEXT))
    assert len(shown) > 4
    assert shown <= set(CODES)
    closes = {int(code) for code in re.findall(r"(?:with |code=\")(4\d{3})\b", TEXT)}
    assert {4401, 4501, 4503} <= closes <= set(CloseCode)


async def test_the_metrics_exist() -> None:
    """Each metric is in the output of `/metrics`."""
    known = await metrics()
    named = set(re.findall(r"\bturnwire_[a-z_]+[a-z]\b", TEXT))
    assert {"turnwire_added_latency_seconds", "turnwire_slow_clients_total"} <= named <= set(known)


def test_the_commands_exist() -> None:
    """Each `turnwire` command is one of the command line's."""
    named = set(re.findall(r"(?:^|`|[a-z]+ )turnwire ([a-z]+)", TEXT, re.MULTILINE))
    assert {"check", "serve", "models", "admin"} <= named <= set(COMMANDS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]*)(?:#[\w-]*)?\)", TEXT)) - {""}))
def test_linked_files_exist(target: str) -> None:
    """Each linked file exists."""
    assert (DOCUMENT.parent / target).exists()


def test_the_operations_page_links_here() -> None:
    """docs/operations.md links to this page."""
    assert "](troubleshooting.md)" in DOCUMENT.with_name("operations.md").read_text(encoding="utf-8")
