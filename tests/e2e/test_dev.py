"""`make dev`, `make redis-cli` and `make db-shell`, in a copy of the checkout that tests may change."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.gateway_process import clean_environment, gateway_process
from tests.ports import free_port
from tests.programs import program
from tests.redis_process import RedisProcess, require_tls

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CHANGE_TIMEOUT_S = 30


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, which shares its `.venv`."""
    copy = tmp_path / "checkout"
    for name in ("gateway", "providers", "store", "static"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    for name in ("dev_server.py", "store_shell.py"):
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    shutil.copy(ROOT / "Makefile", copy)
    (copy / ".venv").symlink_to((ROOT / ".venv").resolve())
    return copy


def make_command(*arguments: str) -> list[str]:
    """Return a command that runs make and doesn't install anything into `.venv`."""
    return [str(program("make")), "-s", "-o", ".venv/.run", *arguments]


def variables(**more: str) -> dict[str, str]:
    """Return the environment for make: the settings are those of the test and of the copy's `.env`."""
    kept = clean_environment(more)
    if "TURNWIRE_ENV_FILE" not in more:
        del kept["TURNWIRE_ENV_FILE"]
    return {name: value for name, value in kept.items() if not name.startswith("MAKE")}


def make(checkout: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run make to its end."""
    return subprocess.run(
        make_command(*arguments),
        cwd=checkout,
        env=variables(**more),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def dev_server(checkout: Path) -> Iterator[str]:
    """Run `make dev` on a free port, and yield its URL. On exit, press Ctrl-C, which ends all of its processes.

    SIGINT is ignored at first, as in a process that a shell has started in the background.
    """
    port = free_port()
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *make_command("dev")]
    process = subprocess.Popen(command, cwd=checkout, env=variables(PORT=str(port)), start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
    with pytest.raises(URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)


def read(url: str) -> str:
    """Return the body at `url`, or an empty text if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def seconds_until(condition: Callable[[], Any]) -> float:
    """Wait until `condition` is true, and return how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < CHANGE_TIMEOUT_S
        time.sleep(0.1)
    return time.monotonic() - began


def is_default_model(url: str, model: str) -> bool:
    """Return whether the gateway at `url` has this default model."""
    return bool(json.loads(read(f"{url}/v1/models") or "{}").get("default") == model)


def rewrite(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a file with `new`. The file must contain `old`."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_make_dev_serves_each_change(checkout: Path) -> None:
    """`make dev` serves a change of the code within 15 s. It also serves a change of the page, a new or changed `.env`, and a
    change of a file that a setting names. After a mistake in the code, it serves the corrected code."""
    with dev_server(checkout) as url:
        seconds_until(lambda: read(f"{url}/health"))
        rewrite(checkout / "gateway" / "__init__.py", '__version__ = "', '__version__ = "9')
        took_s = seconds_until(lambda: json.loads(read(f"{url}/v1") or "{}").get("version", "").startswith("9"))
        assert took_s < CHANGE_TIMEOUT_S / 2

        rewrite(checkout / "static" / "index.html", "</title>", " changed</title>")
        assert " changed</title>" in read(url)

        env_file = checkout / ".env"
        for model in ("demo", "openai/x"):
            env_file.write_text(f"TURNWIRE_DEFAULT_MODEL={model}\n")
            seconds_until(partial(is_default_model, url, model))
        (checkout / "models.toml").write_text("")
        env_file.write_text("TURNWIRE_DEFAULT_MODEL=demo\nTURNWIRE_MODELS=models.toml\n")
        seconds_until(partial(is_default_model, url, "demo"))
        (checkout / "models.toml").write_text('[[models]]\nid = "mine"\nprovider = "openai"\n')
        seconds_until(lambda: '"mine"' in read(f"{url}/v1/models"))

        rewrite(checkout / "gateway" / "__init__.py", '__version__ = "', '__version__ = oops "')
        seconds_until(lambda: not read(f"{url}/health"))
        rewrite(checkout / "gateway" / "__init__.py", "oops ", "")
        seconds_until(lambda: read(f"{url}/health"))


async def test_make_db_shell_opens_the_store_while_the_gateway_runs(checkout: Path) -> None:
    """`make db-shell` runs statements on the SQLite file that the settings name. Without the file, or with Redis, an error
    says what to do."""
    missing = make(checkout, "db-shell")
    assert missing.returncode != 0
    assert "turnwire: The SQLite file turnwire.db doesn't exist. make run creates it." in missing.stderr
    other = make(checkout, "db-shell", REDIS_URL="redis://:canary@127.0.0.1:1")
    assert "turnwire: The store is a Redis, not a SQLite file. Run make redis-cli." in other.stderr
    program("sqlite3")
    async with gateway_process(checkout):
        (checkout / ".env").write_text("TURNWIRE_STORE=sqlite:///turnwire.db\n")
        shown = make(checkout, "db-shell", "ARGS='SELECT count(*) + 41 FROM (SELECT 1)'")
        assert shown.stdout.strip() == "42", shown.stderr
        assert "messages" in make(checkout, "db-shell", "ARGS=.tables").stdout


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_make_redis_cli_opens_the_store(checkout: Path, tls: bool) -> None:
    """`make redis-cli` uses the address, the password and the certificate authority of the settings, and shows no
    password. If the store isn't a Redis, an error says what to set."""
    wrong = make(checkout, "redis-cli")
    assert wrong.returncode != 0
    assert "turnwire: The store isn't a Redis. Set TURNWIRE_STORE or REDIS_URL" in wrong.stderr
    program("redis-cli")
    if tls:
        require_tls()
    server = RedisProcess(checkout / "redis", password="canary", tls=tls)
    server.start()
    try:
        (checkout / "url").write_text(server.url)
        (checkout / "url").chmod(0o600)
        (checkout / ".env").write_text("TURNWIRE_STORE=@url\n")
        shown = make(checkout, "redis-cli", "ARGS=SET a 42")
        assert shown.stdout.strip() == "OK", shown.stderr
        assert make(checkout, "redis-cli", "ARGS=GET a").stdout.strip() == "42"
        assert "canary" not in shown.stderr
    finally:
        server.stop()
