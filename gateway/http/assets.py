"""Serve the page and its files, so that a browser loads them once.

`/static/HASH/…` has the files as they are, and `/static/HASH-page/…` has the page's modules joined (see page_bundle.py).
HASH covers all files, so both are immutable. `/static/…` has the files as they are now, without a promise.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gateway.http.page_bundle import BundleError, joined

log = structlog.stdlib.get_logger("turnwire.gateway")

MEDIA_TYPES = MappingProxyType(
    {
        ".html": "text/html; charset=utf-8",
        ".css": "text/css; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".svg": "image/svg+xml",
        ".d.ts": "text/plain; charset=utf-8",
        ".txt": "text/plain; charset=utf-8",
        ".woff2": "font/woff2",
        ".png": "image/png",
        ".webmanifest": "application/manifest+json",
    }
)
SERVED_SUFFIXES = tuple(MEDIA_TYPES)
"""The file types of the pages, the client library and the licenses. No other files in the folder are served."""

HASH_CHARS = 12
_HASHED = re.compile(rf"([0-9a-f]{{{HASH_CHARS}}})(-page)?/(.+)", re.DOTALL)
_IMMUTABLE = "public, max-age=31536000, immutable"
_ENCODING = re.compile(r"(?:^|,)\s*(br|gzip)\s*(?:;\s*q=(0(?:\.0*)?)\s*)?(?=,|;|$)", re.IGNORECASE)
_BROTLI_QUALITY = 5
"""Higher qualities take many times as long for a few percent."""
_COMPRESSED_BYTES_MIN = 256


@dataclass(frozen=True)
class _Tree:
    """The files at one moment. `joined`: those that are different for the page. `stamp`: to notice a change."""

    files: Mapping[str, bytes]
    joined: Mapping[str, bytes]
    hash: str
    stamp: object
    _tags: dict[bytes, str] = field(default_factory=dict)
    _compressed: dict[tuple[bytes, str], bytes | None] = field(default_factory=dict)
    _compressing: dict[tuple[bytes, str], asyncio.Lock] = field(default_factory=dict)

    def tag(self, content: bytes) -> str:
        """Return the hash of a file's content. It is computed once, because a large file takes milliseconds."""
        if content not in self._tags:
            self._tags[content] = hashlib.sha256(content).hexdigest()[:HASH_CHARS]
        return self._tags[content]

    async def compressed(self, content: bytes, encoding: str) -> bytes | None:
        """Return the content in an encoding; None if that isn't smaller. However many ask for it, it is compressed once."""
        key = content, encoding
        async with self._compressing.setdefault(key, asyncio.Lock()):
            if key not in self._compressed:
                self._compressed[key] = await asyncio.to_thread(_compress, content, encoding)
        return self._compressed[key]


class Assets(StaticFiles):
    """The app at `/static`, and the HTML pages at other addresses.

    Files are read at the first request for a page or for a hashed address, and in a checkout again after a change.
    """

    def __init__(self, folder: Path, *, is_installed: bool, auth: str) -> None:
        """Serve the files in `folder`. `is_installed`: they don't change. `auth`: `TURNWIRE_AUTH`, which the page reads."""
        super().__init__(directory=folder, check_dir=False)
        self._folder = folder
        self._is_installed = is_installed
        self._auth = auth
        self._tree: _Tree | None = None
        self._loading = asyncio.Lock()

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return the full path of a file and its `stat` result; the latter is None if no such file is served."""
        return super().lookup_path(path) if path.endswith(SERVED_SUFFIXES) else ("", None)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file at a path below `/static`. Raises `HTTPException`: 404 or 405."""
        hashed = _HASHED.fullmatch(path.replace(os.sep, "/"))
        if hashed is None:
            return await super().get_response(path, scope)
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(405, headers={"allow": "GET, HEAD"})
        tree = self._tree or await self._current()
        wanted, is_page, name = hashed.groups()
        content = (tree.joined.get(name) if is_page else None) or tree.files.get(name)
        if content is None:
            raise HTTPException(404)
        response = await _respond(tree, name, content, scope)
        # After a deployment, an old page may request files of its version. It gets the current ones, which no cache keeps.
        response.headers["cache-control"] = _IMMUTABLE if wanted == tree.hash else "no-store"
        return response

    async def page(self, name: str, scope: Scope) -> Response:
        """Return a file of the folder that is served at another address, with the hashed addresses of the files it names.

        With the query `modules`, the page loads its modules one by one, for those who debug it. Raises `HTTPException`
        (404) if the folder has no such file.
        """
        tree = await self._current()
        content = tree.files.get(name)
        if content is None:
            raise HTTPException(404)
        is_joined = name != "docs.html" and scope["query_string"] != b"modules"
        address = f"static/{tree.hash}{'-page' if is_joined else ''}/"
        text = content.decode().replace('"static/', f'"{address}')
        text = text.replace('<html lang="en">', f'<html lang="en" data-auth="{self._auth}">', 1)
        if name == "sw.js":
            text += f"// auth: {self._auth}\n"  # the page that it keeps depends on it
        return await _respond(tree, name, text.encode(), scope)

    async def _current(self) -> _Tree:
        """Return the files as they are now."""
        if self._is_installed and self._tree is not None:
            return self._tree
        async with self._loading:
            self._tree = await asyncio.to_thread(_load, self._folder, self._tree, is_fixed=self._is_installed)
        return self._tree


async def _respond(tree: _Tree, name: str, content: bytes, scope: Scope) -> Response:
    """Return the response with a file's content, compressed if the client accepts it, or 304 if it has the file."""
    headers = Headers(scope=scope)
    suffix = next((suffix for suffix in MEDIA_TYPES if name.endswith(suffix)), "")
    encoding = _accepted_encoding(",".join(headers.getlist("accept-encoding")))
    compressed = await tree.compressed(content, encoding) if encoding else None
    body = content if compressed is None else compressed
    etag = f'"{tree.tag(content)}{encoding and "-" + encoding}"'
    own = {"etag": etag, "vary": "Accept-Encoding"}
    if has_tag(headers, etag):
        return Response(status_code=304, headers=own)
    if compressed is not None:
        own["content-encoding"] = encoding
    own["content-length"] = str(len(body))
    return Response(b"" if scope["method"] == "HEAD" else body, headers=own, media_type=MEDIA_TYPES.get(suffix))


def has_tag(headers: Headers, etag: str) -> bool:
    """Return whether the client already has the content with this tag."""
    tags = {one.strip().removeprefix("W/") for one in ",".join(headers.getlist("if-none-match")).split(",")}
    return etag in tags or "*" in tags


def _accepted_encoding(header: str) -> str:
    """Return the best encoding that an `Accept-Encoding` header allows; empty: none."""
    accepted = {name.lower() for name, zero in _ENCODING.findall(header) if not zero}
    return next((name for name in _encoders() if name in accepted), "")


@cache
def _encoders() -> Mapping[str, Callable[[bytes], bytes]]:
    """Return the encodings, the best first. Brotli's module is loaded with the first page."""
    encoders: dict[str, Callable[[bytes], bytes]] = {"gzip": partial(gzip.compress, mtime=0)}
    try:
        brotli: Any = import_module("brotli")
    except ImportError:  # a platform that it has no wheel for
        return encoders
    return {"br": partial(brotli.compress, quality=_BROTLI_QUALITY), **encoders}


def _compress(content: bytes, encoding: str) -> bytes | None:
    """Return the content in an encoding; None if that isn't smaller."""
    if len(content) < _COMPRESSED_BYTES_MIN:
        return None
    smaller = _encoders()[encoding](content)
    return smaller if len(smaller) < len(content) else None


def _is_in(path: Path, folder: Path) -> bool:
    """Return whether the path is a file in the folder. A link that leads elsewhere isn't, as in `StaticFiles`."""
    return path.is_file() and (not path.is_symlink() or path.resolve().is_relative_to(folder.resolve()))


def _load(folder: Path, known: _Tree | None, *, is_fixed: bool) -> _Tree:
    """Return the files of a folder: the known ones, if none has changed."""
    paths = sorted(path for path in folder.rglob("*") if path.name.endswith(SERVED_SUFFIXES) and _is_in(path, folder))
    stamp = None if is_fixed else [(path, (stat := path.stat()).st_mtime_ns, stat.st_size) for path in paths]
    if known is not None and known.stamp == stamp:
        return known
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    try:
        replaced = joined(files)
    except BundleError as error:
        log.warning("page_modules_not_joined", reason=str(error))
        replaced = {}
    digest = hashlib.sha256()
    for name, content in [*files.items(), *replaced.items()]:
        digest.update(b"%d %d %s" % (len(name), len(content), name.encode()) + content)
    return _Tree(files, replaced, digest.hexdigest()[:HASH_CHARS], stamp)
