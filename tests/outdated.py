"""`make outdated`: lists the pinned packages that are outdated, and those that have a known vulnerability.

Runs in .venv-upkeep, with uv and pip-audit, and requires a package index and a vulnerability service. The exit code is
1 if a package is vulnerable; otherwise it is 2 if the index or the service can't be reached.
"""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = (
    *("requirements-build.lock", "requirements.lock", "requirements-dev.lock", "requirements-upkeep.lock"),
    "requirements-docs.lock",
    "tests/dialect_clients/requirements.lock",
    "bench/peers/requirements.lock",
)
AUDITED = ("requirements-dev.lock", *LOCKS[3:])
"""The lock files to check for vulnerabilities. Together they contain all pins of the others."""
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


class ToolFailed(Exception):
    """A tool failed; the argument is its error output."""


def pins(lock: Path) -> dict[str, set[str]]:
    """Return the pinned versions of each package: more than one if they differ by platform or Python."""
    versions: dict[str, set[str]] = {}
    for name, version in PIN.findall(lock.read_text(encoding="utf-8")):
        versions.setdefault(name, set()).add(version)
    return versions


def write_upgraded_locks(folder: Path) -> None:
    """Write upgraded locks to `folder` with `make lock LOCK_FLAGS=--upgrade`. Raises `ToolFailed`."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    (folder / ".venv-upkeep").symlink_to(sys.prefix)
    command = ["make", "-s", "lock", "LOCK_FLAGS=--upgrade"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ToolFailed(result.stderr)


def outdated_pins() -> list[tuple[str, str, str, str]]:
    """Return the lock file, name, pinned version and newest version of each outdated package. Raises `ToolFailed`."""
    with tempfile.TemporaryDirectory() as folder:
        write_upgraded_locks(Path(folder))
        found = []
        for lock in LOCKS:
            old, new = pins(ROOT / lock), pins(Path(folder) / lock)
            for name in sorted(old.keys() | new.keys()):
                before, after = (", ".join(sorted(versions.get(name, {"-"}))) for versions in (old, new))
                if before != after:
                    found.append((lock, name, before, after))
        return found


def audit(lock: Path, osv_url: str | None) -> str:
    """Run pip-audit in this process, as its imports take longer than an audit, and return its output."""
    output = io.StringIO()
    arguments = ["-r", str(lock), "--no-deps", "--disable-pip", "--strict"]
    arguments += ["-s", "osv", "-f", "json", "--progress-spinner", "off", *(["--osv-url", osv_url] if osv_url else [])]
    own, sys.argv = sys.argv, ["pip-audit", *arguments]
    try:
        with redirect_stdout(output), suppress(SystemExit):
            runpy.run_module("pip_audit", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = own
    return output.getvalue()


def vulnerable(osv_url: str | None) -> list[tuple[str, str, str, str]]:
    """Return the lock file, package, vulnerability and fixed versions of each vulnerable package. Raises `ToolFailed`."""
    found = []
    errors = io.StringIO()
    for lock in AUDITED:
        try:
            with redirect_stderr(errors):
                audited: list[dict[str, Any]] = json.loads(audit(ROOT / lock, osv_url))["dependencies"]
        except (ValueError, KeyError):
            raise ToolFailed(errors.getvalue().strip().rpartition("\n")[2]) from None
        except Exception as error:  # pip-audit doesn't catch those of its HTTP client
            raise ToolFailed(traceback.format_exception_only(error)[-1].strip()) from None
        for package in audited:
            for vulnerability in package.get("vulns", ()):
                names = ", ".join([vulnerability["id"], *vulnerability.get("aliases", ())])
                fixed_in = ", ".join(vulnerability["fix_versions"]) or "no version"
                found.append((lock, f"{package['name']} {package['version']}", names, fixed_in))
    return found


def main() -> int:
    """Print both lists, and return the exit code (see the module's docstring)."""
    code = 0
    try:
        for lock, name, before, after in outdated_pins():
            print(f"{lock}: {name} {before} -> {after}")
    except ToolFailed as error:
        print(f"The newest versions could not be determined. Is a package index reachable?\n{error}", file=sys.stderr)
        code = 2
    try:
        found = vulnerable(sys.argv[1] if len(sys.argv) > 1 else None)
    except ToolFailed as error:
        print(
            f"Vulnerabilities could not be checked: the service did not respond. To use another one, run: make outdated "
            f"OSV_URL=https://HOST/v1/query\n{error}",
            file=sys.stderr,
        )
        return 2
    for lock, name, vulnerability, fixed_in in found:
        print(f"{lock}: {name} is vulnerable: {vulnerability}; fixed in {fixed_in}")
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main())
