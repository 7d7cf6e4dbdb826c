"""Providers that a test uses at its own upstream, with keys for all of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from providers.base import ChatRequest, ProviderError
from providers.catalog.catalog import Catalog
from providers.catalog.schema import shipped_rows
from providers.clients import ProviderClients
from providers.route import Route
from providers.timeouts import Timeouts
from tests.answers import Answer
from tests.provider_requests import chat_request
from tests.upstream import Script, Upstream

KEY = "sk-test-secret-123456789"


def every_key(key: str = KEY) -> dict[str, str]:
    """Return an environment that configures every provider of the catalog."""
    environment: dict[str, str] = {}
    for row in shipped_rows().providers.values():
        environment |= dict.fromkeys(row.keys[:1], key)
        name = "https://one.example" if row.base_url.startswith("{") else "one"
        environment |= dict.fromkeys(re.findall(r"{(\w+)}", row.base_url), name)
        environment |= {row.options[option][0]: "region-1" for option in row.required}
    return environment


class UpstreamProviders:
    """The providers of one test, with the test's upstream as their address."""

    def __init__(self, upstream: Upstream, timeouts: Timeouts, environment: Mapping[str, str]) -> None:
        self.catalog = Catalog({**addresses(upstream), **environment})
        self.providers = ProviderClients(self.catalog, timeouts)

    async def answer_model(self, model_id: str, **fields: Any) -> Answer:
        """Return the answer of the model `model_id` to `chat_request`."""
        route = self.catalog.resolve(model_id)
        return await self.answer(chat_request(model=route.model, **fields), route)

    async def answer(self, request: ChatRequest, route: Route) -> Answer:
        """Return the whole answer, with the error that ended it."""
        answer = Answer()
        try:
            await self.providers.client(route).answer(request, answer)
        except ProviderError as error:
            answer.error = error
        return answer


def addresses(upstream: Upstream) -> dict[str, str]:
    """Return an environment in which every provider has the address of `upstream`."""
    environment: dict[str, str] = {}
    for row in shipped_rows().providers.values():
        url = upstream.anthropic_url if row.dialect.startswith("anthropic") else upstream.openai_url
        environment |= dict.fromkeys(row.base_url_variables[:1], url + "/v1" * (row.dialect == "anthropic_vertex"))
    return environment


@asynccontextmanager
async def open_providers(
    timeouts: Timeouts | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Upstream, UpstreamProviders]]:
    """Open an upstream and providers that use it: all of them, or those whose keys are in `environment`."""
    async with Upstream() as upstream:
        providers = UpstreamProviders(
            upstream, timeouts or Timeouts(), every_key() if environment is None else environment
        )
        try:
            yield upstream, providers
        finally:
            await providers.providers.aclose()


async def failure_of(script: Script, route: Route) -> ProviderError:
    """Return the error of a request to which the upstream replies with `script`. Check that it is sent only once."""
    async with open_providers() as (upstream, providers):
        upstream.play(script)
        answer = await providers.answer(chat_request(), route)
        assert answer.error is not None
        assert len(upstream.requests) == 1
        return answer.error
