"""A real gateway checked against its OpenAPI document: requests are generated from the schemas, and responses are
validated."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from gateway.http.operations import OPERATIONS
from tests.examples import examples
from tests.gateway_process import clean_environment, gateway_process

pytestmark = [pytest.mark.e2e, pytest.mark.fuzzed, pytest.mark.timeout(300)]

CONFIG = Path(__file__).parents[1] / "schemathesis.toml"
EXAMPLES = examples(4)


OF_DIALECTS = {operation.path for operation in OPERATIONS if operation.dialect is not None}
"""The addresses that belong to the protocols of other clients."""
MIRRORED = {path for path in OF_DIALECTS if path.startswith("/openai/") and path.removeprefix("/openai") in OF_DIALECTS}
"""Second addresses of the same operations. tests/unit/gateway/http/test_operations.py compares them with the first."""


async def test_the_gateway_conforms_to_its_openapi_document(tmp_path: Path) -> None:
    """No response is undocumented, no invalid request is accepted, no valid one is refused, and there is no 500."""
    tested = [operation for operation in OPERATIONS if operation.path not in MIRRORED]
    paths = "|".join(sorted({re.escape(operation.path) for operation in tested}))
    # The timeout shortens the turns of the demo model.
    async with gateway_process(tmp_path, {"TURNWIRE_TURN_TIMEOUT_S": "0.02"}) as gateway:
        command = ["--config-file", str(CONFIG), "run", f"{gateway.url}/openapi.json"]
        options = ["--max-examples", str(EXAMPLES), "--generation-database", "none", "--no-color"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", *command, *options, "--include-path-regex", f"^({paths})$"),
            cwd=tmp_path,
            env=clean_environment({}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output[-8000:]
        # The configuration excludes two operations: the drain, and the erasure of a user.
        assert f"Tested: {len(tested) - 2}" in output, output[-3000:]
        assert not [line for line in gateway.log if "Traceback" in line]
