"""Read and check the values of settings: each by itself, and together. The fields are in `Settings`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network

LEVELS = ("debug", "info", "warning", "error")
_LEVEL_SYNONYMS = {
    **dict.fromkeys(("trace", "verbose"), "debug"),
    **dict.fromkeys(("notice", "information"), "info"),
    "warn": "warning",
    **dict.fromkeys(("err", "critical", "crit", "fatal", "alert", "emerg", "emergency", "panic"), "error"),
}

_ORIGIN = re.compile(r"(?!wss?:)[a-z][a-z0-9+.-]*://([a-z0-9_.-]+|\[[0-9a-f:.]+\])(:(\d{1,5}))?")
"""An origin as browsers write it: in lower case, and without a path."""
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


_PREFIX_MIN = {4: 8, 6: 16}
"""The shortest prefix of a network of trusted proxies, by the version of IP, unless the network is private."""


def read_auth(value: object) -> object:
    """Return a list of kinds of authentication in the order that `Settings.auth` has: `keys, jwt` means `jwt,keys`."""
    return ",".join(sorted({name.strip() for name in value.split(",")})) if isinstance(value, str) else value


def split_list(value: object) -> object:
    """Split the comma-separated value of a variable."""
    return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value


def check_proxies(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values`. Raise `ValueError` for one that isn't an address or a network, or is a large part of the internet.

    A client whose address is a trusted proxy's may claim any address.
    """
    for name in values:
        try:
            network = ip_network(name)
        except ValueError:
            raise ValueError(f"{name!r} isn't an IP address or a network such as 10.0.0.0/8") from None
        if network.prefixlen < _PREFIX_MIN[network.version] and not network.is_private:
            raise ValueError(f"{name} includes too many addresses, which clients may have; list only your proxies")
    return values


def split_origins(value: object) -> object:
    """Split the comma-separated origins of a variable, and write each as a browser does."""
    if not isinstance(value, str):
        return value
    return tuple(_written_by_browsers(origin) for origin in value.split(",") if origin.strip())


def check_origins(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return `values`. Raise `ValueError` for one that isn't an origin of a page: scheme, host and, if needed, port."""
    for origin in values:
        match = _ORIGIN.fullmatch(origin)
        if match is None or int(match[3] or 0) > 65535:
            raise ValueError(
                f"{origin!r} isn't an origin. List each one in full, scheme://host:port without a path, for example "
                "https://chat.example.com,http://localhost:5173"
            )
    return values


def _written_by_browsers(origin: str) -> str:
    """Return an origin as browsers write it: in lower case, without a path's slash and a default port."""
    origin = origin.strip().rstrip("/").lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition("://")[0], ""))


def normalize_path(value: str) -> str:
    """Return the path with one leading slash and no trailing slash; "/" becomes "". Raises `ValueError`."""
    if re.fullmatch(r"/?(?:[\w.~-]+/)*[\w.~-]*", value) is None:
        raise ValueError("it must be a path such as /chat")
    path = value.strip("/")
    return f"/{path}" if path else ""


def log_level(word: str) -> str:
    """Return the level of `LEVELS` that `word` means, in any case. Return an unknown word in lower case."""
    word = word.strip().lower()
    return _LEVEL_SYNONYMS.get(word, word)


def read_level(value: object) -> object:
    """Return the level that a variable means. See `log_level`."""
    return log_level(value) if isinstance(value, str) else value


def check_credentials(
    auth: str, api_keys: str | None, jwt_keys: Mapping[str, object], identity_keys: Mapping[str, object]
) -> None:
    """Check that `auth` has the keys it needs and that no key is set without effect. Raises `ValueError`.

    `jwt_keys` and `identity_keys` map the name of each key to its value, or to None.
    """
    jwt = _has_one(jwt_keys, "TURNWIRE_JWT_")
    if "jwt" in auth and not jwt:
        raise ValueError(
            "TURNWIRE_AUTH=jwt requires a key. Set TURNWIRE_JWT_SECRET, TURNWIRE_JWT_PUBLIC_KEY or TURNWIRE_JWT_JWKS_URL"
        )
    if "jwt" not in auth and jwt:
        raise ValueError(
            "a key for tokens is set (TURNWIRE_JWT_…), but TURNWIRE_AUTH doesn't include jwt. Add it, or unset the key"
        )
    if ("keys" in auth) != (api_keys is not None):
        raise ValueError(
            "TURNWIRE_AUTH=keys and TURNWIRE_API_KEYS, the file with the keys, require each other. Set both, or neither"
        )
    if _has_one(identity_keys, "TURNWIRE_IDENTITY_") and auth == "none":
        raise ValueError(
            "a key for X-Turnwire-Identity is set (TURNWIRE_IDENTITY_…), but auth is off. Set TURNWIRE_AUTH, or unset the key"
        )


def _has_one(values: Mapping[str, object], prefix: str) -> bool:
    """Return whether one of `values` is set. Raises `ValueError` if more than one is."""
    found = [prefix + name.upper() for name in values if values[name] is not None]
    if len(found) > 1:
        raise ValueError(f"{' and '.join(found)} are set, but only one key can check tokens. Unset the others")
    return bool(found)


def check_certificate(certfile: str | None, keyfile: str | None) -> None:
    """Check that a key for TLS has its certificate. Raises `ValueError`."""
    if keyfile and not certfile:
        raise ValueError("TURNWIRE_KEYFILE is set without TURNWIRE_CERTFILE. Set both, or neither")


def check_bodies(body_bytes: int, bodies_bytes: int, user_live_bytes: int, context_bytes: int) -> None:
    """Check that the other limits have room for the largest body. Raises `ValueError`."""
    if bodies_bytes < body_bytes:
        raise ValueError("TURNWIRE_BODIES_BYTES must be at least TURNWIRE_BODY_BYTES. Raise it")
    if 0 < user_live_bytes < body_bytes:
        raise ValueError("TURNWIRE_USER_LIVE_BYTES must be at least TURNWIRE_BODY_BYTES, or 0. Raise it")
    if context_bytes < body_bytes:
        raise ValueError("TURNWIRE_CONTEXT_BYTES must be at least TURNWIRE_BODY_BYTES. Raise it")
