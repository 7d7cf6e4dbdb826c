"""Run the steps of the Dockerfile as they are written, without Docker, on Debian 13 with its Python 3.13.

`make image-steps` fills a folder with debootstrap, runs each instruction of both stages in a chroot, starts the image's
command as its user, and checks its health, its page, a turn, and the end after SIGTERM. It requires root. It doesn't
pull the pinned base image, which has Python in another place and a newer patch version, and it makes no image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("TURNWIRE_IMAGE", "/var/tmp/turnwire-image"))
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGES = "ca-certificates,python3,python3-venv"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
INHERITED = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL")
HEALTHY_S = 30
TURN = """
import json, sys, urllib.request
url = sys.argv[1]
assert b"<title>Turnwire" in urllib.request.urlopen(url + "/", timeout=20).read()
body = json.dumps({"input": "Hi", "params": {"demo": {"text": "Hello from the image."}}}).encode()
asked = urllib.request.Request(url + "/v1/turns", body, {"content-type": "application/json"})
print(json.load(urllib.request.urlopen(asked, timeout=20))["message"]["parts"][0]["text"])
"""


@dataclass
class Stage:
    """A stage of the Dockerfile, and its folder, which is the root of its commands."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def popen(self, command: list[str], more: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command in the root, as the stage's user, in its folder and with its variables."""
        values = {"PATH": PATH, "HOME": "/", "LANG": "C.UTF-8", **self.environment, **more}
        inner = " ".join(
            [
                'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot',
                *(["--userspec", f"{self.user}:{self.user}"] if self.user != "root" else []),
                '"$1" /usr/bin/env -i --chdir "$2" "${@:3}"',
            ]
        )
        arguments = [str(self.root), self.folder, *(f"{name}={value}" for name, value in values.items()), *command]
        return subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", "-ec", inner, "-", *arguments]
        )

    def run(self, command: list[str], more: Mapping[str, str] | None = None) -> None:
        """Run a command to its end. Raises `CalledProcessError` if it fails."""
        if (code := self.popen(command, more or {}).wait()) != 0:
            raise subprocess.CalledProcessError(code, command)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile: their names and the rest of the line, with its continuations joined."""
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def base() -> Path:
    """Return the folder with Debian, which is filled if it isn't there."""
    folder = FOLDER / "base"
    if not (folder / ".complete").exists():
        print(f"Filling {folder} with Debian 13", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "trixie", folder],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (folder / ".complete").touch()
    return folder


def new_stage(number: int) -> Stage:
    """Return a stage on a copy of Debian, with `python` where the base image has it."""
    root = FOLDER / f"stage{number}"
    subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)
    subprocess.run(["cp", "-a", base(), root], check=True)
    (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    # A network whose proxy inspects TLS has its own certificate authorities.
    shutil.copy(AUTHORITIES, root / AUTHORITIES.relative_to("/"))
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    return Stage(root)


def copy(stage: Stage, rest: str, stages: Mapping[str, Stage]) -> None:
    """Run a COPY: from the checkout, or with `--from` from another stage."""
    words = rest.split()
    origin = ROOT
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).removeprefix("--from=")].root
    *sources, target = words
    folder = stage.root / Path(stage.folder, target).relative_to("/")
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(
                path, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.name)


def build(text: str) -> Stage:
    """Run all instructions and return the last stage. Raises `ValueError` for an instruction that isn't known here."""
    network = {name: os.environ[name] for name in INHERITED if name in os.environ}
    network |= {"PIP_CERT": str(AUTHORITIES), "SSL_CERT_FILE": str(AUTHORITIES)}
    stages: dict[str, Stage] = {}
    stage = Stage(Path("/nonexistent"))
    for name, rest in instructions(text):
        print(f"{name} {rest}"[:160], flush=True)
        match name:
            case "FROM":
                stage = new_stage(len(stages))
                stages[rest.partition(" AS ")[2] or str(len(stages))] = stage
            case "ENV":
                pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
                stage.environment |= {key: value.replace("$PATH", PATH) for key, value in pairs.items()}
            case "WORKDIR":
                stage.folder = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "COPY":
                copy(stage, rest, stages)
            case "RUN":
                stage.run(["/bin/sh", "-c", rest], network)
            case "USER":
                stage.user = rest
            case "HEALTHCHECK":
                stage.health = json.loads(rest.partition(" CMD ")[2])
            case "CMD":
                stage.command = json.loads(rest)
            case "VOLUME" | "EXPOSE":
                pass
            case _:
                raise ValueError(f"{name} isn't known to tests/image_steps.py: add it")
    return stage


def check(stage: Stage, port: str) -> None:
    """Start the image's command, and check its health, its page, a turn and its end. Raises an error if one fails."""
    own = {"PORT": port, "TURNWIRE_INSECURE": "1"}
    server = stage.popen(stage.command, own)
    try:
        deadline = time.monotonic() + HEALTHY_S
        while stage.popen(stage.health, own).wait() != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the health check of the image fails")
            time.sleep(0.5)
        stage.run(["python", "-c", TURN, f"http://127.0.0.1:{port}"])
        server.send_signal(signal.SIGTERM)
        if (code := server.wait(60)) != 0:
            raise RuntimeError(f"the image's command ended with {code} after SIGTERM")
    finally:
        if server.poll() is None:
            server.kill()
    if not (stage.root / "data/turnwire.db").exists():
        raise RuntimeError("the conversations aren't in /data")
    if (stage.root / "opt/build").exists() or list(stage.root.glob("opt/turnwire/bin/pip*")):
        raise RuntimeError("the image has tools of the build")


def main() -> None:
    """Run the steps of the Dockerfile. The argument is a free port. Print what was run."""
    if os.geteuid() != 0:
        sys.exit("Root is required for chroot: sudo make image-steps")
    if shutil.which("debootstrap") is None:
        sys.exit("debootstrap is missing: apt install debootstrap")
    stage = build((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    check(stage, sys.argv[1] if len(sys.argv) > 1 else "18000")
    for each in FOLDER.glob("stage*"):
        subprocess.run(["rm", "-rf", "--one-file-system", each], check=True)
    print("All steps of the Dockerfile have run, and the image's command works.")


if __name__ == "__main__":
    main()
