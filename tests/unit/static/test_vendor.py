"""Vendored files of the page are unchanged since their installation, are pinned, and have their licenses."""

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SERVED = ROOT / "static" / "vendor"
INSTALLER = ROOT / ".ci" / "vendor"
"""The folder with the files that install and pin the vendored files; it isn't served."""


def recorded_digests() -> dict[str, str]:
    """Return the recorded digest of each vendored file."""
    lines = (INSTALLER / "SHA256SUMS").read_text().splitlines()
    return {name.strip(" *"): digest for digest, name in (line.split(" ", 1) for line in lines)}


def test_vendored_files_are_unchanged() -> None:
    """No vendored file was edited, added or removed since update.sh wrote the digests."""
    files = {str(path.relative_to(SERVED)): path for path in SERVED.rglob("*") if path.is_file()}
    files["package-lock.json"] = INSTALLER / "package-lock.json"
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == recorded_digests()


def test_the_lock_has_digests_and_no_urls() -> None:
    """Each package is pinned by version and digest, and the lock contains no URL of a registry."""
    packages = json.loads((INSTALLER / "package-lock.json").read_text())["packages"]
    dependencies = packages.pop("")["dependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in dependencies.values())
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_each_package_has_its_license() -> None:
    """Each vendored package has a license file beside its code."""
    dependencies = json.loads((INSTALLER / "package.json").read_text())["dependencies"]
    assert len(list(SERVED.glob("LICENSE-*.txt"))) == len(dependencies)
