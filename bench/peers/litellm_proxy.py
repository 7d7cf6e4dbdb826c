"""LiteLLM's proxy with one worker, in its own environment (`make bench-peers`), in front of the bench's upstream."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path

COMMAND = Path(__file__).parent.parent.parent / ".venv-litellm" / "bin" / "litellm"
START_TIMEOUT_S = 90


def installed_version() -> str | None:
    """Return the version of LiteLLM in the environment, or None if it isn't installed."""
    environment = COMMAND.parent.parent
    found = [path.name for path in environment.glob("lib/python*/site-packages/litellm-*.dist-info")]
    return found[0].removeprefix("litellm-").removesuffix(".dist-info") if found and COMMAND.exists() else None


async def _serve(models: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    wanted = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{name}",
                "api_base": os.environ["OPENAI_BASE_URL"],
                "api_key": "bench",
            },
        }
        for name in models
    ]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps({"model_list": wanted}))  # JSON is YAML
        process = await asyncio.create_subprocess_exec(
            *(str(COMMAND), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
            # As with Turnwire: no credential on loopback, and no requests to other servers.
            env={
                **os.environ,
                "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _until_ready(f"http://127.0.0.1:{port}/health/liveliness")
            print(f"http://127.0.0.1:{port} {process.pid}", flush=True)
            await asyncio.to_thread(sys.stdin.read)  # until the parent process closes it
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _until_ready(url: str) -> None:
    while True:
        with suppress(OSError):
            await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=2).close())
            return
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
