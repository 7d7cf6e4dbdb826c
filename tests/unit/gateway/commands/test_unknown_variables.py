"""Tests of the warnings about variables that look like settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.commands.unknown_variables import warn_of_unknown_variables

PROJECT = Path(__file__).parents[4]


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("TURNWIRE_LOG_LEVLE", "debug", "Did you mean TURNWIRE_LOG_LEVEL?"),
        ("TURNWIRE_PORT", "9000", "Did you mean PORT?"),
        ("TURNWIRE_CHAT_HISTORY_TTL", "1", "Did you mean CHAT_HISTORY_TTL?"),
        ("TURNWIRE_QQQQQQQQ", "1", "docs/operations.md lists the settings."),
    ],
)
def test_an_unknown_setting_has_a_warning(
    capsys: pytest.CaptureFixture[str], variable: str, value: str, hint: str
) -> None:
    """The warning names the most similar setting, or the page that lists the settings. It doesn't show the value."""
    warn_of_unknown_variables({variable: value, "OTHER": "x", "TURNWIRE_LEASE_S": "3"})
    assert capsys.readouterr().err == f"turnwire: {variable} is set, but there is no such setting. {hint}\n"


@pytest.mark.parametrize(
    ("variables", "is_warned"),
    [
        ({"LOG_LEVEL": "loud"}, True),
        ({"LOG_LEVEL": "loud", "TURNWIRE_LOG_LEVEL": ""}, True),
        ({"LOG_LEVEL": "loud", "TURNWIRE_LOG_LEVEL": "debug"}, False),
        ({"LOG_LEVEL": " WARN "}, False),
        ({"LOG_LEVEL": ""}, False),
        ({}, False),
    ],
)
def test_an_unknown_log_level_has_a_warning(
    capsys: pytest.CaptureFixture[str], variables: dict[str, str], is_warned: bool
) -> None:
    """LOG_LEVEL may be meant for other programs, so it doesn't stop the start. The warning says what to set instead."""
    warn_of_unknown_variables(variables)
    words = "LOG_LEVEL has an unknown value and is ignored. Set TURNWIRE_LOG_LEVEL to debug, info, warning or error."
    assert capsys.readouterr().err == (f"turnwire: {words}\n" if is_warned else "")


def test_every_documented_variable_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """The variables in the documents, the examples and the deployment files have no warning, except the misspelled
    one in docs/troubleshooting.md."""
    files = [PROJECT / "README.md", *PROJECT.glob("docs/*.md"), *PROJECT.glob("deploy/**/*.y*ml")]
    files += [file for kind in ("md", "go") for file in PROJECT.glob(f"examples/**/*.{kind}")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    variables = {name for text in texts for name in re.findall(r"\bTURNWIRE_[A-Z0-9_]+\b", text)}
    assert {"TURNWIRE_KEY", "TURNWIRE_ADMIN_TOKEN", "TURNWIRE_AUTH"} <= variables
    warn_of_unknown_variables(dict.fromkeys(variables, "x"))
    assert re.findall(r"turnwire: (\w+) is set", capsys.readouterr().err) == ["TURNWIRE_LOGLEVEL"]


def test_the_variables_of_kubernetes_have_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    """Kubernetes sets them in every container for a service called turnwire or turnwire-redis."""
    service = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_PROTO": "tcp",
    }
    warn_of_unknown_variables(
        {f"{name}_{key}": value for name in ("TURNWIRE", "TURNWIRE_REDIS") for key, value in service.items()}
    )
    assert capsys.readouterr() == ("", "")
