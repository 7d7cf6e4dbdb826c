"""A package index on loopback that serves small generated packages and records downloads.

The same server is the vulnerability service of `make outdated`. Also creates a project whose `Makefile` and
`Dockerfile` install from the index.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BACKEND = """
import zipfile
from pathlib import Path

def _build(folder, tag, files):
    name = f"{NAME}-{VERSION}-{tag}.whl"
    info = f"{NAME}-{VERSION}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {NAME}\\nVersion: {VERSION}\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(path, text)
    return name

def build_wheel(folder, config_settings=None, metadata_directory=None):
    return _build(folder, "py3-none-any", {f"{NAME}.py": f"version = '{VERSION}'\\n"})

def build_editable(folder, config_settings=None, metadata_directory=None):
    return _build(folder, "py3-none-any", {f"{NAME}.pth": str(Path.cwd())})

def get_requires_for_build_wheel(config_settings=None):
    return NEEDS

get_requires_for_build_editable = get_requires_for_build_wheel
"""


def _backend(name: str, version: str, needs: list[str]) -> str:
    """Return the source of a build backend; a build with isolation looks up its `needs` in the index."""
    return f"NAME = {name!r}\nVERSION = {version!r}\nNEEDS = {needs!r}\n{BACKEND}"


def _pyproject(name: str, version: str) -> str:
    system = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    return f'{system}[project]\nname = "{name}"\nversion = "{version}"\n'


@dataclass
class PackageIndex:
    """An index. `files`: its packages, by file name. `fetched`: the names of the downloaded files, in order.

    If `held` isn't empty, files whose names begin with it aren't sent before `released` is set. `reached` is set when one
    of them is requested.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    held: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    vulnerable: dict[str, str] = field(default_factory=dict)
    """The id of the vulnerability that OSV's /v1/query returns, by package and version, such as `parser 1.0`."""

    @property
    def osv_url(self) -> str:
        """The URL of the vulnerability service."""
        return self.url.removesuffix("simple/") + "v1/query"

    def add(self, name: str, version: str, *requires: str, extras: dict[str, str] | None = None) -> None:
        """Add a wheel with one module. `extras`: the requirement of each extra."""
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {one}" for one in requires]
        for extra, needs in (extras or {}).items():
            lines += [f"Provides-Extra: {extra}", f'Requires-Dist: {needs} ; extra == "{extra}"']
        info = f"{name}-{version}.dist-info"
        texts = {
            f"{name}.py": f"version = '{version}'\n",
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as wheel:
            for path, text in (texts | {f"{info}/RECORD": record}).items():
                wheel.writestr(path, text)
        self.files[f"{name}-{version}-py3-none-any.whl"] = made.getvalue()

    def add_source(self, name: str, version: str, needs: str) -> None:
        """Add a source distribution whose build requires the package `needs`."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w:gz") as archive:
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            texts = {"pyproject.toml": _pyproject(name, version), "PKG-INFO": metadata}
            texts["backend.py"] = _backend(name, version, [needs])
            for path, text in texts.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))
        self.files[f"{name}-{version}.tar.gz"] = made.getvalue()

    def pin(self, *names: str, version: str = "1.0") -> str:
        """Return the lines of a lock file for these packages."""
        lines = []
        for name in names:
            (content,) = (data for file, data in self.files.items() if file.startswith(f"{name}-{version}"))
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
        return "".join(lines)


@contextmanager
def package_index() -> Iterator[PackageIndex]:
    """Serve an index without packages, whose `url` is a value for PIP_INDEX_URL."""
    index = PackageIndex()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, name = self.path.strip("/").partition("/")
            if kind == "simple":
                links = (f'<a href="/files/{file}">{file}</a><br>' for file in index.files)
                package = name.replace("-", "_")
                body = "".join(link for link in links if f">{package}-" in link).encode()
            else:
                index.fetched.append(name)
                body = index.files[name]
                if index.held and name.startswith(index.held):
                    index.reached.set()
                    index.released.wait(60)
            self.send_response(200 if body else 404)
            self.send_header("content-type", "text/html" if kind == "simple" else "application/octet-stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(BrokenPipeError):  # the client was killed meanwhile
                self.wfile.write(body)

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name, version = query["package"]["name"], query["version"]
            vulnerability = index.vulnerable.get(f"{name} {version}")
            fixed = {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}
            affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [fixed]}
            body = json.dumps(
                {"vulns": [{"id": vulnerability, "affected": [affected]}]} if vulnerability else {}
            ).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing; `fetched` records downloads."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    index.url = f"http://127.0.0.1:{server.server_port}/simple/"
    try:
        yield index
    finally:
        index.released.set()
        server.shutdown()
        serving.join()
        server.server_close()


def project_on(index: PackageIndex, folder: Path, root: Path) -> None:
    """Create a project in `folder` with the Makefile and Dockerfile of `root`, whose locks pin version 1.0.

    The index also has version 2.0 of each. Some locked packages require an extra of another one, as pytest-cov requires
    `coverage[toml]`.
    """
    for version in ("1.0", "2.0"):
        index.add("builder", version)
        index.add("parser", version, extras={"fast": "speedups>=1.0"})
        index.add("speedups", version)
        index.add("plugin", version, "parser[fast]>=1.0")
        index.add("tracer", version, extras={"toml": "speedups>=1.0"})
        index.add("tracerplugin", version, "tracer[toml]>=1.0")
        index.add("peer", version, "parser[fast]>=1.0")
        index.add_source("sourced", version, needs="builder>=1.0")
    run = index.pin("parser", "plugin", "speedups")
    locks = {
        "requirements-build.lock": index.pin("builder"),
        "requirements.lock": run,
        "requirements-dev.lock": run + index.pin("tracer", "tracerplugin", "sourced"),
        "requirements-upkeep.lock": run,
        "requirements-docs.lock": run,
        "tests/dialect_clients/requirements.lock": run,
        "bench/peers/requirements.lock": run + index.pin("peer"),
    }
    texts = locks | {
        "pyproject.toml": _pyproject("turnwire", "1.0"),
        "backend.py": _backend("turnwire", "1.0", ["builder>=1.0"]),
        **{name: (root / name).read_text(encoding="utf-8") for name in ("Makefile", "Dockerfile")},
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
