"""What the page takes from others is what was installed, unchanged, with its licences, and no more than it loads."""

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
SERVED = ROOT / "static" / "vendor"
UPKEEP = ROOT / ".ci" / "vendor"
"""What brings them here, which is no page's business."""


def sums() -> dict[str, str]:
    """The digest of every file as it was installed."""
    lines = (UPKEEP / "SHA256SUMS").read_text().splitlines()
    return {name.strip(" *"): digest for digest, name in (line.split(" ", 1) for line in lines)}


def test_every_file_is_as_it_was_installed() -> None:
    """No vendored file was edited, added or left out since update.sh wrote the sums."""
    files = {str(path.relative_to(SERVED)): path for path in SERVED.rglob("*") if path.is_file()}
    files["package-lock.json"] = UPKEEP / "package-lock.json"
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()} == sums()


def test_the_lock_pins_by_digest_and_names_no_address() -> None:
    """Every package is pinned by version and integrity, and where it is fetched from is not said."""
    packages = json.loads((UPKEEP / "package-lock.json").read_text())["packages"]
    wanted = packages.pop("")["dependencies"]
    assert all(re.fullmatch(r"[\d.]+", version) for version in wanted.values())
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package


def test_each_package_brings_its_licence() -> None:
    """A licence file stands beside the code that it covers."""
    wanted = json.loads((UPKEEP / "package.json").read_text())["dependencies"]
    assert len(list(SERVED.glob("LICENSE-*.txt"))) == len(wanted)
