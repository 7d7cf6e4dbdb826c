"""The blocks of code in docs/clients.md, and a gateway for which they can be run."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.gateway_process import GatewayProcess, gateway_process
from tests.upstream import Upstream, chat

PAGE = (Path(__file__).parents[1] / "docs" / "clients.md").read_text(encoding="utf-8")
SAID = "Hello from the model."
HOST = "127.0.0.1:8000"
MODEL = "openai/m"
OTHERS = ("LangChain", "LiteLLM")
"""The titles of the clients whose packages are in `.venv-clients`."""


@dataclass(frozen=True)
class Block:
    """A block of code, with its language and the title above it."""

    title: str
    language: str
    code: str


def blocks() -> list[Block]:
    """Return all blocks of the page."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        found += [Block(title, *block) for block in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)]
    return found


def here(code: str, gateway: GatewayProcess) -> str:
    """Return the code for this gateway, and a model that answers at once."""
    code = code.replace(HOST, gateway.url.removeprefix("http://"))
    return re.sub(r'"(openai/)?demo"', rf'"\1{MODEL}"', code)


@asynccontextmanager
async def answering_gateway(folder: Path) -> AsyncIterator[GatewayProcess]:
    """Start a gateway whose default model answers at once."""
    async with Upstream() as upstream:
        upstream.play(chat(*re.split(r"(?= )", SAID)))
        settings = {
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": upstream.openai_url,
            "TURNWIRE_DEFAULT_MODEL": MODEL,
        }
        async with gateway_process(folder, settings) as process:
            yield process
