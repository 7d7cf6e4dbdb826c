"""The `turnwire` command: `turnwire serve [--host --port --store --log-level]`, also as `python -m gateway`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from pydantic import ValidationError

from gateway import settings as configuration
from gateway.auth import is_loopback
from gateway.settings import Settings
from store.base import StoreError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Exits with 1, and says why, if it can't serve; with 2 for a wrong option or setting."""
    parser = argparse.ArgumentParser(prog="turnwire", description="A WebSocket-first realtime chat gateway.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the gateway and its page (the default command)")
    serve.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port to listen on, 0 for a free one (PORT, 8000)")
    serve.add_argument(
        "--store", help="sqlite:///FILE or redis://HOST:PORT (TURNWIRE_STORE or REDIS_URL, sqlite:///turnwire.db)"
    )
    serve.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="(TURNWIRE_LOG_LEVEL)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in {"-h", "--help"}):
        given.insert(0, "serve")
    options = vars(parser.parse_args(given))
    options.pop("command")
    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        _fail(_explain(error, options), 2)
    if settings.loopback_only and not is_loopback(settings.host):
        _fail(
            f"Auth is off, so {settings.host} would let everyone on the network in. Listen on 127.0.0.1, "
            "or set TURNWIRE_INSECURE=1 if that is what you want.",
            1,
        )
    _serve(settings)


def _serve(settings: Settings) -> None:
    # Imported here so that a wrong option is answered at once.
    from gateway.app import Gateway
    from gateway.server import configure_logging, listen, make_server, ready_line

    configure_logging(settings.log_level)
    try:
        gateway = Gateway(settings, configuration.environment())
        listening = listen(settings.host, settings.port)
    except StoreError as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"Can't listen on {settings.host}:{settings.port}: {error.strerror}. Choose another with --port.", 1)
    port = listening.getsockname()[1]
    server = make_server(gateway, settings, lambda: print(ready_line(gateway, port), flush=True))
    try:
        server.run(sockets=[listening])
    except StoreError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        pass


def _explain(error: ValidationError, options: Mapping[str, object]) -> str:
    """The option or the variable that is wrong, and what it may be."""
    first = error.errors()[0]
    name, variables = configuration.variables_of(str(next(iter(first["loc"]), "")))
    if options.get(name) is not None:
        wrong = f"--{name.replace('_', '-')}"
    else:
        known = configuration.environment()
        wrong = " or ".join([one for one in variables if one in known] or variables)
    return f"{wrong} is wrong: {first['msg']}. See the README for what it may be."


def _fail(message: str, code: int) -> NoReturn:
    print(f"turnwire: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
