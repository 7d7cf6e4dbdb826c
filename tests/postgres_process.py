"""A private PostgreSQL whose databases tests create, and which a test may stop, freeze, kill and restart.

PostgreSQL refuses to run as root, so tests that run as root start it as the user of Debian's package. Its files are in a
folder of their own, which that user owns.
"""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from tests.ports import free_port
from tests.programs import missing

START_TIMEOUT_S = 60
MEMORY_BYTES_MIN = 2 * 2**30
OWNER = "turnwire"
"""The superuser of the cluster."""
PASSWORD = "a-password-for-tests"


def programs() -> Path:
    """Return the folder of the newest PostgreSQL's programs; without one, fail or skip the test.

    Debian has them outside PATH. The variable `TEST_POSTGRES` sets another folder.
    """
    if named := os.environ.get("TEST_POSTGRES"):
        return Path(named)
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/opt/homebrew/opt").glob("postgresql@*/bin")]
    if in_path := shutil.which("initdb"):
        folders.append(Path(in_path).resolve().parent)
    found = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return max(found, key=_version) if found else missing("PostgreSQL")


def _version(folder: Path) -> int:
    number = re.search(r"(\d+)/bin$", str(folder))
    return int(number[1]) if number else 0


class _Account(NamedTuple):
    uid: int
    gid: int


def _account() -> _Account | None:
    """Return the account that runs the server, or None for the account of the tests."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(entry.pw_uid, entry.pw_gid)
    return missing("an account for PostgreSQL besides root")


def _identity(account: _Account | None, folder: Path) -> dict[str, Any]:
    """Return the arguments with which a program is run in `folder`, by that account."""
    identity = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    return {"cwd": folder, **identity}


class PostgresProcess:
    """A PostgreSQL on its own port. With `password`, clients must give one."""

    def __init__(self, folder: Path, *, password: bool = False, settings: dict[str, str] | None = None) -> None:
        self._programs = programs()
        self._account = _account()
        self._folder = folder
        self._has_password = password
        self._settings = settings or {}
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        if self._account is not None:
            os.chown(folder, self._account.uid, self._account.gid)
        self._initialize()

    def url(self, database: str = "postgres", user: str = OWNER, *, port: int | None = None) -> str:
        """Return the URL of a database, with the password if there is one. `port`: that of a proxy."""
        secret = f":{PASSWORD}" if self._has_password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{port or self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """Create a database with a new name and return its name."""
        self._databases += 1
        name = f"db{self._databases}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, command: str, database: str = "postgres", user: str = OWNER) -> list[list[str]]:
        """Run SQL with psql, and return the rows of the last result as text."""
        done = subprocess.run(
            [
                *(self._programs / "psql", "-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", command),
                *("-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database),
            ],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD, "PGOPTIONS": "-c client_min_messages=error"},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return [line.split("\t") for line in done.stdout.splitlines()]

    def dump(self, database: str) -> str:
        """Return what pg_dump writes of a database: its tables and all of their rows."""
        return subprocess.run(
            [self._programs / "pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", OWNER, database],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=True,
        ).stdout

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "64MB",
            "max_connections": "60",
            "dynamic_shared_memory_type": "mmap",
            **self._settings,
        }
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *arguments],
                stdout=log,
                stderr=log,
                **self._as_account(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("PostgreSQL did not start:\n" + self.log.read_text())
            time.sleep(0.02)

    def stop(self) -> None:
        """End the process and its connections, as an operator does who restarts it."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the process at once, without a checkpoint. Its children end too, which a SIGKILL would leave behind."""
        self._end(signal.SIGQUIT)

    def freeze(self) -> None:
        """Stop all its processes with SIGSTOP: their connections stay open, and they answer nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue all its processes."""
        self._signal_all(signal.SIGCONT)

    def use_certificate(self, certificate: trustme.LeafCert) -> None:
        """Accept TLS too from the next start on, with this certificate."""
        chain, key = self._folder / "server.pem", self._folder / "server.key"
        certificate.cert_chain_pems[0].write_to_path(chain)
        certificate.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        if self._account is not None:
            os.chown(key, self._account.uid, self._account.gid)
        self._settings |= {"ssl": "on", "ssl_cert_file": str(chain), "ssl_key_file": str(key)}

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "it isn't running"
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file that it logs to."""
        return self._folder / "postgres.log"

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _as_account(self) -> dict[str, Any]:
        return _identity(self._account, self._folder)

    def _initialize(self) -> None:
        subprocess.run(
            ["cp", "-R", _initialized(), self._data], check=True, timeout=START_TIMEOUT_S, **self._as_account()
        )
        if self._has_password:
            access = self._data / "pg_hba.conf"
            access.write_text(access.read_text().replace("trust", "scram-sha-256"))

    def _pids(self) -> list[int]:
        assert self._process is not None
        parent = self._process.pid
        children = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
        return [parent, *map(int, children.split())]

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            return self.execute("SELECT 1") == [["1"]]
        except RuntimeError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.thaw()
            self._process.send_signal(number)
            self._process.wait(START_TIMEOUT_S)
            self._process = None


def _fast_folder() -> str | None:
    """Return a folder in memory that has enough space, or None if there is none."""
    memory = Path("/dev/shm")
    has_space = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN
    return str(memory) if has_space else None


@cache
def _initialized() -> Path:
    """Return a data folder to copy. `initdb` takes ten times as long as a copy. The folder is deleted when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="turnwire-postgres-", dir=_fast_folder()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    account = _account()
    if account is not None:
        os.chown(folder, account.uid, account.gid)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    subprocess.run(
        [
            *(programs() / "initdb", "-D", folder / "data", "-U", OWNER, "-E", "UTF8", "--locale=C", "--auth=trust"),
            *("--no-sync", "--no-instructions", "--pwfile", secret),
        ],
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=START_TIMEOUT_S,
        **_identity(account, folder),
    )
    return folder / "data"


@contextmanager
def postgres_process(*, password: bool = False, settings: dict[str, str] | None = None) -> Iterator[PostgresProcess]:
    """Start a PostgreSQL. `settings`: further options of the server. On exit, end it and delete its files."""
    programs()
    # Not in pytest's folder: root's folders can't be entered by the account of PostgreSQL.
    folder = Path(tempfile.mkdtemp(prefix="turnwire-postgres-", dir=_fast_folder()))
    process = None
    try:
        process = PostgresProcess(folder, password=password, settings=settings)
        process.start()
        yield process
    finally:
        if process is not None:
            process.kill()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[PostgresProcess]:
    """A PostgreSQL for tests that neither stop nor reconfigure it."""
    with postgres_process() as process:
        yield process


@pytest.fixture
def postgres_server() -> Iterator[PostgresProcess]:
    """A PostgreSQL for one test, which requires a password."""
    with postgres_process(password=True) as process:
        yield process
