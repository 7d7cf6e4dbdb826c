"""The order in which the files run, and the fixtures of the browser tests: one Chromium per worker, and one gateway
per file. Both live in the session's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.gateway_process import GatewayProcess, gateway_process
from tests.page_stage import ReloadedPage, SharedPage, running_browser

# A worker takes a whole file. The longest files start first, so that no worker is left alone with a long file at the end.
LONGEST = (
    *("test_page_smooth.py", "test_redis_faults.py", "test_adversary.py", "test_schemathesis.py", "test_archive.py"),
    *("test_identity.py", "test_large_requests.py", "test_workbench.py", "test_floods.py", "test_instances.py"),
    *("test_upstreams.py", "test_install.py", "test_page_markdown.py", "test_page_sign_in.py", "test_page_looks.py"),
    *("test_ai_sdk_page.py", "test_package.py", "test_reach.py", "test_page_composer.py", "test_users.py"),
    *("test_matrix.py", "test_client_library.py", "test_limits.py", "test_process.py", "test_page_chat.py"),
    *("test_chat_clients.py", "test_redis_cluster.py", "test_page.py", "test_page_states.py", "test_docs_page.py"),
    *("test_continuation.py", "test_outdated.py", "test_ai_sdk.py", "test_bench.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files in `LONGEST` first. Tests keep their order within a file."""

    def rank(item: pytest.Item) -> int:
        return LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)

    items.sort(key=rank)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The Chromium of this worker; each test opens a browser context of its own in it."""
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page_gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayProcess]:
    """A gateway with default settings, shared by the tests of one file, as its start takes longer than most of them."""
    async with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared_page(
    browser: Browser, page_gateway: GatewayProcess, request: pytest.FixtureRequest
) -> AsyncIterator[SharedPage]:
    """One page, shared by the tests of one file. The file's `prepare_page`, if any, sets it up once."""
    shared = SharedPage(browser, page_gateway, getattr(request.module, "prepare_page", None))
    yield shared
    await shared.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def reloaded_page(browser: Browser, page_gateway: GatewayProcess) -> AsyncIterator[ReloadedPage]:
    """One tab for the tests of one file, in which each test loads the page anew."""
    reloaded = ReloadedPage(browser, page_gateway)
    yield reloaded
    await reloaded.close()
