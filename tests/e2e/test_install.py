"""What Makefile and Dockerfile install, and the errors on machines where they can't.

The project's Makefile runs on a small project in a folder with a space in its name, with the oldest pip that came with
this Python version, and with a package index on loopback that has a newer version of every package.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.package_index import PackageIndex, package_index, project_on
from tests.programs import installed, program

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
UPKEEP = ".venv-upkeep/.done"
"""The marker file of the smallest environment."""
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def _script(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def oldest_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest pip and most of its bytecode, which takes longer to compile than to copy."""
    folder = ROOT / ".venv" / "oldest-pip"
    wheel = installed(next(folder.glob("pip-*.whl"), folder), "the oldest pip")
    unpacked = tmp_path_factory.mktemp("pip")
    subprocess.run([str(PYTHON), "-m", "zipfile", "-e", str(wheel), str(unpacked)], check=True)
    compiling = [str(PYTHON), "-m", "pip", "install", "--no-index", "-q", "nothing"]
    variables = {**os.environ, "PYTHONPATH": str(unpacked)}
    subprocess.run(compiling, env=variables, stderr=subprocess.DEVNULL, check=False)
    return unpacked


def _old_python(path: Path, oldest_pip: Path) -> Path:
    """Write a Python command whose environments have the oldest pip. It is copied, as ensurepip takes seconds."""
    return _script(
        path,
        f'if [ "$1 $2" != "-m venv" ]; then exec {PYTHON} "$@"; fi',
        "shift 2",
        f'{PYTHON} -m venv --without-pip "$@" || exit',
        "for environment; do :; done",
        f'exec cp -Rp {shlex.quote(str(oldest_pip))}/. "$environment"/lib/python3*/site-packages',
    )


def packages(environment: Path) -> dict[str, str]:
    """Return the names and versions of the installed packages, without pip and setuptools."""
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()))"
    listed = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    found = dict(one.split("==") for one in listed.stdout.split())
    return {name: version for name, version in found.items() if name not in {"pip", "setuptools"}}


@dataclass
class Checkout:
    """A folder in which nothing is installed yet, and the index that pip uses."""

    folder: Path
    index: PackageIndex
    python: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment variables of a command: pip's settings for the index, and this process's variables except
        those that affect pip, make or the network, or that mark a run in CI."""
        ours = re.compile(r"^(PIP_|MAKE|MFLAGS|CI$|PYTHON$)|_proxy$", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not ours.search(name)}
        pip = {"PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        return kept | pip | {"PIP_INDEX_URL": self.index.url} | more

    def run(self, *command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout and wait for its end."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(**more), capture_output=True, text=True, check=False
        )

    def make(self, *arguments: str, python: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """Run make with this Python, by default the one with the oldest pip."""
        return self.run(program("make"), f"PYTHON={python or self.python}", *arguments, **more)

    def imports(self, module: str) -> None:
        """Import the module in the small environment. Raises `CalledProcessError` if that fails."""
        self.run(self.folder / ".venv-upkeep" / "bin" / "python", "-c", f"import {module}").check_returncode()


@pytest.fixture
def checkout(tmp_path: Path, oldest_pip: Path) -> Iterator[Checkout]:
    """A small project with the project's Makefile, a space in its path, and an index with newer versions than its locks."""
    with package_index() as index:
        folder = tmp_path / "a check out"
        project_on(index, folder, ROOT)
        yield Checkout(folder, index, _old_python(tmp_path / "old python", oldest_pip))


def test_only_the_locked_versions_are_installed(checkout: Checkout) -> None:
    """No newer version is installed or fetched, neither for an extra nor for building a source distribution."""
    made = checkout.make(".venv/.dev", ".venv-litellm/.done")
    assert made.returncode == 0, made.stderr
    pip = checkout.run(checkout.folder / ".venv" / "bin" / "python", "-m", "pip", "--version").stdout
    assert f"pip=={pip.split()[1]} " in (ROOT / "tests" / "oldest-pip.lock").read_text(encoding="utf-8")
    developed = ("builder", "parser", "plugin", "speedups", "tracer", "tracerplugin", "sourced", "turnwire")
    assert packages(checkout.folder / ".venv") == dict.fromkeys(developed, "1.0")
    peers = ("parser", "plugin", "speedups", "peer")
    assert packages(checkout.folder / ".venv-litellm") == dict.fromkeys(peers, "1.0")
    assert [name for name in checkout.index.fetched if "-1.0" not in name] == []
    fetched = len(checkout.index.fetched)
    assert checkout.make(".venv/.dev").returncode == 0
    assert len(checkout.index.fetched) == fetched, "a repeated installation fetches nothing"


def test_the_image_installs_the_locked_versions(checkout: Checkout, tmp_path: Path) -> None:
    """The commands of the Dockerfile's first stage, run here, install the locked versions only."""
    dockerfile = (checkout.folder / "Dockerfile").read_text(encoding="utf-8")
    stage = dockerfile.rpartition("\nFROM ")[0].replace("\\\n", " ")
    steps = re.findall(r"^RUN (.*)$", stage, re.MULTILINE)
    assert len(steps) == 2
    for step in steps:
        command = step.replace("python -m venv", f"{shlex.quote(str(checkout.python))} -m venv").replace(
            "/opt/", f"{tmp_path}/"
        )
        done = checkout.run("sh", "-ec", command)
        assert done.returncode == 0, done.stderr
    assert packages(tmp_path / "turnwire") == dict.fromkeys(("parser", "plugin", "speedups", "turnwire"), "1.0")
    assert [name for name in checkout.index.fetched if "-1.0" not in name] == []


def test_a_dependency_missing_from_a_lock_is_reported(checkout: Checkout) -> None:
    """A dependency that the lock doesn't list is an error; it isn't fetched."""
    checkout.index.add("plugin", "1.0", "speedups>=1.0")
    (checkout.folder / "requirements-upkeep.lock").write_text(checkout.index.pin("plugin", "parser"), encoding="utf-8")
    made = checkout.make(UPKEEP)
    assert made.returncode != 0
    assert "plugin 1.0 requires speedups, which is not installed" in made.stderr
    assert "run make lock" in made.stderr


def test_an_interrupted_installation_is_started_again(checkout: Checkout) -> None:
    """While a make installs, a second one reports it. The first is killed, and only the metadata of a package is left. pip
    would take this package for installed, so the next make creates the environment again."""
    checkout.index.held = "parser-1.0"
    process = subprocess.Popen(
        [program("make"), f"PYTHON={checkout.python}", UPKEEP],
        cwd=checkout.folder,
        env=checkout.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert checkout.index.reached.wait(60)
    assert f"Another make, process {process.pid}, installs into .venv-upkeep" in checkout.make(UPKEEP).stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    checkout.index.released.set()
    (site,) = (checkout.folder / ".venv-upkeep" / "lib").glob("python*/site-packages")
    half = site / "parser-1.0.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: parser\nVersion: 1.0\n", encoding="utf-8")
    # The process id of the killed make has been reused by another process.
    (checkout.folder / ".venv-upkeep.installing").write_text(f"{os.getpid()}\n", encoding="utf-8")
    made = checkout.make(UPKEEP)
    assert made.returncode == 0, made.stderr
    checkout.imports("parser")


def test_an_environment_has_the_locked_packages_only(checkout: Checkout, tmp_path: Path, oldest_pip: Path) -> None:
    """A package that was removed from the lock is uninstalled, and another Python gets a new environment. An
    environment that make did not create is left unchanged, with an error."""
    assert checkout.make(UPKEEP).returncode == 0
    environment = checkout.folder / ".venv-upkeep"
    assert set(packages(environment)) == {"parser", "plugin", "speedups"}
    lock = checkout.folder / "requirements-upkeep.lock"
    lock.write_text(checkout.index.pin("parser"), encoding="utf-8")
    assert checkout.make(UPKEEP).returncode == 0
    assert set(packages(environment)) == {"parser"}
    other = _old_python(tmp_path / "other python", oldest_pip)
    assert "Creating .venv-upkeep" in checkout.make(UPKEEP, python=other).stdout
    assert checkout.make(UPKEEP, python=other).stdout.count("Creating") == 0
    (environment / ".created").unlink()
    refused = checkout.make(UPKEEP)
    assert refused.returncode != 0
    assert ".venv-upkeep exists, but make did not create it. Move or delete it" in refused.stderr
    assert set(packages(environment)) == {"parser"}


def test_proxy_and_home_problems_are_reported_or_worked_around(checkout: Checkout) -> None:
    """An unreachable proxy is named in the error. A home that isn't writable (/proc, even for root) is replaced by a
    local folder. A moved environment is made again, as its commands contain their old path."""
    nowhere = "http://127.0.0.1:9"
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        proxies = {name: nowhere, "http_proxy": nowhere}
        made = checkout.make(UPKEEP, python=None, **proxies)
        assert made.returncode != 0
        assert f"check the\nnetwork and the proxy {nowhere}. Then run make again." in made.stderr
    made = checkout.make(UPKEEP, HOME="/proc")
    assert (made.returncode, made.stderr) == (0, "")
    assert (checkout.folder / ".home").is_dir()
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    made = checkout.make(UPKEEP)
    assert "Creating .venv-upkeep" in made.stdout
    checkout.imports("parser")


def test_an_unsuitable_python_is_reported(checkout: Checkout, tmp_path: Path) -> None:
    """A Python without ensurepip, as Debian's without python3-venv, and one older than 3.11 get an error with
    instructions."""
    bare = _script(tmp_path / "bare", f'case "$*" in *ensurepip*) exit 1;; esac; exec {PYTHON} "$@"')
    made = checkout.make(".venv/.run", python=bare)
    assert made.returncode != 0
    assert "apt install python3-venv" in made.stderr
    made = checkout.make(".venv/.run", python=_script(tmp_path / "old", "exit 1"))
    assert made.returncode != 0
    assert "Turnwire requires Python 3.11 or newer" in made.stderr
    assert "make PYTHON=" in made.stderr


@pytest.mark.parametrize("apt", ["none", "refused"])
@pytest.mark.parametrize("ci", ["", "true"])
def test_missing_programs_are_named_if_apt_cant_install_them(tmp_path: Path, apt: str, ci: str) -> None:
    """Missing programs are an error in CI; elsewhere the run continues without them."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "id", "env", "sort", "head", "cat"):
        (tools / name).symlink_to(program(name))
    if apt == "refused":
        _script(tools / "apt-get", "exit 100")
    variables = {"PATH": str(tools), "HOME": str(tmp_path), "CI": ci}
    script = ROOT / "tests" / "prepare.sh"
    done = subprocess.run([program("bash"), script], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if ci else 0), done.stderr
    for name in ("redis-server", "sqlite3", "chromium", "golang-go", "gcc libc6-dev", "nodejs npm", "curl"):
        assert f"apt install {name}" in done.stderr
