"""The blocks of code in clients/python/README.md, and what a user's project does with the installed client."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from tests.client_docs import HOST, MODEL
from tests.gateway_process import clean_environment, gateway_process
from tests.upstream import Upstream, chat

README = (Path(__file__).parents[1] / "clients" / "python" / "README.md").read_text(encoding="utf-8")
SAID = "Hello from the model."
SAYS = chat(*re.split(r"(?= )", SAID))
CALLS = chat(
    {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}]},
    finish="tool_calls",
)
EXPECTED = {
    "Quickstart": rf"^{SAID}\nUsage\(.*\), stop$",
    "Quickstart 2": rf"^{SAID}Usage\(",
    "Stop": r"^cancelled enough\ncancelled enough$",
    "Callbacks": rf"^{SAID}\ncompleted$",
    "Conversations": rf"^user My name is Ann.\nassistant {SAID}\nuser Hello\nassistant {SAID}\nUsageReport\(.*My name is Ann",
    "Tools": rf"^{SAID}$",
    "Resume": "^## .* the only notification you need.$",
    "Where no WebSocket gets through": rf"^http {SAID}$",
    "Errors": r"^model_not_found Model no-such-model not found\.",
}
"""What each block prints, by the title above it."""
RUNNER = """
import contextlib, io, json, sys

printed = {}
for title, code in json.load(sys.stdin).items():
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, title, "exec"), {"__name__": "__main__"})
    printed[title] = output.getvalue().strip()
print(json.dumps(printed))
"""
IMPORTED = """
import json, sys
import turnwire.client, turnwire.client.sync

files = {name.split(".")[0]: getattr(module, "__file__", None) or "" for name, module in list(sys.modules.items())}
print(json.dumps(sorted(name for name, file in files.items() if "site-packages" in file and not name.startswith("_"))))
"""
PROGRAM = '''"""A user's program, for the type checker."""

import asyncio
from collections.abc import Iterator
from typing import assert_type

from turnwire.client import AbortController, AbortSignal, Message, TurnDelta, TurnwireError, connect
from turnwire.client import sync


def weather(place: str) -> str:
    """Return the weather."""
    return place


async def fresh_token() -> str:
    return "token"


async def main() -> None:
    stop = AbortController()
    async with connect("ws://127.0.0.1:8000/ws", token=fresh_token) as gateway:
        turn = gateway.start("Hello", model="demo", signal=AbortSignal.any([stop.signal, AbortSignal.timeout(3)]))
        async for event in turn:
            if isinstance(event, TurnDelta):
                assert_type(event.text, str | None)
        assert_type(await turn, Message)
        async for text in turn.text():
            assert_type(text, str)
        assert_type(await gateway.run("Hello", tools=[weather]), Message)
        for record in await gateway.conversations().all():
            assert_type(record.title, str)


def blocking() -> None:
    with sync.connect("ws://127.0.0.1:8000/ws", token=lambda: "token", codec="msgpack") as gateway:
        turn = gateway.start("Hello", model="demo", on_busy="queue")
        assert_type(turn, sync.Turn)
        assert_type(turn.text(), Iterator[str])
        try:
            assert_type(turn.result(3), Message)
        except TurnwireError as error:
            assert_type(error.code, str)
        assert_type(gateway.models().default, str)
        for record in gateway.conversations(limit=3):
            assert_type(record.id, str)
        conversation = gateway.create_conversation("mine", title="Mine")
        assert_type(conversation.get().title, str)
        assert_type(conversation.start("Hello"), sync.Turn)
        gateway.start("Hello", nonsense=1)  # type: ignore[call-arg]


if __name__ == "__main__":
    asyncio.run(main())
    blocking()
'''


def blocks() -> dict[str, str]:
    """Return the blocks of Python, by the title above each; the second one below a title has a 2 after it."""
    found: dict[str, str] = {}
    for section in README.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL), 1):
            found[title if number == 1 else f"{title} {number}"] = code
    return found


async def printed(python: Path, folder: Path) -> dict[str, str]:
    """Run each block with this interpreter and a gateway process, and return what it prints.

    The default model answers at once, and calls the tool of the block about tools.
    """
    async with Upstream() as upstream:
        before = list(EXPECTED).index("Tools")
        turns = {"Conversations": 2, "Stop": 0}
        upstream.play(*[SAYS] * sum(turns.get(title, 1) for title in list(EXPECTED)[:before]), CALLS, SAYS)
        settings = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": upstream.openai_url, "TURNWIRE_DEFAULT_MODEL": MODEL}
        async with gateway_process(folder, settings) as gateway:
            address = gateway.url.removeprefix("http://")
            codes = {title: code.replace(HOST, address) for title, code in blocks().items()}
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *(python, "-W", "error", "-c", RUNNER),
                env={name: value for name, value in clean_environment({}).items() if name != "PYTHONPATH"},
                cwd=folder,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
            )
            output, errors = await asyncio.wait_for(process.communicate(json.dumps(codes).encode()), 200)
    assert (process.returncode, errors.decode()) == (0, "")
    outputs: dict[str, str] = json.loads(output)
    return outputs
