"""The endpoints of providers, from their rows and the environment, and what is missing for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from providers.catalog.schema import ProviderRow, shipped_rows
from providers.endpoint import Endpoint

_VARIABLE: Final = re.compile(r"\{([A-Z][A-Z0-9_]*)\}")
_SCHEME: Final = re.compile(r"(?:authorization:\s*)?bearer(?:\s+|$)", re.IGNORECASE)
_QUOTES: Final = "'\"`"


def resolve_variant(row: ProviderRow, providers: Mapping[str, ProviderRow]) -> ProviderRow:
    """Return `row`. If it is a variant, the fields that it doesn't set are those of the provider `variant_of`."""
    if not row.variant_of:
        return row
    own = {name: getattr(row, name) for name in row.model_fields_set}
    return providers[row.variant_of].model_copy(update={"also": (), "patterns": (), **own})


def build_endpoint(name: str, row: ProviderRow, environment: Mapping[str, str], proxy: str = "") -> Endpoint:
    """Return the endpoint of the provider `name` in this environment.

    `proxy` is used if the row's `proxy` is None and the base URL isn't on this machine.
    """
    base_url = _first_value(environment, row.base_url_variables) or _substitute(row.base_url, environment)
    if row.proxy is not None or _is_local(base_url):
        proxy = row.proxy or ""
    options = {option: _first_value(environment, names) for option, names in row.options.items()}
    headers = {header: _substitute(text, environment) for header, text in row.headers.items()}
    return Endpoint(
        provider=name,
        title=row.title,
        base_url=base_url,
        keys=row.keys,
        api_keys=tuple(key for part in _first_value(environment, row.keys).split(",") if (key := unwrap(part))),
        headers={header: text for header, text in headers.items() if text},
        options={option: value for option, value in options.items() if value},
        hint=row.hint,
        proxy=_substitute(proxy, environment),
    )


def find_missing(row: ProviderRow, endpoint: Endpoint, environment: Mapping[str, str]) -> str:
    """Return what has to be set or installed before the provider can be used, or an empty string."""
    if row.package and not _is_installed(row.package):
        return f"the extra turnwire[{row.extra}]"
    needs = []
    if row.keys and not row.key_optional and not endpoint.api_keys and not _first_value(environment, row.credentials):
        needs.append(" or ".join((*row.keys, *row.credentials)))
    if row.base_url and not endpoint.base_url:
        needs.append(" or ".join((*_VARIABLE.findall(row.base_url), *row.base_url_variables)))
    if endpoint.base_url and not _is_valid_url(endpoint.base_url):
        needs.append("a base URL like https://HOST:PORT/PATH, without a user in it")
    if not all(map(_fits_header, endpoint.api_keys)):
        name = next(name for name in row.keys if _first_value(environment, (name,)))
        needs.append(f"{name} without characters that a header can't carry")
    variables = [name for text in (*row.headers.values(), row.proxy or "") for name in _VARIABLE.findall(text)]
    needs += [name for name in variables if not _first_value(environment, (name,))]
    needs += [" or ".join(row.options[option]) for option in row.required if option not in endpoint.options]
    return " and ".join(f"({one})" if " or " in one and len(needs) > 1 else one for one in needs)


def is_known_host(endpoint: Endpoint) -> bool:
    """Return whether the provider's host is in the shipped catalog, or that of a cloud where each customer has another host."""
    shipped = shipped_rows().providers.get(endpoint.provider.partition(":")[0])
    if not endpoint.base_url or (shipped is not None and not shipped.base_url.startswith("http")):
        return True
    host = _host(endpoint.base_url)
    return any(host == known or host.endswith(f".{known}") for known in _shipped_hosts())


@cache
def _shipped_hosts() -> frozenset[str]:
    addresses = [row.base_url for row in shipped_rows().providers.values() if row.base_url.startswith("http")]
    return frozenset(_host(address) for address in addresses if not _is_local(address))


def variables_of(row: ProviderRow) -> set[str]:
    """Return the names of all variables that `row` is read from."""
    texts = (row.base_url, row.proxy or "", *row.headers.values())
    named = {name for text in texts for name in _VARIABLE.findall(text)}
    return named.union(row.base_url_variables, row.keys, row.credentials, *row.options.values())


def unwrap(value: str) -> str:
    """Return the value of a variable without what is often copied with it: blanks, quotes, and "Bearer" before a key."""
    value = value.strip().strip(_QUOTES).strip()
    return _SCHEME.sub("", value, count=1).strip(_QUOTES) if _SCHEME.match(value) else value


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _is_valid_url(address: str) -> bool:
    """Return whether requests can be sent to `address`. A user and a password in it would replace the key."""
    try:
        parts = urlsplit(address)
        return bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False


def _host(address: str) -> str:
    """Return the host of `address`, or an empty string if it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_local(address: str) -> bool:
    """Return whether `address` is on this machine."""
    host = _host(address)
    return host == "localhost" or host == "::1" or host.startswith("127.")


def _fits_header(value: str) -> bool:
    """Return whether a header can carry `value`. A key copied with typographic quotes, for example, can't be sent."""
    return value.isascii() and value.isprintable()


def _first_value(environment: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the unwrapped value of the first variable that isn't blank, or an empty string. See `unwrap`."""
    return next((value for name in names if (value := unwrap(environment.get(name, "")))), "")


def _substitute(text: str, environment: Mapping[str, str]) -> str:
    """Return `text` with the values of its variables, or an empty string if one of them isn't set."""
    values = {name: unwrap(environment.get(name, "")).rstrip("/") for name in _VARIABLE.findall(text)}
    return _VARIABLE.sub(lambda match: values[match[1]], text) if all(values.values()) else ""
