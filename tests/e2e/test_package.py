"""The distribution package: built, installed outside the checkout, and run there."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest

from gateway import __version__
from gateway.http.assets import SERVED_SUFFIXES
from tests import python_client_docs
from tests.client import client
from tests.demo import expected
from tests.gateway_process import clean_environment, until_ready
from tests.programs import installed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


async def _fetch(url: str) -> tuple[str, str]:
    """Return the content type and the text at a URL."""

    def get() -> tuple[str, str]:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.headers["content-type"], answer.read().decode()

    return await asyncio.to_thread(get)


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=clean_environment({}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert {path.name for path in folder.iterdir()} == {
        f"turnwire-{__version__}.tar.gz",
        f"turnwire-{__version__}-py3-none-any.whl",
    }
    return folder


def test_the_wheel_has_the_packages_and_the_pages_files(built: Path) -> None:
    """The wheel has all files of the four packages and the page, but not the tools that made static/vendor."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"gateway", "providers", "store", "turnwire"}
    page = {name for name in names if name.startswith("gateway/static/")}
    assert "gateway/static/vendor/marked.js" in page
    assert {name for name in page if not name.endswith(SERVED_SUFFIXES)} == {"gateway/static/package.json"}
    command = ["git", "ls-files", "gateway", "providers", "store", "clients/python/turnwire"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert {name.removeprefix("clients/python/") for name in listed.stdout.split()} - set(names) == set()
    assert "turnwire/client/py.typed" in names
    assert any(name.startswith("store/archive/migrations/versions/") for name in names)
    site = {str(path.relative_to(ROOT)) for path in (ROOT / "site").rglob("*") if path.is_file()}
    assert {f"gateway/{name}" for name in site} == {name for name in names if name.startswith("gateway/site/")}


async def test_the_client_in_a_users_project(built: Path, tmp_path: Path) -> None:
    """An environment with the wheel and only the needs of the extra `client` runs each block of the client's README without
    a warning. There, the client imports nothing else of third parties, and a strict type checker accepts a program."""
    _run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
        "client"
    ]
    names = [re.split(r"\W", need)[0] for need in needs]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.findall(rf"^(?:{'|'.join(names)})==.*\n(?:    .*\n)+", lock, re.MULTILINE)
    assert len(pinned) == len(names)
    (tmp_path / "client.lock").write_text("".join(pinned), encoding="utf-8")
    uv = installed(ROOT / ".venv-upkeep" / "bin" / "uv", "uv")
    install = (uv, "pip", "install", "-q", "--python", python, "--no-deps")
    _run(*install, "--require-hashes", "-r", "client.lock", cwd=tmp_path)
    _run(*install, "--no-index", *built.glob("*.whl"), cwd=tmp_path)
    assert json.loads(_run(python, "-c", python_client_docs.IMPORTED, cwd=tmp_path)) == sorted([*names, "turnwire"])
    printed = await python_client_docs.printed(python, tmp_path)
    for title, words in python_client_docs.EXPECTED.items():
        assert re.search(words, printed[title], re.DOTALL), f"{title}: {printed[title]}"
    (tmp_path / "program.py").write_text(python_client_docs.PROGRAM, encoding="utf-8")
    check = ("-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", tmp_path / "cache", "program.py")
    assert _run(sys.executable, *check, cwd=tmp_path).startswith("Success")


def test_the_clients_readme_names_its_needs() -> None:
    """The line that installs the needs of the client has those of the extra, and each block of Python is expected."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"][
        "client"
    ]
    assert "pip install " + " ".join(f'"{need}"' for need in needs) + "\n" in python_client_docs.README
    assert set(python_client_docs.blocks()) == set(python_client_docs.EXPECTED)


async def test_the_wheel_serves_the_page_and_a_turn(built: Path, tmp_path: Path) -> None:
    """An environment with the wheel, the packages of requirements.lock and nothing of the checkout serves the page and
    a turn."""
    _run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python, turnwire = tmp_path / "env" / "bin" / "python", tmp_path / "env" / "bin" / "turnwire"
    uv = installed(ROOT / ".venv-upkeep" / "bin" / "uv", "uv")
    install = (uv, "pip", "install", "-q", "--python", python, "--no-deps")
    _run(*install, "--require-hashes", "-r", ROOT / "requirements.lock", cwd=tmp_path)
    _run(*install, "--no-index", *built.glob("*.whl"), cwd=tmp_path)
    _run(uv, "pip", "check", "-q", "--python", python, cwd=tmp_path)
    assert _run(turnwire, "--version", cwd=tmp_path) == f"turnwire {__version__}\n"
    assert str(ROOT) not in _run(python, "-c", "import gateway, sys; print(gateway.__file__, sys.path)", cwd=tmp_path)
    upgraded = _run(turnwire, "archive", "--archive", "sqlite:///archive.db", "upgrade", cwd=tmp_path)
    assert re.search(r"schema +0004 \(current\)", upgraded), upgraded
    process = await asyncio.create_subprocess_exec(
        *(turnwire, "serve", "--port", "0", "--store", "sqlite:///turnwire.db"),
        cwd=tmp_path,
        env=clean_environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with until_ready(process) as gateway:
        page = (await _fetch(f"{gateway.url}/"))[1]
        (script,) = re.findall(r'<script type="module" src="(\S+?)"', page)
        assert (await _fetch(f"{gateway.url}/{script}"))[0].startswith("text/javascript")
        async with client(gateway.ws_url) as c:
            demo = {"rate": 0, "tokens": 20}
            await c.request("turn.start", turn="t", input="Hello", params={"demo": demo})
            await c.ending("t")
            assert c.turns["t"].text() == expected("Hello", demo)


def test_the_sdist_has_every_file_of_the_repository(built: Path, tmp_path: Path) -> None:
    """The sdist has all files of the repository, so that its tests can be run. The tests of the documents and the coding
    rules can be collected without Git, which lists the files for some of them."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / f"turnwire-{__version__}"
    files = ("git", "-c", "safe.directory=*", "ls-files", "-z")
    listed = subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=False)
    assert [name for name in listed.stdout.split("\0") if name and not (folder / name).is_file()] == []
    documents = sorted(folder.glob("tests/test_*.py"))
    collected = _run(sys.executable, "-m", "pytest", "--collect-only", "-q", *documents, cwd=folder)
    assert "these rules are checked in a git checkout" in collected
    assert not re.search(r"\berrors?\b", collected.splitlines()[-1])
