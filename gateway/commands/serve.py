"""`turnwire serve [--host --port --certfile --keyfile --store --workers --log-level]`: serve the gateway and its page."""

from __future__ import annotations

import errno
import resource
import socket
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from gateway import settings as configuration
from gateway.commands.options import EXIT_FAILED, EXIT_USAGE, fail, load_settings
from gateway.commands.secret_exposure import warn, warn_of_exposed_file
from gateway.identity.origin import is_loopback
from gateway.setting_values import LEVELS, log_level
from gateway.settings import Settings
from gateway.tls import CertificateError, tls_context, validity_problem
from providers.catalog.operator_file import CatalogError
from store.connect import REDIS_PREFIXES
from store.errors import StoreError

HELP = "serve the gateway and its page (the default command)"


def add_options(parser: ArgumentParser) -> None:
    """Add the options of this command to `parser`."""
    parser.add_argument("--host", help="address to listen on (default: HOST, or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free port (default: PORT, or 8000)")
    parser.add_argument(
        "--certfile",
        help="PEM file with the certificate chain, to serve https and wss (default: TURNWIRE_CERTFILE, or http and ws)",
    )
    parser.add_argument(
        "--keyfile", help="PEM file with its private key (default: TURNWIRE_KEYFILE, or the file of the certificate)"
    )
    parser.add_argument(
        "--store",
        help="sqlite:///FILE, redis://HOST:PORT, or @FILE with such a URL in its first line"
        " (default: TURNWIRE_STORE or REDIS_URL, or sqlite:///turnwire.db)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that share the port; more than 1 requires Redis as the store (default: TURNWIRE_WORKERS, or 1)",
    )
    parser.add_argument(
        "--log-level",
        type=log_level,
        choices=LEVELS,
        help="lowest level that is logged (default: TURNWIRE_LOG_LEVEL, or info)",
    )


def run(options: Namespace) -> None:
    """Serve until a signal.

    Exit with 2 if an option, a setting or the operator's file of models is wrong. Exit with 1 for any other failure,
    such as an address beyond loopback while auth is off, or a key for authentication that can't be used.
    """
    settings = load_settings(options)
    _disable_core_dumps()
    _check_certificate(settings)
    if settings.loopback_only and not is_loopback(settings.host):
        fail(
            f"Auth is off, so listening on {settings.host} would admit every client on the network. Listen on "
            "127.0.0.1, set TURNWIRE_AUTH, or set TURNWIRE_INSECURE=1 to admit every client.",
            EXIT_FAILED,
        )
    if settings.workers > 1:
        if not settings.store_url.startswith(REDIS_PREFIXES):
            fail(
                f"{settings.workers} workers require a shared store. Start Redis and add --store redis://HOST:PORT, "
                "or leave --workers out.",
                EXIT_USAGE,
            )
    serve(settings)


def _check_certificate(settings: Settings) -> None:
    """End the process with exit code 2 if the certificate or its key can't be used.

    Warn if the certificate has expired or isn't valid yet, or if others can read or change the file of the key.
    """
    if not settings.certfile:
        return
    try:
        tls_context(settings.certfile, settings.keyfile)
        problem = validity_problem(settings.certfile)
    except CertificateError as error:
        fail(str(error), EXIT_USAGE)
    warn_of_exposed_file(settings.keyfile or settings.certfile)
    if problem is not None:
        warn(problem)


def _disable_core_dumps() -> None:
    """Disable core dumps, because they contain keys and prompts.

    `prlimit --core=unlimited --pid` enables them for a running process.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def serve(settings: Settings) -> None:
    """Serve with these settings, in this process or in workers, until a signal. Exit with 1 or 2 if that fails."""
    # Imported here so that a wrong option is reported without waiting for these imports.
    from gateway.server import BACKLOG
    from gateway.supervisor import Workers, listen
    from gateway.telemetry.logs import configure_logging

    configure_logging(settings.log_level, settings.log_format, settings.log_users)
    host, port = settings.host, settings.port
    try:
        sockets = listen(host, port, settings.workers, BACKLOG)
    except OSError as error:
        is_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        advice = (
            "Choose an address of this machine with --host, such as 127.0.0.1, or 0.0.0.0 for all of them."
            if is_host
            else "Choose another port with --port."
        )
        fail(f"Can't listen on {host}:{port}: {error.strerror}. {advice}", EXIT_FAILED)

    def print_line(line: str) -> None:
        print(line, flush=True)

    if settings.workers == 1:
        _serve_on(sockets[0], settings, print_line)
    else:
        workers = Workers(sockets, lambda worker_socket, on_ready: _serve_on(worker_socket, settings, on_ready))
        sys.exit(workers.run(print_line))


def _serve_on(listening_socket: socket.socket, settings: Settings, on_ready: Callable[[str], None]) -> None:
    """Serve on a listening socket until a signal. `on_ready` is called with the ready line."""
    from gateway.app import Gateway
    from gateway.identity.tokens import AuthSetupError
    from gateway.server import make_server, ready_line

    with listening_socket:
        try:
            gateway = Gateway(settings, configuration.environment())
            port = listening_socket.getsockname()[1]
            make_server(gateway, settings, lambda: on_ready(ready_line(gateway, port))).run(sockets=[listening_socket])
        except CatalogError as error:
            fail(str(error), EXIT_USAGE)
        except (StoreError, AuthSetupError, CertificateError) as error:
            fail(str(error), EXIT_FAILED)
        except KeyboardInterrupt:
            pass
