"""`connect` creates the store of a URL."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from store.api import Store
from store.connect import connect, has_password
from store.errors import StoreError
from store.redis.store import RedisStore
from tests.stored import conversation


def store_of(url: str) -> Store:
    """Return the store of this URL."""
    return connect(url, history_ttl_s=3600, log_ttl_s=600)


async def test_a_relative_url_is_a_file_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three slashes, the path is relative to the working directory."""
    monkeypatch.chdir(tmp_path)
    store = store_of("sqlite:///here.db")
    await store.open()
    await store.close()
    assert (tmp_path / "here.db").is_file()


async def test_an_absolute_url_is_an_absolute_path(tmp_path: Path) -> None:
    """A fourth slash begins an absolute path."""
    store = store_of(f"sqlite:///{tmp_path / 'there.db'}")
    await store.open()
    await store.close()
    assert (tmp_path / "there.db").is_file()


async def test_a_store_in_memory_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` writes no file and isn't shared with other instances."""
    monkeypatch.chdir(tmp_path)
    store = store_of("sqlite:///:memory:")
    assert not store.shared
    await store.open()
    await store.create_conversation(conversation())
    await store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/1",
        "rediss://user:secret@cache:6380/0",
        "unix:///run/redis.sock?db=1",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://user:secret@a,b/0?ssl_ca_certs=/ca.pem",
        "redis+sentinel://user:secret@a,b:5/main/3?sentinel_password=secret",
    ],
)
def test_a_redis_url_creates_a_shared_store(url: str) -> None:
    """URLs for TCP, TLS and Unix sockets are accepted; the store doesn't connect before `open`."""
    store = store_of(url)
    assert isinstance(store, RedisStore)
    assert store.shared


@pytest.mark.parametrize(
    "url",
    ["", "sqlite://", "sqlite:///", "turnwire.db", "postgres://user:secret@host/db", "user:secret@host"],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    """An invalid URL is refused; the error names both valid forms and contains no password."""
    with pytest.raises(StoreError, match=r"sqlite:///.*redis://") as refused:
        store_of(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://user:secret@",
        "redis+cluster://user:secret@a,,b",
        "redis+cluster://user:secret@a:x",
        "redis+cluster://user:secret@a:1/2",
        "redis+cluster://user:sec/secret@a:1",
        "redis+cluster://a:1?secret=1",
        "redis+sentinel://user:secret@a:1",
        "redis+sentinel://user:secret@a:1/main/secret",
        "redis+sentinel://user:secret@a:1/main/1/secret",
    ],
)
def test_an_invalid_url_of_several_servers_is_refused(url: str) -> None:
    """The error says what the URL has to be, and contains no password."""
    with pytest.raises(StoreError, match=r"redis\+cluster://|database 0") as refused:
        store_of(url)
    assert "secret" not in "".join(traceback.format_exception(refused.value)).replace(url, "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://localhost/1", False),
        ("redis+cluster://a:1,b:2", False),
        ("redis+cluster://user:secret@a:1,b:2", True),
        ("rediss+sentinel://:secret@a/main", True),
        ("redis+sentinel://a/main?sentinel_password=secret", True),
        ("redis://a?password=secret", True),
    ],
)
def test_a_url_with_a_password_is_recognized(url: str, *, expected: bool) -> None:
    """A password in the authority or the query, for Redis or for a Sentinel, is recognized."""
    assert has_password(url) is expected


def test_an_unknown_scheme_is_named() -> None:
    """The error names the scheme, which is never a secret."""
    with pytest.raises(StoreError, match="Unknown store 'postgres'"):
        store_of("postgres://host/db")
