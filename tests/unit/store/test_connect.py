"""From a store's URL to the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.api import Store
from store.connect import connect
from store.records import StoreError
from store.redis.store import RedisStore
from tests.store_conformance import conversation


def opened(url: str) -> Store:
    """The store of this URL, with the gateway's usual times."""
    return connect(url, history_ttl_s=3600, log_ttl_s=600)


async def test_a_relative_url_is_a_file_beside_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes and a name: in the folder where the process runs."""
    monkeypatch.chdir(tmp_path)
    store = opened("sqlite:///here.db")
    await store.open()
    await store.close()
    assert (tmp_path / "here.db").is_file()


async def test_an_absolute_url_is_that_file(tmp_path: Path) -> None:
    """A fourth slash begins the absolute path."""
    store = opened(f"sqlite:///{tmp_path / 'there.db'}")
    await store.open()
    await store.close()
    assert (tmp_path / "there.db").is_file()


async def test_a_store_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` ends with the process, and is no other instance's."""
    monkeypatch.chdir(tmp_path)
    store = opened("sqlite:///:memory:")
    assert not store.shared
    await store.open()
    await store.create_conversation(conversation())
    await store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["redis://localhost/1", "rediss://user:secret@cache:6380/0", "unix:///run/redis.sock?db=1"]
)
def test_a_redis_url_is_a_store_that_many_share(url: str) -> None:
    """Over TCP, TLS or a socket file; nothing is connected before the opening."""
    store = opened(url)
    assert isinstance(store, RedisStore)
    assert store.shared


@pytest.mark.parametrize(
    "url",
    ["", "sqlite://", "sqlite:///", "turnwire.db", "postgres://user:secret@host/db", "user:secret@host"],
)
def test_another_url_is_explained(url: str) -> None:
    """What isn't a store's URL is refused with both forms that may be; a password isn't repeated."""
    with pytest.raises(StoreError, match=r"sqlite:///.*redis://") as refused:
        opened(url)
    assert "secret" not in str(refused.value)


def test_the_unknown_scheme_is_named() -> None:
    """The part of the URL that is surely no secret."""
    with pytest.raises(StoreError, match="Unknown store 'postgres'"):
        opened("postgres://host/db")
