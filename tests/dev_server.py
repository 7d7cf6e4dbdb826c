"""`make dev`: serve the gateway from this checkout, and start it again when its code, `.env` or a file that
a setting names changes.

The files of the page aren't watched: the gateway reads them at each request, so a reload of the page shows a change.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from types import FrameType

from dotenv import dotenv_values

from gateway.settings import ENV_FILE_VARIABLE, PREFIX

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "providers", "store")
INTERVAL_S = 0.25
STOP_TIMEOUT_S = 5.0

Versions = dict[Path, tuple[int, int]]
"""The time of the last change and the size of each file."""


def watched_files() -> list[Path]:
    """Return the files whose change restarts the gateway: the code, `.env`, and the files that the settings name."""
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if "__pycache__" not in path.parts]
    env_file = os.environ.get(ENV_FILE_VARIABLE, ".env")
    variables: dict[str, str | None] = dict(os.environ)
    if env_file and Path(env_file).is_file():
        files.append(Path(env_file))
        text = Path(env_file).read_text(encoding="utf-8", errors="replace")  # the gateway says what is wrong with it
        variables = dotenv_values(stream=StringIO(text), interpolate=False) | variables
    named = (value.removeprefix("@") for name, value in variables.items() if name.startswith(PREFIX) and value)
    return [path for path in (*files, *map(Path, named)) if path.is_file()]


def versions() -> Versions:
    """Return the versions of the watched files."""
    found: Versions = {}
    for path in watched_files():
        try:
            state = path.stat()
        except FileNotFoundError:  # an editor is replacing the file
            continue
        found[path] = state.st_mtime_ns, state.st_size
    return found


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the gateway, which doesn't wait for its turns, or kill it after `STOP_TIMEOUT_S`."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal as Ctrl-C."""
    raise KeyboardInterrupt


def main() -> None:
    """Serve until a signal."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts background processes with SIGINT ignored
        signal.signal(number, interrupt)
    command = [sys.executable, "-m", "gateway", "serve", *sys.argv[1:]]
    environment = {"TURNWIRE_DRAIN_S": "0", **os.environ}
    seen = versions()
    process = subprocess.Popen(command, env=environment)
    try:
        while True:
            time.sleep(INTERVAL_S)
            latest = versions()
            if latest == seen:
                continue
            changed = sorted({str(path) for path, _ in latest.items() ^ seen.items()})
            shown = ", ".join(changed[:3]) + (" …" if len(changed) > 3 else "")
            sys.stderr.write(f"Changed: {shown}. Starting again.\n")
            seen = latest
            stop(process)
            process = subprocess.Popen(command, env=environment)
    except KeyboardInterrupt:
        pass
    finally:
        stop(process)


if __name__ == "__main__":
    main()
