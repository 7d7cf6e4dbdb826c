"""Says which pins of the lock files are behind, and which have a known vulnerability: `make outdated`.

Runs in .venv-upkeep, with uv and pip-audit, and needs a package index and a vulnerability service. Exits with 1 where a
pin is vulnerable, with 2 where it could not look.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = (
    *("requirements-build.lock", "requirements.lock", "requirements-dev.lock", "requirements-upkeep.lock"),
    "bench/peers/requirements.lock",
)
AUDITED = ("requirements-dev.lock", "requirements-upkeep.lock", "bench/peers/requirements.lock")
"""They hold what the others do."""
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


class NoAnswer(Exception):
    """A tool could not look; with what it wrote."""


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions that a lock file pins, by package: more than one where they differ by platform or Python."""
    versions: dict[str, set[str]] = {}
    for name, version in PIN.findall(lock.read_text(encoding="utf-8")):
        versions.setdefault(name, set()).add(version)
    return versions


def newest(folder: Path) -> None:
    """Resolve the locks in `folder` as `make lock LOCK_FLAGS=--upgrade` would. Raises `NoAnswer`."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv-upkeep").symlink_to(sys.prefix)
    command = ["make", "-s", "lock", "LOCK_FLAGS=--upgrade"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise NoAnswer(ended.stderr)


def outdated_pins() -> list[tuple[str, str, str, str]]:
    """Lock, package, pinned and newest version, of each package that isn't pinned to the newest. Raises `NoAnswer`."""
    with tempfile.TemporaryDirectory() as made:
        newest(Path(made))
        found = []
        for lock in LOCKS:
            old, new = pins(ROOT / lock), pins(Path(made) / lock)
            for name in sorted(old.keys() | new.keys()):
                before, after = (", ".join(sorted(each.get(name, {"-"}))) for each in (old, new))
                if before != after:
                    found.append((lock, name, before, after))
        return found


def vulnerable(osv_url: str | None) -> list[tuple[str, str, str, str]]:
    """Lock, package with its version, vulnerability, and the versions that mend it. Raises `NoAnswer`."""
    found = []
    for lock in AUDITED:
        command = [sys.executable, "-m", "pip_audit", "-r", str(ROOT / lock), "--no-deps", "--disable-pip", "--strict"]
        command += ["-s", "osv", "-f", "json", "--progress-spinner", "off"]
        ended = subprocess.run(
            [*command, *(["--osv-url", osv_url] if osv_url else [])], capture_output=True, text=True, check=False
        )
        try:
            audited: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
        except (ValueError, KeyError):
            raise NoAnswer(ended.stderr.strip().rpartition("\n")[2]) from None
        for package in audited:
            for each in package.get("vulns", ()):
                names = ", ".join([each["id"], *each.get("aliases", ())])
                mended = ", ".join(each["fix_versions"]) or "no version"
                found.append((lock, f"{package['name']} {package['version']}", names, mended))
    return found


def main() -> int:
    """Print both lists; the exit code stands in the module's docstring."""
    code = 0
    try:
        for lock, name, before, after in outdated_pins():
            print(f"{lock}: {name} {before} is behind {after}")
    except NoAnswer as error:
        print(f"What is behind could not be found out: is there a package index?\n{error}", file=sys.stderr)
        code = 2
    try:
        found = vulnerable(sys.argv[1] if len(sys.argv) > 1 else None)
    except NoAnswer as error:
        print(
            f"Not looked for vulnerabilities: the service did not answer. Name another one: make outdated "
            f"OSV_URL=https://HOST/v1/query\n{error}",
            file=sys.stderr,
        )
        return 2
    for lock, name, vulnerability, mended in found:
        print(f"{lock}: {name} is vulnerable: {vulnerability}; mended in {mended}")
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main())
