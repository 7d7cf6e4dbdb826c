"""`turnwire serve [--host --port --store --log-level]`: the gateway and its page."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from gateway import settings as configuration
from gateway.auth import is_loopback
from gateway.cli import FAILED, WRONGLY_CALLED, fail, settings_of
from gateway.settings import Settings
from providers.operator_file import CatalogError
from store.base import StoreError

HELP = "serve the gateway and its page (the default command)"


def add_options(parser: ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("--host", help="address to listen on (HOST, 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one (PORT, 8000)")
    parser.add_argument(
        "--store", help="sqlite:///FILE or redis://HOST:PORT (TURNWIRE_STORE or REDIS_URL, sqlite:///turnwire.db)"
    )
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="(TURNWIRE_LOG_LEVEL)")


def run(options: Namespace) -> None:
    """Serve until a signal. Leaves with 1 if it can't; with 2 for a wrong option, setting or file of models."""
    settings = settings_of(options)
    if settings.loopback_only and not is_loopback(settings.host):
        fail(
            f"Auth is off, so {settings.host} would let everyone on the network in. Listen on 127.0.0.1, "
            "or set TURNWIRE_INSECURE=1 if that is what you want.",
            FAILED,
        )
    serve(settings)


def serve(settings: Settings) -> None:
    """Serve with these settings."""
    # Imported here so that a wrong option is answered at once.
    from gateway.app import Gateway
    from gateway.logs import configure_logging
    from gateway.server import listen, make_server, ready_line
    from gateway.tokens import AuthSetupError

    configure_logging(settings.log_level, settings.log_format)
    try:
        gateway = Gateway(settings, configuration.environment())
        listening = listen(settings.host, settings.port)
    except CatalogError as error:
        fail(str(error), WRONGLY_CALLED)
    except (StoreError, AuthSetupError) as error:
        fail(str(error), FAILED)
    except OSError as error:
        fail(f"Can't listen on {settings.host}:{settings.port}: {error.strerror}. Choose another with --port.", FAILED)
    port = listening.getsockname()[1]
    server = make_server(gateway, settings, lambda: print(ready_line(gateway, port), flush=True))
    try:
        with listening:
            server.run(sockets=[listening])
    except StoreError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        pass
