"""`turnwire admin [--url --token] turns|connections|stop TURN|close CONNECTION|drain|export USER|erase USER`: operate."""

from __future__ import annotations

import json
import ssl
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from gateway.commands.configuration import load_settings
from gateway.commands.exits import EXIT_FAILED, fail
from gateway.commands.table import format_table
from gateway.settings import Settings

HELP = "list the turns and connections of an instance, stop one of them, drain the instance, or export or erase a user"
TIMEOUT_S = 10
ERASE_TIMEOUT_S = 3600


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument(
        "--url", dest="admin_url", help="URL of the instance (default: TURNWIRE_ADMIN_URL, or HOST and PORT)"
    )
    parser.add_argument(
        "--token",
        dest="admin_token",
        help="@FILE that contains a token or key with the scope admin (default: TURNWIRE_ADMIN_TOKEN)",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, help_text in (
        ("turns", "list the running and queued turns"),
        ("connections", "list the client connections"),
    ):
        listing = actions.add_parser(name, help=help_text)
        listing.add_argument("--user", help="only those of this user")
    stop = actions.add_parser("stop", help="cancel a turn")
    stop.add_argument("turn", metavar="TURN")
    stop.add_argument(
        "--user",
        help="the turn's user; required if the turn runs on another instance, or if several users have a turn with this id",
    )
    stop.add_argument("--reason", help="reason to send to the client")
    close = actions.add_parser(
        "close", help="close a connection permanently; its turns continue unless their on_disconnect is cancel"
    )
    close.add_argument("connection", metavar="CONNECTION")
    export = actions.add_parser("export", help="write everything of a user to standard output, as JSONL")
    erase = actions.add_parser("erase", help="delete everything of a user, on all instances")
    for action in (export, erase):
        action.add_argument("name", metavar="USER", help="the user; `me` is the user of the token")
        action.add_argument("--exact", action="store_true", help="USER is a name, even if it is `me`")
    actions.add_parser("drain", help="accept no new turns, let running turns end, and disconnect the clients")


def run(options: Namespace) -> None:
    """Send the request to the instance, and print the answer.

    Exit with 1 if the instance refuses or can't be reached, and with 2 if a setting is wrong.
    """
    settings = load_settings(options)
    fields = {name: value for name in ("user", "reason") if (value := getattr(options, name, None)) is not None}
    if options.action in {"turns", "connections"}:
        query = f"?user={quote(fields['user'], safe='')}" if fields else ""
        result = _send(settings, "GET", f"{options.action}{query}")
        print("\n".join(_table(result[options.action])))
    elif options.action == "stop":
        result = _send(settings, "POST", f"turns/{quote(options.turn, safe='')}/cancel", fields)
        print(f"{options.turn}: {result['turns'][options.turn]}")
    elif options.action == "close":
        _send(settings, "POST", f"connections/{quote(options.connection, safe='')}/close", {})
        print(f"{options.connection}: closed")
    elif options.action == "erase":
        _send(settings, "DELETE", _user_path(options), root="v1", timeout_s=ERASE_TIMEOUT_S)
        print(f"{options.name}: erased")
    elif options.action == "export":
        _export(settings, _user_path(options, "/export"))
    else:
        _send(settings, "POST", "drain", {})
        print("The instance is draining, and /ready returns 503. Stop it when `turnwire admin turns` lists none.")


def _user_path(options: Namespace, suffix: str = "") -> str:
    """Return the path, under /v1/, of the user that the options name."""
    return f"users/{quote(options.name, safe='')}{suffix}{'?exact=true' if options.exact else ''}"


def _export(settings: Settings, path: str) -> None:
    """Copy the export at `path` to standard output. Exit with 1 if it isn't complete or can't be written."""
    last = b""
    write_error: OSError | None = None
    with _open(settings, "GET", f"v1/{path}") as answer:
        try:
            for line in answer:
                if write_error := _write_error(line):
                    break
                last = line
        except (OSError, HTTPException):
            last = b""
    if write_error is not None:
        if isinstance(write_error, BrokenPipeError):
            raise write_error
        sys.stdout = None  # otherwise Python would try at exit to write what is left in the buffer
        fail(f"The export can't be written: {write_error.strerror}. Write it to another disk.", EXIT_FAILED)
    if not last.startswith(b'{"kind":"end"'):
        fail("The export isn't complete, because the connection was cut off. Start it again.", EXIT_FAILED)


def _write_error(line: bytes) -> OSError | None:
    """Write a line to standard output, and return the error if that fails."""
    try:
        sys.stdout.buffer.write(line)
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def _send(
    settings: Settings,
    method: str,
    path: str,
    fields: dict[str, str] | None = None,
    *,
    root: str = "v1/admin",
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Send a request to `root` plus `path`, and return the decoded JSON of the answer. For the rest, see `_open`."""
    with _open(settings, method, f"{root}/{path}", fields, timeout_s=timeout_s) as answer:
        return json.load(answer)


@contextmanager
def _open(
    settings: Settings, method: str, path: str, fields: dict[str, str] | None = None, *, timeout_s: float = TIMEOUT_S
) -> Iterator[Any]:
    """Send a request, and yield the answer.

    `fields` is sent as JSON. If the gateway refuses, print its message and exit with 1. If it can't be reached, exit
    with 1 too.
    """
    base = (settings.admin_url or settings.page_url + settings.path_prefix).rstrip("/")
    headers = {"content-type": "application/json"}
    if settings.admin_token is not None:
        headers["authorization"] = f"Bearer {settings.admin_token}"
    data = None if fields is None else json.dumps(fields).encode()
    try:
        with urlopen(Request(f"{base}/{path}", data, headers, method=method), timeout=timeout_s) as answer:
            yield answer
    except HTTPError as error:
        try:
            body = json.load(error)["error"]
            message = f"{body['message']} ({body['code']})"
        except (ValueError, KeyError, TypeError):
            message = f"No gateway at {base}: the server there returned {error.code}. Set the address of the instance with --url."
        fail(message, EXIT_FAILED)
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            fail(
                f"The certificate of {base} isn't trusted: {reason.verify_message}. If it is of your own authority, set"
                " SSL_CERT_FILE to the authority's file.",
                EXIT_FAILED,
            )
        fail(f"{base} can't be reached: {reason}. Set the address of the instance with --url.", EXIT_FAILED)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a table: the keys of the first row, then a line per row, in aligned columns.

    Without rows, the only line is `None.`.
    """
    if not rows:
        return ["None."]
    return format_table(
        [list(rows[0]), *([str("-" if cell is None else cell) for cell in row.values()] for row in rows)]
    )
