"""Tests of `turnwire check MODEL` against a real HTTP server in place of the provider."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile

import pytest

from tests.gateway_forks import Forked, Process
from tests.gateway_process import FORKS, LINE_BYTES_MAX, ROOT
from tests.upstream import Script, Upstream, chat, error_response
from tests.upstream_providers import KEY


async def check(url: str, model: str, *, fresh: bool = False) -> tuple[int | None, str, str]:
    """Run the command as a process, and return its exit code, its stdout and its stderr. `fresh`: in a new interpreter,
    not in a fork."""
    environment = {"KIMI_API_KEY": KEY, "KIMI_BASE_URL": url, "PATH": ""}
    forks = None if fresh else FORKS.open()
    with tempfile.TemporaryFile() as errors:
        process: Process
        if forks is None:
            command = (sys.executable, "-m", "gateway", "check", model)
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=errors)
        else:
            process = await forks.start(("check", model), environment, ROOT, LINE_BYTES_MAX, errors.fileno())
        assert process.stdout is not None
        out = await process.stdout.read()
        code = await process.wait()
        if isinstance(process, Forked):
            process.close()
        errors.seek(0)
        return code, out.decode(), errors.read().decode()


async def test_a_working_model_is_reported_with_timings() -> None:
    """The command sends one short real request, and prints the time of each phase."""
    async with Upstream() as upstream:
        upstream.play(chat("ready", usage={"prompt_tokens": 9, "completion_tokens": 1}).replace(delay_s=0.05))
        code, out, err = await check(upstream.openai_url, "kimi/some-model", fresh=True)
        assert (code, err) == (0, "")
        assert re.fullmatch(
            r"kimi/some-model: answered by Kimi as some-model\.\n"
            r"  connect +\d+ ms\n  first token +\d+ ms\n  total +\d+ ms\n  tokens +9 in, 1 out\n  finish +stop\n",
            out,
        )
        (received,) = upstream.requests
        assert (received.body["model"], received.body["max_tokens"]) == ("some-model", 64)
        assert received.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("model", "script", "words"),
    [
        (
            "kimi-k3",
            error_response(401, {"error": {"message": f"bad {KEY}"}}),
            r"rejected the key.*kimi-cn/MODEL.*upstream_auth",
        ),
        ("kimi-k3", error_response(429, {"error": {"message": "slow"}}), "rate limit.*upstream_rate_limited"),
        ("kimi-k3", chat("half", finish=None), "ended its answer too early.*upstream_incomplete"),
        ("gpt-6-sol", chat("x"), "requires OPENAI_API_KEY. Set it"),
        ("kmi-k3", chat("x"), "Did you mean kimi-k3"),
    ],
)
async def test_a_failing_model_exits_with_1(model: str, script: Script, words: str) -> None:
    """The exit code is 1. The reason is printed in plain language, without the API key."""
    async with Upstream() as upstream:
        upstream.play(script)
        code, out, err = await check(upstream.openai_url, model)
        assert (code, out) == (1, "")
        assert err.startswith(f"turnwire: {model} can't be used: ")
        assert re.search(words, err, re.DOTALL), err
        assert KEY not in err
        assert "Traceback" not in err


async def test_an_unreachable_provider_is_reported() -> None:
    """The error message says that the provider can't be reached."""
    async with Upstream() as upstream:
        dead = upstream.openai_url
    code, _, err = await check(dead, "kimi-k3")
    assert code == 1
    assert "Kimi can't be reached. Check the network and the base URL" in err
