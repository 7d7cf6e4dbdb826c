"""All settings. The environment is read here and nowhere else. The checks are in `setting_values`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import quote

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.secret_file import Secret, Text
from gateway.setting_values import (
    LEVELS,
    check_bodies,
    check_certificate,
    check_credentials,
    check_origins,
    check_proxies,
    log_level,
    normalize_path,
    read_auth,
    read_level,
    split_list,
    split_origins,
)
from providers.timeouts import Timeouts

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


SECRET_CHARS_MIN = 32
TOKEN_KEYS = ("secret", "public_key", "jwks_url")


PREFIX = "TURNWIRE_"
ENV_FILE_VARIABLE = "TURNWIRE_ENV_FILE"

ALIVE_FACTOR = 5
"""If `alive_timeout_s` isn't set, it is at most this many times `event_timeout_s`."""


class TokenSettings(NamedTuple):
    """The rules for checking tokens. Exactly one of `secret`, `public_key` and `jwks_url` is set.

    `prefix` is the prefix of the environment variables that set these three.
    """

    prefix: str
    secret: str | None
    public_key: str | None
    jwks_url: str | None
    algorithms: tuple[str, ...]
    issuer: str | None
    audience: str | None
    leeway_s: float
    scope_prefix: str


class Settings(BaseSettings):
    """The operator's settings. The name of a setting in bytes, seconds or milliseconds ends with the unit.

    The environment variable of a setting is TURNWIRE_ and the name in capitals, unless `validation_alias` lists others.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        allow_inf_nan=False,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("host", "HOST"))
    port: int = Field(8000, ge=0, le=65535, validation_alias=AliasChoices("port", "PORT"))
    certfile: str | None = None
    keyfile: str | None = None
    store: Secret = Field("", repr=False, validation_alias=AliasChoices("TURNWIRE_STORE", "REDIS_URL"))
    archive: Secret = Field("", repr=False)
    archive_sync: bool = False
    archive_migrate: bool = False
    redis_host: str | None = Field(None, validation_alias=AliasChoices("redis_host", "REDIS_HOST"))
    redis_port: int = Field(6379, ge=1, le=65535, validation_alias=AliasChoices("redis_port", "REDIS_PORT"))
    redis_password: str | None = Field(
        None, repr=False, validation_alias=AliasChoices("redis_password", "REDIS_PASSWORD")
    )
    redis_wait_replicas: int = Field(0, ge=0)
    redis_wait_ms: int = Field(500, ge=1, le=1000)
    auth: Literal["none", "jwt", "keys", "jwt,keys"] = "none"
    insecure: bool = False
    jwt_secret: str | None = Field(None, repr=False, min_length=SECRET_CHARS_MIN)
    jwt_public_key: str | None = None
    jwt_jwks_url: str | None = Field(None, pattern=r"^https?://")
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ()
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_leeway_s: float = Field(10, ge=0)
    scope_prefix: str = Field("", pattern=r"^\S*$")
    identity_secret: str | None = Field(None, repr=False, min_length=SECRET_CHARS_MIN)
    identity_public_key: str | None = None
    identity_jwks_url: str | None = Field(None, pattern=r"^https?://")
    identity_issuer: str | None = None
    identity_audience: str | None = None
    api_keys: str | None = None
    auth_timeout_s: float = Field(5, gt=0)
    auth_warning_s: float = Field(60, ge=0)
    auth_grace_s: float = Field(25, ge=0)
    ticket_ttl_s: float = Field(30, gt=0)
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    path_prefix: str = ""
    default_model: str | None = None
    system_prompt: Text = Field("", repr=False)
    """The operator's prompt, which precedes any other. No client sees it."""
    titles: str = Field("off", pattern=r"^\S+$", max_length=200)
    """`off`, `auto` for the cheapest usable model, or a model."""
    models: str | None = None
    """The operator's file of models and providers; see docs/providers.md."""
    env_file: str = ".env"
    """The file that the command reads variables from before it reads the other settings."""
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias=AliasChoices("TURNWIRE_LOG_LEVEL", "LOG_LEVEL")
    )
    admin_url: str | None = None
    admin_token: Secret | None = Field(None, repr=False)
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT", "TURNWIRE_OTLP_ENDPOINT"),
    )
    metrics: Literal["admin", "public", "off"] = "admin"
    log_format: Literal["console", "json"] = "console"
    log_users: Literal["id", "hash"] = "id"

    workers: int = Field(1, ge=1, le=256)
    frame_bytes: int = Field(65_536, ge=1024)
    input_bytes: int = Field(262_144, ge=1024)
    body_bytes: int = Field(20_971_520, ge=65_536)
    bodies_bytes: int = Field(67_108_864, ge=65_536)
    user_body_bytes_per_s: int = Field(8_388_608, ge=0)
    context_bytes: int = Field(33_554_432, ge=65_536)
    request_items: int = Field(10_000, ge=1)
    user_live_bytes: int = Field(67_108_864, ge=0)
    user_conversations: int = Field(10_000, ge=0)
    user_stored_bytes: int = Field(1_073_741_824, ge=0)
    metadata_bytes: int = Field(16_384, ge=2)
    memory_bytes: int = Field(0, ge=0)
    outbox_bytes: int = Field(262_144, ge=65_536)
    turns_per_connection: int = Field(64, ge=1)
    requests_in_flight: int = Field(256, ge=1)
    user_requests_per_s: float = Field(20, ge=0)
    user_requests_burst: int = Field(40, ge=1)
    user_connections: int = Field(10, ge=0)
    address_connections: int = Field(50, ge=0)
    user_running_turns: int = Field(8, ge=0)
    user_queued_turns: int = Field(64, ge=0)
    user_tokens_per_day: int = Field(0, ge=0)
    user_cost_per_day: Decimal = Field(Decimal(0), ge=0, decimal_places=9)
    conversation_tokens: int = Field(0, ge=0)
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "::1")
    """The addresses and networks whose X-Forwarded-For and X-Forwarded-Proto headers are trusted."""
    turn_output_bytes: int = Field(8_388_608, ge=65_536)

    heartbeat_s: float = Field(15, gt=0)
    ping_interval_s: float = Field(20, gt=0)
    ping_timeout_s: float = Field(20, gt=0)
    handshake_timeout_s: float = Field(10, gt=0)
    message_timeout_s: float = Field(10, gt=0)
    body_timeout_s: float = Field(60, gt=0)
    write_timeout_s: float = Field(30, gt=0)
    close_timeout_s: float = Field(5, gt=0)
    disconnect_grace_s: float = Field(10, ge=0)
    waiting_after_s: float = Field(10, gt=0)
    turn_timeout_s: float = Field(900, gt=0)
    turn_log_ttl_s: float = Field(600, ge=0, validation_alias=AliasChoices("TURN_LOG_TTL", "TURNWIRE_TURN_LOG_TTL_S"))
    history_ttl_s: float = Field(
        86_400,
        ge=0,
        validation_alias=AliasChoices("CHAT_HISTORY_TTL", "TURNWIRE_HISTORY_TTL_S"),
    )
    retention_days: int = Field(0, ge=0, le=36_500)
    lease_s: float = Field(10, ge=0.3)
    flush_ms: float = Field(40, ge=1, le=50)
    drain_s: float = Field(30, ge=0)
    connect_timeout_s: float = Field(5, gt=0)
    first_event_timeout_s: float = Field(60, gt=0)
    first_event_reasoning_timeout_s: float = Field(300, gt=0)
    event_timeout_s: float = Field(60, gt=0)
    alive_timeout_s: float = Field(300, gt=0)
    provider_attempts: int = Field(3, ge=1, le=10)
    retry_wait_s: float = Field(60, ge=0)
    breaker_failures: int = Field(5, ge=1)
    breaker_open_s: float = Field(30, gt=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read no variable but those that the setting lists: TURNWIRE_PORT isn't one, and Kubernetes sets it.

        In code, a setting can be given by its name, which would otherwise make the variable TURNWIRE_ and its name one, too.
        """
        env_settings.config = {**env_settings.config, "populate_by_name": False}
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _drop_kubernetes_port(cls, values: dict[str, object]) -> dict[str, object]:
        """Drop REDIS_PORT=tcp://…. Kubernetes sets it for a service called redis, so it isn't the gateway's setting."""
        return {
            name: value
            for name, value in values.items()
            if name.lower() != "redis_port" or not str(value).startswith("tcp://")
        }

    @model_validator(mode="before")
    @classmethod
    def _keep_empty_list(cls, values: dict[str, object]) -> dict[str, object]:
        """Let an empty TURNWIRE_TRUSTED_PROXIES mean no proxy. Any other empty variable counts as unset."""
        is_empty = environment().get("TURNWIRE_TRUSTED_PROXIES") == ""
        return {"trusted_proxies": (), **values} if is_empty else values

    @model_validator(mode="before")
    @classmethod
    def _choose_level(cls, values: dict[str, object]) -> dict[str, object]:
        """Ignore an unknown LOG_LEVEL: platforms set it, and other programs have other levels."""
        others = {name: value for name, value in values.items() if name != "TURNWIRE_LOG_LEVEL"}
        level = values.get("TURNWIRE_LOG_LEVEL")  # pydantic stores LOG_LEVEL's value under this name too
        is_alias = level == environment().get("LOG_LEVEL") and not environment().get("TURNWIRE_LOG_LEVEL")
        if level is None or (is_alias and log_level(str(level)) not in LEVELS):
            return others
        return {"log_level": level, **others}

    _read_auth = field_validator("auth", mode="before")(read_auth)
    _read_level = field_validator("log_level", mode="before")(read_level)
    _split_lists = field_validator("jwt_algorithms", "trusted_proxies", mode="before")(split_list)
    _check_proxies = field_validator("trusted_proxies")(check_proxies)
    _split_origins = field_validator("allowed_origins", mode="before")(split_origins)
    _check_origins = field_validator("allowed_origins")(check_origins)
    _normalize_path = field_validator("path_prefix")(normalize_path)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """Check the settings that depend on each other. Raises `ValueError`."""
        jwt_keys = {name: getattr(self, f"jwt_{name}") for name in TOKEN_KEYS}
        identity_keys = {name: getattr(self, f"identity_{name}") for name in TOKEN_KEYS}
        check_credentials(self.auth, self.api_keys, jwt_keys, identity_keys)
        check_certificate(self.certfile, self.keyfile)
        check_bodies(self.body_bytes, self.bodies_bytes, self.user_live_bytes, self.context_bytes)
        return self

    @property
    def token_settings(self) -> TokenSettings | None:
        """The rules for checking the tokens of users and services; None if `auth` doesn't include jwt."""
        if "jwt" not in self.auth:
            return None
        return TokenSettings(
            "TURNWIRE_JWT_",
            self.jwt_secret,
            self.jwt_public_key,
            self.jwt_jwks_url,
            self.jwt_algorithms,
            self.jwt_issuer,
            self.jwt_audience,
            self.jwt_leeway_s,
            self.scope_prefix,
        )

    @property
    def identity_settings(self) -> TokenSettings | None:
        """The rules for checking the tokens by which a service names its user; None if no key for them is set."""
        values = (self.identity_secret, self.identity_public_key, self.identity_jwks_url)
        if values == (None, None, None):
            return None
        issuer, audience = self.identity_issuer, self.identity_audience
        return TokenSettings("TURNWIRE_IDENTITY_", *values, (), issuer, audience, self.jwt_leeway_s, self.scope_prefix)

    @property
    def store_url(self) -> str:
        """The URL of the store: `store` if it is set, else the Redis of the REDIS_… variables (default host 127.0.0.1).

        If none of them is set, the store is the SQLite file `turnwire.db` in the working directory.
        """
        if self.store:
            return self.store
        if not self.model_fields_set & {"redis_host", "redis_port", "redis_password"}:
            return "sqlite:///turnwire.db"
        secret = f":{quote(self.redis_password, safe='')}@" if self.redis_password else ""
        host = self.redis_host or "127.0.0.1"
        return f"redis://{secret}{f'[{host}]' if ':' in host else host}:{self.redis_port}"

    @property
    def timeouts(self) -> Timeouts:
        """The times in seconds for which a provider may be silent."""
        return Timeouts(
            connect_s=self.connect_timeout_s,
            first_event_s=self.first_event_timeout_s,
            first_event_reasoning_s=self.first_event_reasoning_timeout_s,
            between_events_s=self.event_timeout_s,
            alive_s=self._alive_s,
        )

    @property
    def _alive_s(self) -> float:
        """`alive_timeout_s`. If it isn't set, a short `event_timeout_s` shortens it."""
        if "alive_timeout_s" in self.model_fields_set:
            return self.alive_timeout_s
        return min(self.alive_timeout_s, ALIVE_FACTOR * self.event_timeout_s)

    @property
    def loopback_only(self) -> bool:
        """Whether auth is off and `insecure` isn't set, so that the gateway isn't meant for the network."""
        return self.auth == "none" and not self.insecure

    @property
    def page_url(self) -> str:
        """The URL of the page for a browser on this machine."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host
        bracketed = f"[{host}]" if ":" in host else host
        return f"{'https' if self.certfile else 'http'}://{bracketed}:{self.port}"


def environment_variables(name_or_variable: str) -> tuple[str, tuple[str, ...]]:
    """Return the name of a setting and the variables that set it.

    `name_or_variable` is the name, or a variable that the setting's `validation_alias` lists. Anything else is returned
    as both.
    """
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        choices = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else []
        if name_or_variable == name or name_or_variable in choices:
            return name, tuple(choice for choice in choices if choice != name) or (f"TURNWIRE_{name.upper()}",)
    return name_or_variable, (name_or_variable,)


def setting_variables() -> set[str]:
    """Return the environment variables that set a setting."""
    return {variable for name in Settings.model_fields for variable in environment_variables(name)[1]}


def environment() -> Mapping[str, str]:
    """Return the environment of the process, for the keys and addresses of the providers."""
    return os.environ


def add_to_environment(variables: Mapping[str, str]) -> None:
    """Add variables to the environment of this process and of those that it starts, unless they are set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
