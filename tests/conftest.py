"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import httpcore2
import pytest
from hypothesis import settings

from gateway.telemetry.logs import configure_structlog
from tests.compiled import compile_all
from tests.examples import FUZZED, examples
from tests.gateway_forks import Imported
from tests.gateway_process import FORKED, FORKS, FORKS_VARIABLE, GatewayProcess, gateway_process

configure_structlog()
# Examples have no deadline, because other load on a shared machine makes some of them slow.
settings.register_profile("patient", deadline=None, max_examples=examples(50))
settings.load_profile("patient")

new_ssl_context = httpcore2.default_ssl_context


@cache
def _ssl_context(cert_file: str | None, cert_folder: str | None, trust_env: bool) -> ssl.SSLContext:
    return new_ssl_context(_trust_env=trust_env)


def shared_ssl_context(*, _trust_env: bool = True) -> ssl.SSLContext:
    """Return the TLS context of all clients. Making one takes longer than most requests, and few clients use TLS."""
    return _ssl_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"), _trust_env)


httpcore2.default_ssl_context = shared_ssl_context

# Programs that a shell starts in the background ignore SIGINT, and so would those that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Everything that the tests start is on loopback, where no proxy is used.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Remove the timeouts of all tests for `make fuzz`, whose duration depends on the number of examples."""
    for item in items if FUZZED else []:
        item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_configure(config: pytest.Config) -> None:
    """Compile everything, and start the process from which the gateways of all workers are forked. What collects the tests
    does so without garbage collections, which would take a quarter of the time."""
    is_xdist = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if not is_xdist:
        gc.disable()
    has_workers = (is_xdist or config.getoption("workers", 0)) and not config.option.collectonly
    if has_workers and not sys.dont_write_bytecode:
        compile_all(config)
    if has_workers and FORKED:
        imported = Imported()
        os.environ[FORKS_VARIABLE] = imported.address
        config.add_cleanup(imported.stop)


def pytest_collection_finish() -> None:
    """Exclude the collected tests and the imported modules from garbage collections, as `gateway/server.py` does. A full
    collection would take 0.2 s."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """End the process that forks gateways, if one of the tests has started it."""
    yield
    FORKS.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway process with default settings, no API key, and its own store."""
    async with gateway_process(tmp_path) as process:
        yield process
