"""`make redis-cli` and `make db-shell`: open the configured store in redis-cli or sqlite3.

The settings are read as the gateway reads them. A password is passed in the environment, not on the command line.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, NoReturn

from gateway.commands.configuration import load_settings
from gateway.commands.env_file import load_env_file
from gateway.commands.exits import EXIT_FAILED, EXIT_USAGE, fail
from store.connect import REDIS_PREFIXES, SQLITE_PREFIX
from store.redis.target import parse_target
from store.sqlite.database import MEMORY


def redis_cli(url: str, arguments: list[str]) -> NoReturn:
    """Replace this process with redis-cli, connected to the Redis at `url`."""
    if not url.startswith(REDIS_PREFIXES):
        fail("The store isn't a Redis. Set TURNWIRE_STORE or REDIS_URL, or run make db-shell.", EXIT_USAGE)
    target = parse_target(url)
    if target.kind == "sentinel":
        fail(
            "The store is behind Sentinels. Ask one of them for the master, and use redis-cli -h HOST -p PORT.",
            EXIT_USAGE,
        )
    fields: dict[str, Any] = dict(target.options)
    if target.hosts:
        fields["host"], fields["port"] = target.hosts[0]
    options = ["-s", fields["path"]] if "path" in fields else []
    for name, option in (
        ("host", "-h"),
        ("port", "-p"),
        ("db", "-n"),
        ("username", "--user"),
        ("ssl_ca_certs", "--cacert"),
    ):
        if fields.get(name):
            options += [option, str(fields[name])]
    options += ["--tls"] if target.tls else []
    options += ["-c"] if target.kind == "cluster" else []
    if fields.get("password"):
        os.environ["REDISCLI_AUTH"] = fields["password"]
    run("redis-cli", "redis-tools", [*options, *arguments])


def db_shell(url: str, arguments: list[str]) -> NoReturn:
    """Replace this process with sqlite3 on the file of `url`. The gateway may be running."""
    if url.startswith(REDIS_PREFIXES):
        fail("The store is a Redis, not a SQLite file. Run make redis-cli.", EXIT_USAGE)
    path = url.removeprefix(SQLITE_PREFIX)
    if path == MEMORY:
        fail("The SQLite store is in memory. There is no file to open.", EXIT_FAILED)
    if not Path(path).is_file():
        fail(f"The SQLite file {path} doesn't exist. make run creates it.", EXIT_FAILED)
    run("sqlite3", "sqlite3", [path, *arguments])


def run(program: str, package: str, arguments: list[str]) -> NoReturn:
    """Replace this process with the program; if it isn't installed, say how to install it."""
    if shutil.which(program) is None:
        fail(f"{program} isn't installed. On Debian and Ubuntu: apt install {package}", EXIT_FAILED)
    os.execvp(program, [program, *arguments])


def main() -> None:
    """Open the shell that the first argument names, with the other arguments."""
    load_env_file()
    url = load_settings(Namespace()).store_url
    shell = {"redis-cli": redis_cli, "db-shell": db_shell}[sys.argv[1]]
    shell(url, sys.argv[2:])


if __name__ == "__main__":
    main()
