"""A real nginx, for the tests that put one in front of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.programs import program

START_TIMEOUT_S = 20
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@asynccontextmanager
async def nginx_process(folder: Path, port: int, http: str) -> AsyncIterator[None]:
    """Run nginx until the end of the block. `http` is the content of its `http` block, and listens on `port`.

    Its files are in `folder`, which exists.
    """
    paths = "".join(f"{name}_temp_path {folder / name};\n" for name in _TEMPORARY)
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off;\nmaster_process off;\npid {folder / 'pid'};\nerror_log stderr warn;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{http}\n}}\n"
    )
    process = await asyncio.create_subprocess_exec(program("nginx"), "-p", str(folder), "-c", str(file))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None, "nginx did not start"
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
