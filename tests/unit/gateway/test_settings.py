"""Settings: the names of their variables, their bounds, and the values derived from them."""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings import Settings, environment, environment_variables, setting_variables
from providers.catalog.operator_file import open_catalog

EXAMPLE = Path(__file__).parents[3] / ".env.example"


def make(**fields: Any) -> Settings:
    """Return settings from the environment and the given fields."""
    return Settings(**fields)


UNPREFIXED = {
    *("HOST", "PORT", "LOG_LEVEL", "TURN_LOG_TTL", "CHAT_HISTORY_TTL", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    *("REDIS_URL", "REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"),
}
"""The variables without the prefix `TURNWIRE_` that set a setting."""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in UNPREFIXED or name.upper().startswith("TURNWIRE_"):
            monkeypatch.delenv(name)


def test_no_setting_is_required() -> None:
    """By default the gateway listens on loopback, stores data in a file in the working directory, and has no auth."""
    settings = make()
    assert (settings.host, settings.port, settings.store_url) == ("127.0.0.1", 8000, "sqlite:///turnwire.db")
    assert settings.loopback_only
    assert settings.auth == "none"


@pytest.mark.parametrize(
    ("variable", "value", "field", "wanted"),
    [
        ("HOST", "::1", "host", "::1"),
        ("PORT", "9000", "port", 9000),
        ("TURN_LOG_TTL", "60", "turn_log_ttl_s", 60.0),
        ("TURNWIRE_TURN_LOG_TTL_S", "61", "turn_log_ttl_s", 61.0),
        ("TURNWIRE_STORE", "sqlite:///:memory:", "store", "sqlite:///:memory:"),
        ("REDIS_URL", "redis://r:1", "store_url", "redis://r:1"),
        ("REDIS_HOST", "r", "store_url", "redis://r:6379"),
        ("REDIS_PORT", "1", "redis_port", 1),
        ("REDIS_PASSWORD", "p", "redis_password", "p"),
        ("CHAT_HISTORY_TTL", "60", "history_ttl_s", 60.0),
        ("TURNWIRE_HISTORY_TTL_S", "61", "history_ttl_s", 61.0),
        ("TURNWIRE_LEASE_S", "3", "lease_s", 3.0),
        ("TURNWIRE_INSECURE", "1", "insecure", True),
        ("TURNWIRE_DEFAULT_MODEL", "demo", "default_model", "demo"),
        ("TURNWIRE_LOG_LEVEL", "debug", "log_level", "debug"),
        ("LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("TURNWIRE_DRAIN_S", "900", "drain_s", 900.0),
        ("TURNWIRE_FRAME_BYTES", "2048", "frame_bytes", 2048),
        ("TURNWIRE_ALLOWED_ORIGINS", "https://a.example", "allowed_origins", ("https://a.example",)),
        (
            "TURNWIRE_ALLOWED_ORIGINS",
            " https://a.example/, http://b.example:1 ,",
            "allowed_origins",
            ("https://a.example", "http://b.example:1"),
        ),
        ("TURNWIRE_ALLOWED_ORIGINS", "", "allowed_origins", ()),
    ],
)
def test_each_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, wanted: object
) -> None:
    """A field is set by `TURNWIRE_` and its name in capitals, or by a well-known variable such as HOST, PORT or
    REDIS_URL."""
    monkeypatch.setenv(variable, value)
    assert getattr(make(), field) == wanted
    assert environment()[variable] == value


UNLISTED = [name for name in sorted(Settings.model_fields) if f"TURNWIRE_{name.upper()}" not in setting_variables()]


@pytest.mark.parametrize("name", UNLISTED)
def test_no_other_variable_sets_a_field(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A variable that isn't listed sets nothing: for a service called turnwire, Kubernetes sets TURNWIRE_PORT=tcp://…."""
    monkeypatch.setenv(f"TURNWIRE_{name.upper()}", "tcp://10.0.0.1:80")
    assert getattr(make(), name) == Settings.model_fields[name].default


def test_an_argument_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument, as from a command-line option, overrides an environment variable."""
    monkeypatch.setenv("PORT", "9000")
    monkeypatch.setenv("TURNWIRE_STORE", "sqlite:///other.db")
    settings = make(port=1, store="sqlite:///:memory:")
    assert (settings.port, settings.store) == (1, "sqlite:///:memory:")


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_every_other_variable_has_the_prefix(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """A field's name without the prefix isn't read, because another program may use that variable."""
    if field.upper() in UNPREFIXED:
        return
    monkeypatch.setenv(field.upper(), "not a value of anything")
    make()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("TURNWIRE_FRAME_BYTES", "10"),
        ("TURNWIRE_OUTBOX_BYTES", "10"),
        ("TURNWIRE_AUTH", "everyone"),
        ("TURNWIRE_LOG_LEVEL", "loud"),
        ("TURNWIRE_HEARTBEAT_S", "0"),
        ("TURNWIRE_TURN_TIMEOUT_S", "-1"),
        ("TURN_LOG_TTL", "-1"),
        ("TURNWIRE_INSECURE", "maybe"),
        ("TURNWIRE_SCOPE_PREFIX", "a b"),
    ],
)
def test_an_invalid_value_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """An invalid value of a variable is refused, and the error names the setting."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError) as refused:
        make()
    named = str(refused.value.errors()[0]["loc"][0]).upper()
    assert variable.removeprefix("TURNWIRE_") == named


LEVELS = {
    "debug": ("debug", "DEBUG", "trace", "Verbose"),
    "info": ("info", "Info", "notice", "information", ""),
    "warning": ("warning", "WARN"),
    "error": ("error", "err", "CRITICAL", "crit", "fatal", "alert", "emerg", "panic"),
}
"""The words for each level."""


@pytest.mark.parametrize("variable", ["LOG_LEVEL", "TURNWIRE_LOG_LEVEL"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_may_have_another_name(monkeypatch: pytest.MonkeyPatch, variable: str, level: str) -> None:
    """The names that other programs use for a level are accepted, in upper and lower case."""
    for word in LEVELS[level]:
        monkeypatch.setenv(variable, word)
        assert make().log_level == level


def test_log_level_may_be_meant_for_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown value of LOG_LEVEL, which platforms set, is ignored. TURNWIRE_LOG_LEVEL overrides it, and an argument
    overrides both."""
    monkeypatch.setenv("LOG_LEVEL", "loud")
    assert make().log_level == "info"
    monkeypatch.setenv("LOG_LEVEL", "error")
    assert make(log_level="debug").log_level == "debug"
    monkeypatch.setenv("TURNWIRE_LOG_LEVEL", "warning")
    assert make().log_level == "warning"
    assert make(log_level="debug").log_level == "debug"


VARIABLES = [variable for name in Settings.model_fields for variable in environment_variables(name)[1]]


@pytest.mark.parametrize("variable", VARIABLES)
def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The exception is TURNWIRE_TRUSTED_PROXIES: if it is empty, no proxy is trusted."""
    default = make()
    monkeypatch.setenv(variable, "")
    settings = make()
    if variable == "TURNWIRE_TRUSTED_PROXIES":
        assert settings.trusted_proxies == ()
        assert make(trusted_proxies="::1").trusted_proxies == ("::1",)
    else:
        assert settings == default
        assert settings.model_fields_set == default.model_fields_set


def test_an_empty_variable_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second variable of the same setting is read if the first is empty."""
    monkeypatch.setenv("TURNWIRE_STORE", "")
    monkeypatch.setenv("REDIS_URL", "redis://there")
    assert make().store_url == "redis://there"


def test_the_example_of_an_env_file_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every line of `.env.example` uncommented, the settings are the defaults, and the models can be read. Only
    the store differs, because the port of Redis is set."""
    default = make()
    lines = re.findall(r"^# ([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {variable for variable, _ in lines} >= {"PORT", "TURNWIRE_JWT_SECRET", "OPENAI_BASE_URL"}
    for variable, value in lines:
        monkeypatch.setenv(variable, value)
    settings = make()
    assert settings == default
    assert settings.store_url == "redis://127.0.0.1:6379"
    assert open_catalog(environment(), settings.models).resolve("demo").provider == "demo"


NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in {int, float, Decimal}]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "Infinity"])
def test_a_number_is_finite(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Infinity and NaN are refused at the start."""
    monkeypatch.setenv(environment_variables(name)[1][0], value)
    with pytest.raises(ValidationError, match=r"finite|integer|greater than|decimal"):
        make()


def test_a_number_too_large_for_a_float_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be read as infinite."""
    monkeypatch.setenv("CHAT_HISTORY_TTL", "1e999")
    with pytest.raises(ValidationError, match="finite"):
        make()


def test_settings_are_frozen() -> None:
    """A setting can't be changed after the start."""
    with pytest.raises(ValidationError):
        make().port = 1


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("localhost", "http://localhost:8000"),
    ],
)
def test_the_page_url_can_be_opened(host: str, url: str) -> None:
    """A wildcard address is replaced by loopback, and an IPv6 address is put into brackets."""
    assert make(host=host).page_url == url


def test_insecure_allows_access_from_the_network() -> None:
    """Access isn't limited to loopback if the operator sets `insecure`."""
    assert not make(insecure=True).loopback_only


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"REDIS_URL": "redis://there:1/2"}, "redis://there:1/2"),
        ({"TURNWIRE_STORE": "sqlite:///x.db", "REDIS_URL": "redis://there"}, "sqlite:///x.db"),
        ({"REDIS_URL": "redis://there", "REDIS_HOST": "elsewhere", "REDIS_PORT": "7"}, "redis://there"),
        ({"REDIS_HOST": "there"}, "redis://there:6379"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379"),
        ({"REDIS_PORT": "7"}, "redis://127.0.0.1:7"),
        ({"REDIS_PASSWORD": "p"}, "redis://:p@127.0.0.1:6379"),
        ({"REDIS_PORT": "tcp://10.0.0.7:6379"}, "sqlite:///turnwire.db"),
        ({"REDIS_PORT": "tcp://10.0.0.7:6379", "REDIS_HOST": "there"}, "redis://there:6379"),
        ({"REDIS_HOST": "there", "REDIS_PORT": "7", "REDIS_PASSWORD": "a/b@c"}, "redis://:a%2Fb%40c@there:7"),
    ],
)
def test_the_store_url_comes_from_several_variables(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str
) -> None:
    """`TURNWIRE_STORE` overrides `REDIS_URL`, which overrides the parts of a Redis address. A `REDIS_PORT` that is a
    URL, as Kubernetes sets it, is ignored. A password may contain any character and isn't in the settings' `repr`."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert make().store_url == url
    assert "a/b@c" not in repr(make())


JWT = {"auth": "jwt", "jwt_secret": "x" * 32}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"auth": "jwt"}, "requires a key"),
        ({**JWT, "jwt_public_key": "key.pem"}, "only one key"),
        ({"jwt_secret": "x" * 32}, "doesn't include jwt"),
        ({"auth": "keys"}, "require each other"),
        ({"api_keys": "keys"}, "require each other"),
        ({"identity_secret": "x" * 32}, "auth is off"),
        ({**JWT, "identity_secret": "x" * 32, "identity_jwks_url": "http://h/"}, "only one key"),
        ({"auth": "jwt", "jwt_secret": "x" * 31}, "at least 32"),
        ({"auth": "jwt", "jwt_jwks_url": "file:///etc/passwd"}, "match pattern"),
        ({"auth": "everyone"}, "'none', 'jwt'"),
        ({"body_bytes": 200_000_000}, "TURNWIRE_BODIES_BYTES must be"),
    ],
)
def test_contradictory_or_unusable_settings_are_refused(fields: dict[str, Any], words: str) -> None:
    """The error says what is wrong and never contains the secret."""
    with pytest.raises(ValidationError, match=words) as wrong:
        make(**fields)
    assert "x" * 31 not in wrong.value.errors()[0]["msg"]


def test_auth_allows_access_from_the_network() -> None:
    """With auth, access isn't limited to loopback."""
    assert not make(**JWT).loopback_only


def test_the_rules_for_access_tokens_come_from_the_settings() -> None:
    """Commas separate the algorithms. The secret isn't in the settings' `repr`."""
    settings = make(**JWT, jwt_algorithms="HS256, HS512", jwt_issuer="https://id.example", jwt_audience="turnwire")
    rules = settings.token_settings
    assert rules is not None
    assert (rules.secret, rules.algorithms, rules.issuer) == ("x" * 32, ("HS256", "HS512"), "https://id.example")
    assert settings.identity_settings is None
    assert "x" * 32 not in repr(settings)


def test_the_rules_for_identity_tokens_come_from_the_settings() -> None:
    """A service names its users with identity tokens, which have a key of their own."""
    identity = make(
        auth="jwt,keys", jwt_public_key="k", api_keys="f", identity_secret="y" * 32, identity_issuer="backend"
    ).identity_settings
    assert identity is not None
    assert (identity.secret, identity.issuer) == ("y" * 32, "backend")


def test_the_kinds_of_auth_may_be_in_any_order() -> None:
    """Blanks after the comma are allowed, too."""
    assert make(auth="keys, jwt", jwt_public_key="k", api_keys="f").auth == "jwt,keys"


@pytest.mark.parametrize(
    "wrong",
    [
        "*",
        "null",
        "chat.example.com",
        "https://*.example.com",
        "https://a.example/path",
        "https://user@a.example",
        "https://a.example https://b.example",
        "https://a.example;https://b.example",
        '"https://a.example"',
    ],
)
def test_an_invalid_origin_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Only a page's origin, written in full, is accepted. The error shows the wrong value and an example, and not the
    valid value beside it."""
    monkeypatch.setenv("TURNWIRE_ALLOWED_ORIGINS", f"https://good.example,{wrong}")
    with pytest.raises(ValidationError) as refused:
        make()
    message = str(refused.value)
    assert repr(wrong) in message
    assert "for example https://chat.example.com" in message
    assert "good.example" not in message.split("[type=")[0]


@pytest.mark.parametrize(
    "origin", ["https://a.example", "http://localhost:5173", "http://[::1]:8000", "capacitor://localhost", "tauri://x"]
)
def test_origins_are_compared_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    """An origin in upper case, or with a trailing slash or blanks, becomes the origin that a browser sends."""
    monkeypatch.setenv("TURNWIRE_ALLOWED_ORIGINS", f" {origin.upper()}/ ")
    assert make().allowed_origins == (origin,)


def test_the_default_port_of_an_origin_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers leave it out."""
    monkeypatch.setenv("TURNWIRE_ALLOWED_ORIGINS", "https://a.example:443,http://b.example:80,http://c.example:443")
    assert make().allowed_origins == ("https://a.example", "http://b.example", "http://c.example:443")


def test_trusted_proxies_are_addresses_or_networks() -> None:
    """Addresses and networks are separated by commas. A name, `*`, or a network of many public addresses is refused at the
    start."""
    for right in ("10.0.0.0/8, ::1", "fc00::/7, 104.16.0.0/13"):
        assert ", ".join(make(trusted_proxies=right).trusted_proxies) == right
    for wrong in ("*", "proxy.example", "0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1", "2000::/3"):
        with pytest.raises(ValidationError, match=r"such as 10\.0\.0\.0/8|list only your proxies"):
            make(trusted_proxies=(wrong,))


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, 300),
        ({"TURNWIRE_EVENT_TIMEOUT_S": "3"}, 15),
        ({"TURNWIRE_EVENT_TIMEOUT_S": "600"}, 300),
        ({"TURNWIRE_EVENT_TIMEOUT_S": "3", "TURNWIRE_ALIVE_TIMEOUT_S": "40"}, 40),
    ],
)
def test_a_short_event_timeout_shortens_the_alive_timeout(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], seconds: float
) -> None:
    """Unless `alive_timeout_s` is set, it is at most five times `event_timeout_s`."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert make().timeouts.alive_s == seconds
