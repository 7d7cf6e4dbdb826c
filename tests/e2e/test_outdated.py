"""`make lock` and `make outdated` against an index and a vulnerability service on loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.outdated import LOCKS
from tests.package_index import PackageIndex, package_index
from tests.programs import installed, program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
PYPROJECT = """[project]
name = "turnwire"
version = "1.0"
requires-python = ">=3.11"
dependencies = ["parser[fast]"]
[dependency-groups]
build = ["builder"]
dev = ["parser"]
clients = ["parser"]
peers = ["parser"]
upkeep = ["parser"]
docs = ["parser"]
"""


@dataclass
class Checkout:
    """A small project with a copy of our Makefile, and the package index that it uses."""

    folder: Path
    index: PackageIndex

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make in the project, with uv and pip-audit of the real environment."""
        uv = {"UV_DEFAULT_INDEX": self.index.url, "UV_CACHE_DIR": str(self.folder / "cache"), "UV_NO_CONFIG": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "UV_"))}
        command = [str(program("make")), *arguments]
        return subprocess.run(command, cwd=self.folder, env=kept | uv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A project whose locks have version 1.0 of all packages, while the index also has 2.0 of `parser`."""
    upkeep = installed(ROOT / ".venv-upkeep" / ".done", "what `make lock` needs").parent
    tmp_path = tmp_path_factory.mktemp("checkout")
    with package_index() as index:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
        for name in LOCKS:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "tests").mkdir(exist_ok=True)
        shutil.copy(ROOT / "tests" / "outdated.py", tmp_path / "tests")
        shutil.copy(ROOT / "Makefile", tmp_path)
        # Make this lock older than the environment, so that `make` doesn't install the environment again.
        os.utime(tmp_path / "requirements-upkeep.lock", (0, 0))
        (tmp_path / ".venv-upkeep").symlink_to(upkeep)
        checkout = Checkout(tmp_path, index)
        index.add("builder", "1.0")
        index.add("speedups", "1.0")
        index.add("parser", "1.0", extras={"fast": "speedups"})
        locked = checkout.make("lock")
        assert locked.returncode == 0, locked.stderr
        os.utime(tmp_path / "requirements-upkeep.lock", (0, 0))
        index.add("parser", "2.0", extras={"fast": "speedups"})
        yield checkout


def test_outdated_and_vulnerable_packages_are_reported(checkout: Checkout) -> None:
    """Each such package is reported with its lock file, its version, and the newest version or the one with the fix.

    `make lock` without `--upgrade` updates nothing.
    """
    again = checkout.make("lock")
    assert again.returncode == 0, again.stderr
    lock = (checkout.folder / "requirements.lock").read_text(encoding="utf-8")
    assert "parser==1.0" in lock
    assert "speedups==1.0" in lock
    os.utime(checkout.folder / "requirements-upkeep.lock", (0, 0))
    service = f"OSV_URL={checkout.index.osv_url}"
    listed = checkout.make("outdated", service)
    assert listed.returncode == 0, listed.stderr
    expected = {f"{name}: parser 1.0 -> 2.0" for name in LOCKS if name != "requirements-build.lock"}
    assert set(listed.stdout.splitlines()) == expected
    checkout.index.vulnerable["parser 1.0"] = "PYSEC-2026-1"
    audited = checkout.make("outdated", service)
    assert audited.returncode != 0
    assert "requirements-dev.lock: parser 1.0 is vulnerable: PYSEC-2026-1; fixed in 2.0" in audited.stdout
    assert "Error 1" in audited.stderr
    assert (checkout.folder / "requirements.lock").read_text(encoding="utf-8") == lock, (
        "make outdated changed a lock file"
    )


def test_an_unreachable_vulnerability_service_is_an_error(checkout: Checkout) -> None:
    """If the service can't be reached, the command fails, and its message shows how to use another one."""
    audited = checkout.make("outdated", "OSV_URL=http://127.0.0.1:9/v1/query")
    assert "Error 2" in audited.stderr
    assert "Vulnerabilities could not be checked" in audited.stderr
    assert "make outdated OSV_URL=" in audited.stderr
