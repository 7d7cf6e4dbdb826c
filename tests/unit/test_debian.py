"""`tests/debian.sh`, with substitutes for the commands that need root, a package archive or a repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = [Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/resolv.conf")]
SUBSTITUTES = {
    "id": "echo 0",
    "debootstrap": "exit 1",
    "git": 'for folder; do :; done; mkdir -p "$folder"',
    "mount": "",
    "unshare": 'shift 3; exec "$@"',
    "chroot": 'printf "%s\\n" "$@"',
}


@pytest.mark.skipif(not all(path.is_file() for path in NEEDED), reason="the script copies files of a Linux system")
@pytest.mark.parametrize("has_recordings", [True, False])
def test_recorded_streams_are_copied_only_if_there_are_any(tmp_path: Path, has_recordings: bool) -> None:
    """Recorded streams are copied to where `.ci/run` looks for them. `RECORDED_STREAMS` isn't passed on, so without any
    recorded streams, the tests that replay them are skipped."""
    commands, folder, recordings = (tmp_path / name for name in ("commands", "debian", "recordings"))
    commands.mkdir()
    for name, script in SUBSTITUTES.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n")
        (commands / name).chmod(0o755)
    (folder / "etc" / "ssl" / "certs").mkdir(parents=True)
    (folder / ".complete").touch()
    if has_recordings:
        recordings.mkdir()
        (recordings / "one.sse").touch()
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "TURNWIRE_DEBIAN": str(folder),
        "RECORDED_STREAMS": str(recordings),
    }
    command = ["bash", str(ROOT / "tests" / "debian.sh"), "trixie"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["bash", "/src/turnwire/.ci/run"]
    assert "RECORDED_STREAMS" not in done.stdout
    assert "-d ../shared/fixtures" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert (folder / "src" / "shared" / "fixtures" / "one.sse").is_file() == has_recordings
