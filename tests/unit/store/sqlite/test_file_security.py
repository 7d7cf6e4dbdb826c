"""Only its owner can read a new SQLite file. In a shared folder, another user's file isn't opened.

Other risks are logged as warnings.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from store.errors import StoreError
from store.sqlite.database import Database

OTHER_UID = 12_345
WORLD_WRITABLE = 0o777
STICKY = 0o1777

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of files")


async def open_database(path: Path) -> Database:
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
    """Return the files of a database, with their permissions."""
    return {each.name: stat.S_IMODE(each.lstat().st_mode) for each in path.parent.glob(f"{path.name}*")}


@pytest.fixture
def umask() -> object:
    """The usual umask, with which new files are readable by all users."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
async def test_only_the_owner_can_read_new_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the owner can read the database and its journals, even after closing and opening it again; no warning is
    logged."""
    path = tmp_path / "turnwire.db"
    for _ in range(2):
        database = await open_database(path)
        await database.run(lambda db: db.execute("CREATE TABLE IF NOT EXISTS box (a)"))
        modes = files_of(path)
        assert "turnwire.db-wal" in modes
        assert set(modes.values()) == {0o600}
        await database.close()
        assert files_of(path) == {"turnwire.db": 0o600, "turnwire.db-lock": 0o600}
    assert caplog.text == ""


@pytest.mark.usefixtures("umask")
async def test_a_file_that_others_can_access_logs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that a group can read is opened with unchanged permissions, and a warning says how to fix them."""
    path = tmp_path / "turnwire.db"
    path.touch()
    path.chmod(0o640)
    database = await open_database(path)
    modes = files_of(path)
    assert modes.pop("turnwire.db-lock") == 0o600
    assert set(modes.values()) == {0o640}
    await database.close()
    assert "chmod 600" in caplog.text
    assert str(path) in caplog.text
    assert "640" in caplog.text


@pytest.mark.parametrize("mode", [WORLD_WRITABLE, STICKY])
async def test_a_world_writable_folder_logs_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    """A warning is logged, unless the folder is sticky like /tmp, where only the owner of a file can replace it."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    await (await open_database(folder / "turnwire.db")).close()
    assert ("chmod o-w" in caplog.text) is (mode == WORLD_WRITABLE)


@as_root
async def test_another_users_folder_logs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of another user in a folder of that user, as in a container's volume, is opened with a warning."""
    folder = tmp_path / "lent"
    folder.mkdir(mode=0o755)
    path = folder / "turnwire.db"
    path.touch(mode=0o600)
    os.chown(folder, OTHER_UID, OTHER_UID)
    os.chown(path, OTHER_UID, OTHER_UID)
    await (await open_database(path)).close()
    assert "another user owns the folder" in caplog.text
    assert str(OTHER_UID) in caplog.text


@as_root
@pytest.mark.parametrize("mode", [WORLD_WRITABLE, STICKY, 0o775])
@pytest.mark.parametrize("ending", ["", "-wal", "-journal", "-lock"])
async def test_another_users_file_is_not_opened(tmp_path: Path, mode: int, ending: str) -> None:
    """Another user's database, journal or lock file is refused and not changed, and the error says what to do."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    path = folder / "turnwire.db"
    planted = Path(f"{path}{ending}")
    with closing(sqlite3.connect(planted)) as db, db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    planted.chmod(0o666)
    os.chown(planted, OTHER_UID, OTHER_UID)
    before = planted.read_bytes()
    message = await refusal(path)
    assert str(planted) in message
    assert f"uid {OTHER_UID}" in message
    assert "chown" in message
    assert planted.read_bytes() == before


@as_root
async def test_another_users_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """A symbolic link of another user is refused, because it could make the gateway write to a file of its own user."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(STICKY)
    ours = tmp_path / "ours.db"
    link = folder / "turnwire.db"
    link.symlink_to(ours)
    os.chown(link, OTHER_UID, OTHER_UID, follow_symlinks=False)
    assert "belongs to another user" in await refusal(link)
    assert not ours.exists()
