"""From a store's URL to the store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.base import StoreError
from store.connect import connect
from tests.store_conformance import conversation


async def test_a_relative_url_is_a_file_beside_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes and a name: in the folder where the process runs."""
    monkeypatch.chdir(tmp_path)
    store = connect("sqlite:///here.db")
    await store.open()
    await store.close()
    assert (tmp_path / "here.db").is_file()


async def test_an_absolute_url_is_that_file(tmp_path: Path) -> None:
    """A fourth slash begins the absolute path."""
    store = connect(f"sqlite:///{tmp_path / 'there.db'}")
    await store.open()
    await store.close()
    assert (tmp_path / "there.db").is_file()


async def test_a_store_in_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` ends with the process."""
    monkeypatch.chdir(tmp_path)
    store = connect("sqlite:///:memory:")
    await store.open()
    await store.create_conversation(conversation())
    await store.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "turnwire.db", "postgres://user:secret@host/db"])
def test_another_url_is_explained(url: str) -> None:
    """What isn't a store's URL is refused with what may be given; a password in it isn't repeated."""
    with pytest.raises(StoreError, match="sqlite:///") as refused:
        connect(url)
    assert "secret" not in str(refused.value)
