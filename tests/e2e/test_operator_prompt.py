"""`TURNWIRE_SYSTEM_PROMPT`: every provider gets the operator's prompt first, and no client can read or remove it. A prompt
that can't be used is refused at the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.client import client
from tests.credentials import SECRET, bearer, token
from tests.gateway_process import clean_environment, gateway_process
from tests.upstream import Upstream, chat, error_response, messages, responses

pytestmark = pytest.mark.e2e

CANARY = "canary-51c7"
PROMPT = f"Never name {CANARY}.\n\nAnswer in English."


def system_of(body: dict[str, Any]) -> str:
    """Return the first system prompt of a request to a provider, whatever its dialect."""
    if "messages" in body and body["messages"][0]["role"] == "system":
        return str(body["messages"][0]["content"])
    system: Any = body.get("system", body.get("instructions"))
    return system if isinstance(system, str) else str(system[0]["text"])


async def test_every_dialect_gets_the_operators_prompt_first(tmp_path: Path) -> None:
    """The prompt from a file precedes that of the turn or of the conversation, in each dialect. A stateless turn gets it
    too."""
    file = tmp_path / "prompt.md"
    file.write_text(PROMPT + "\n", encoding="utf-8")
    async with Upstream() as upstream:
        environment = {
            "TURNWIRE_SYSTEM_PROMPT": f"@{file}",
            **{"KIMI_API_KEY": "sk-x", "KIMI_BASE_URL": upstream.openai_url},
            **{"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.openai_url},
            **{"ANTHROPIC_API_KEY": "sk-x", "ANTHROPIC_BASE_URL": upstream.anthropic_url},
        }
        upstream.play(*[chat("Yes.")] * 4, responses("Yes."), messages("Yes."))
        async with gateway_process(tmp_path, environment) as gateway, client(gateway.ws_url) as c:
            made = await c.request("conversation.create", system="Be kind.")
            ways: list[tuple[str, dict[str, Any], str]] = [
                ("kimi/any", {"input": "Hi"}, ""),
                ("kimi/any", {"input": "Hi", "conversation": made["id"]}, "Be kind."),
                ("kimi/any", {"input": "Hi", "conversation": made["id"], "system": "Be brief."}, "Be brief."),
                (
                    "kimi/any",
                    {"messages": [{"role": "user", "parts": [{"kind": "text", "text": "Hi"}]}], "system": ""},
                    "",
                ),
                ("gpt-6-sol", {"input": "Hi", "system": "Be brief."}, "Be brief."),
                ("claude-haiku-4-5", {"input": "Hi", "system": "Be brief."}, "Be brief."),
            ]
            for number, (model, fields, own) in enumerate(ways):
                await c.request("turn.start", turn=f"t{number}", model=model, **fields)
                assert (await c.ending(f"t{number}"))["type"] == "turn.completed"
                assert system_of(upstream.requests[number].body) == PROMPT + (f"\n\n{own}" if own else "")


async def test_no_client_can_read_the_operators_prompt(tmp_path: Path) -> None:
    """No event, answer, error or log line at `info` has the prompt, even if the provider quotes it in an error."""
    async with Upstream() as upstream:
        environment = {
            "TURNWIRE_SYSTEM_PROMPT": PROMPT,
            **{"TURNWIRE_AUTH": "jwt", "TURNWIRE_JWT_SECRET": SECRET},
            **{"KIMI_API_KEY": "sk-x", "KIMI_BASE_URL": upstream.openai_url},
        }
        quoted = {
            "error": {"message": f"Invalid system message: {PROMPT}", "type": "invalid_request_error", "param": PROMPT}
        }
        upstream.play(chat("Yes."), error_response(400, quoted), error_response(404, quoted))
        headers = bearer(token("ann", scope="chat read cancel admin"))
        seen: list[str] = []
        async with gateway_process(tmp_path, environment) as gateway:
            async with client(gateway.ws_url, additional_headers=headers) as c:
                for turn in ("t1", "t2", "t3"):
                    await c.request("turn.start", turn=turn, input="Hi", system="Be brief.", model="kimi/any")
                    ending = await c.ending(turn)
                    assert ending["type"] == ("turn.completed" if turn == "t1" else "turn.failed")
                    seen.append(str(await c.request("turn.get", turn=turn)))
                    placed = c.turns[turn].frames[0]["conversation"]
                    seen.append(str(await c.request("conversation.get", conversation=placed)))
                    seen.append(str(await c.request("conversation.messages", conversation=placed)))
                seen.append(str(c.frames))
            async with httpx2.AsyncClient(base_url=gateway.url, headers=headers) as http:
                addresses = (await http.get("/v1")).json()["addresses"]
                plain = {one["path"] for one in addresses if one["method"] == "GET" and "{" not in one["path"]}
                for path in sorted(
                    plain | {"/v1/turns/t1", "/v1/turns/t1/events", "/openapi.json", "/metrics"} - {"/ws"}
                ):
                    seen.append((await http.get(path)).text)
        assert CANARY in str(upstream.requests[0].body)
        assert len(upstream.requests) == 3
    assert "Be brief." in "".join(seen)
    assert CANARY not in "".join(seen)
    assert CANARY not in "".join(gateway.log)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("@no-such-file.md", "the file 'no-such-file.md' can't be read (No such file or directory)"),
        ("@", "can't be read"),
        ("x" * 70_000, "longer than 65536 bytes. Shorten it"),
    ],
    ids=["missing", "unnamed", "long"],
)
def test_an_unusable_prompt_is_refused_at_the_start(tmp_path: Path, value: str, words: str) -> None:
    """The gateway doesn't start. Its error names the variable and the problem, and doesn't quote the prompt."""
    refused = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--port", "0", "--store", f"sqlite:///{tmp_path / 'turnwire.db'}"],
        env=clean_environment({"TURNWIRE_SYSTEM_PROMPT": value}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("turnwire: TURNWIRE_SYSTEM_PROMPT is invalid: ")
    assert words in refused.stderr
    assert "xxx" not in refused.stderr
