"""The SQLite file is its owner's alone, and what somebody else put in its place is neither read nor written."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from store.records import StoreError
from store.sqlite.database import Database

SOMEBODY = 12_345
EVERYBODY = 0o777
STICKY = 0o1777

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")


async def opened(path: Path) -> Database:
    database = Database(str(path))
    await database.open()
    return database


async def refusal(path: Path) -> str:
    database = Database(str(path))
    with pytest.raises(StoreError) as refused:
        await database.open()
    await database.close()
    return str(refused.value)


def files_of(path: Path) -> dict[str, int]:
    """What there is of a database, with its rights."""
    return {each.name: stat.S_IMODE(each.lstat().st_mode) for each in path.parent.glob(f"{path.name}*")}


@pytest.fixture
def umask() -> object:
    """That of most machines, by which everybody may read what isn't made otherwise."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_the_file_and_its_journals_are_made_for_their_owner_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While it is open, when it is closed, and when it is opened again; and of a file that is so nothing is said."""
    path = tmp_path / "turnwire.db"
    for _ in range(2):
        database = await opened(path)
        await database.run(lambda db: db.execute("CREATE TABLE IF NOT EXISTS box (a)"))
        there = files_of(path)
        assert "turnwire.db-wal" in there
        assert set(there.values()) == {0o600}
        await database.close()
        assert files_of(path) == {"turnwire.db": 0o600, "turnwire.db-lock": 0o600}
    assert caplog.text == ""


@pytest.mark.usefixtures("umask")
async def test_a_file_that_others_may_read_is_said_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever gave it to a group may have meant it; it is opened, and the log says how to mend it."""
    path = tmp_path / "turnwire.db"
    path.touch()
    path.chmod(0o640)
    database = await opened(path)
    there = files_of(path)
    assert there.pop("turnwire.db-lock") == 0o600
    assert set(there.values()) == {0o640}
    await database.close()
    assert "chmod 600" in caplog.text
    assert str(path) in caplog.text
    assert "640" in caplog.text


@pytest.mark.parametrize("rights", [EVERYBODY, STICKY])
async def test_a_folder_where_everybody_may_write_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rights: int
) -> None:
    """Unless it is sticky, as /tmp is: there only the owner of a file can replace it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(rights)
    await (await opened(folder / "turnwire.db")).close()
    assert ("chmod o-w" in caplog.text) is (rights == EVERYBODY)


@as_root
async def test_a_folder_of_somebody_else_s_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that a container was lent may be one, so it serves; a file of its owner's does, too."""
    folder = tmp_path / "lent"
    folder.mkdir(mode=0o755)
    path = folder / "turnwire.db"
    path.touch(mode=0o600)
    os.chown(folder, SOMEBODY, SOMEBODY)
    os.chown(path, SOMEBODY, SOMEBODY)
    await (await opened(path)).close()
    assert "another user owns the folder" in caplog.text
    assert str(SOMEBODY) in caplog.text


@as_root
@pytest.mark.parametrize("rights", [EVERYBODY, STICKY, 0o775])
@pytest.mark.parametrize("ending", ["", "-wal", "-journal", "-lock"])
async def test_what_another_user_planted_is_not_opened(tmp_path: Path, rights: int, ending: str) -> None:
    """The database itself or a journal that would be played into it: refused, with what to do, and left as it is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(rights)
    path = folder / "turnwire.db"
    planted = Path(f"{path}{ending}")
    with sqlite3.connect(planted) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    planted.chmod(0o666)
    os.chown(planted, SOMEBODY, SOMEBODY)
    before = planted.read_bytes()
    said = await refusal(path)
    assert str(planted) in said
    assert f"uid {SOMEBODY}" in said
    assert "chown" in said
    assert planted.read_bytes() == before


@as_root
async def test_a_link_that_another_user_planted_is_not_followed(tmp_path: Path) -> None:
    """By a symbolic link another user could have us write a file that this user can't write."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(STICKY)
    ours = tmp_path / "ours.db"
    link = folder / "turnwire.db"
    link.symlink_to(ours)
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert "belongs to another user" in await refusal(link)
    assert not ours.exists()
