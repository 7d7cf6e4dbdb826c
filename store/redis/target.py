"""The URL of a Redis, which names one server, nodes of a cluster, or the Sentinels of a master."""

from __future__ import annotations

import os
import re
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct
from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError

from store.errors import StoreError

SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")
PORT = 6379
SENTINEL_PORT = 26379

PLAIN_OPTIONS = re.compile(
    "username|password|db|path|connection_class|host|port|protocol|client_name|lib_name|lib_version|decode_responses|"
    "encoding|encoding_errors|health_check_interval|retry_on_timeout|socket_(?:connect_)?timeout|socket_keepalive|"
    "socket_read_size|ssl_.+|sentinel_username|sentinel_password"
)
"""The options that a URL may have. redis-py has others, such as `retry`, whose values are objects of Python."""

FILE_OPTIONS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

_SEVERAL = re.compile(r"(rediss?)\+(cluster|sentinel)://([^/?#]*)(/[^?#]*)?(\?.*)?", re.DOTALL)

INVALID = (
    "The store's URL is invalid. Use --store redis://USER:PASSWORD@HOST:PORT/DB,"
    " redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT or"
    " redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/MASTER/DB, and percent-encode each / and @ in the password."
)


REPEATED = (
    "The store's URL has more than one @. Write the user and the password once, before the first address, as in"
    " redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT, and percent-encode each @ in the password as %40."
)


class Target(Struct, frozen=True):
    """The parts of a URL. `hosts` has one address for "node", and none for a Unix socket.

    `options` are the arguments of a `connection_class` apart from its address, and `sentinel_options` those of a
    connection to a Sentinel. `master` is the name by which the Sentinels know the master.
    """

    kind: Literal["node", "cluster", "sentinel"]
    hosts: tuple[tuple[str, int], ...]
    connection_class: type[AbstractConnection]
    options: dict[str, Any]
    tls: bool
    master: str = ""
    sentinel_options: dict[str, Any] = {}

    @property
    def db(self) -> int:
        """The number of the database."""
        return int(self.options.get("db", 0))

    @property
    def address(self) -> str:
        """The addresses, for messages."""
        return ", ".join(f"{host}:{port}" for host, port in self.hosts) if self.hosts else str(self.options["path"])


def parse_target(url: str) -> Target:
    """Return what `url` names. Raises `StoreError`, which doesn't quote the URL, because it may hold a password."""
    try:
        several = _SEVERAL.fullmatch(url)
        return _one(url) if several is None else _several(*several.groups(default=""))
    except (ValueError, TypeError, RedisError):
        raise StoreError(INVALID) from None


def check_files(target: Target) -> None:
    """Raise `StoreError` if an option of TLS names a file that can't be read."""
    for option in FILE_OPTIONS:
        path = target.options.get(option)
        if path is not None and not os.access(path, os.R_OK):
            what = (
                "can't be read. Give the gateway's user access"
                if os.path.exists(path)
                else "isn't there. Correct its path"
            )
            raise StoreError(f"{path}, which {option} in the store's URL names, {what}.")


def _options(url: str) -> tuple[dict[str, Any], tuple[str, int] | None]:
    """Return redis-py's options of a URL with one address, and the address; None for a Unix socket."""
    options = dict[str, Any](parse_url(url))
    if not all(PLAIN_OPTIONS.fullmatch(name) for name in options):
        raise ValueError("an option is unknown")
    options.pop("protocol", None)
    if "path" in options:
        return options, None
    return options, (str(options.pop("host", "localhost")), int(options.pop("port", PORT)))


def _one(url: str) -> Target:
    options, address = _options(url)
    parts = urlsplit(url)
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise ValueError("a database is a number")
    connection_class = options.pop("connection_class", Connection)
    hosts = () if address is None else (address,)
    return _checked(Target("node", hosts, connection_class, options, parts.scheme == "rediss"))


def _several(scheme: str, topology: str, authority: str, path: str, query: str) -> Target:
    secret, at, names = authority.rpartition("@")
    if "@" in secret:
        raise StoreError(REPEATED)
    parts = [unquote(part) for part in path.strip("/").split("/")] if path.strip("/") else []
    is_sentinel = topology == "sentinel"
    master = parts.pop(0) if is_sentinel and parts else ""
    if (is_sentinel and not master) or len(parts) > 1 or not all(part.isdecimal() for part in parts):
        raise ValueError("the path is the name of the master, if there are Sentinels, and a database")
    addresses = [name.strip() for name in names.split(",")]
    if not all(addresses):
        raise ValueError("an address is empty")
    parsed = [_options(f"{scheme}://{secret}{at}{name}/{''.join(parts)}{query}") for name in addresses]
    default = SENTINEL_PORT if is_sentinel else PORT
    hosts = tuple(
        (address[0], address[1] if urlsplit(f"//{name}").port else default)
        for name, (_, address) in zip(addresses, parsed, strict=True)
        if address is not None
    )
    options = parsed[0][0]
    connection_class = options.pop("connection_class", Connection)
    own = {name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options}
    tls = scheme == "rediss"
    sentinel_options = {name: value for name, value in options.items() if name.startswith("ssl_")} | own
    if not is_sentinel and options.get("db"):
        raise StoreError("A Redis Cluster has only the database 0. Leave the number at the end of the URL out.")
    kind: Literal["cluster", "sentinel"] = "sentinel" if is_sentinel else "cluster"
    return _checked(Target(kind, hosts, connection_class, options, tls, master, sentinel_options))


def _checked(target: Target) -> Target:
    """Return `target`. Raises `ValueError` or `TypeError` if redis-py refuses one of its options."""
    address: dict[str, Any] = {"host": target.hosts[0][0], "port": target.hosts[0][1]} if target.hosts else {}
    target.connection_class(**target.options, **address)
    return target
