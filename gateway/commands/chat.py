"""`turnwire chat [--url --token --model]`: chat in the terminal, or answer what is piped in."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from gateway.commands.options import EXIT_USAGE, fail, load_settings
from gateway.commands.secret_exposure import warn, warn_of_exposed_file
from gateway.secret_file import read_secret
from gateway.settings import environment

HELP = "chat with a gateway in the terminal; piped in, a text is answered: echo Hi | turnwire chat"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("--url", help="URL of the gateway (default: TURNWIRE_URL, or HOST and PORT of this machine)")
    parser.add_argument("--token", help="@FILE that contains a token or key (default: TURNWIRE_TOKEN)")
    parser.add_argument("--model", help="model id, alias, or PROVIDER/MODEL (default: the gateway's default)")
    parser.add_argument("--system", help="system prompt of new conversations")
    parser.add_argument("--conversation", metavar="ID", help="continue this conversation")
    parser.add_argument(
        "--transport",
        choices=["auto", "socket", "http"],
        default="auto",
        help="use a WebSocket or HTTP alone (default: auto, HTTP if no WebSocket can be opened)",
    )


def run(options: Namespace) -> None:
    """Chat until the user leaves. If standard input isn't a terminal, answer it, and write nothing but the answer.

    Exit with 1 if that fails, with 2 if an option is wrong, and with 130 after Ctrl-C.
    """
    from gateway.commands.terminal.program import chat  # the other commands don't load the client

    url = options.url or environment().get("TURNWIRE_URL") or _local_url()
    if code := chat(options, url, _token(options.token)):
        sys.exit(code)


def _local_url() -> str:
    settings = load_settings(Namespace())
    return settings.page_url + settings.path_prefix


def _token(option: str | None) -> Callable[[], str] | None:
    """Return a function that returns the credential, from the option or from TURNWIRE_TOKEN; None if there is none.

    A file is read again each time, so a new token in it renews the one that expires. Exit with 2 if it can't be read.
    """
    value = option if option is not None else environment().get("TURNWIRE_TOKEN", "")
    if not value:
        return None
    if value.startswith("@"):
        warn_of_exposed_file(value[1:])
    elif option is not None:
        warn(
            "--token contains a secret, and every user of this machine can read command lines. Put the secret into a file"
            " and use --token @FILE, or set TURNWIRE_TOKEN."
        )
    try:
        read_secret(value)
    except ValueError as error:
        name = "TURNWIRE_TOKEN" if option is None else "--token"
        fail(f"{name} is invalid: {error}.", EXIT_USAGE)
    return lambda: read_secret(value)
