"""Tests of API keys: creation, hashes, lookup, removal, and invalid key files."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gateway.identity.api_keys import REMOVAL_DELAY_S, ApiKeys, new_key
from gateway.identity.tokens import AuthSetupError
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import now_ms
from tests.credentials import KeyFile


def refused(keys: ApiKeys, key: str) -> str:
    """Return the message with which a key is refused."""
    with pytest.raises(ApiError) as error:
        keys.credential(key)
    assert error.value.code == "unauthenticated"
    return error.value.body.message


def test_a_key_names_its_user(tmp_path: Path) -> None:
    """A key has scopes and a name by which it can be revoked. The file contains only its hash."""
    file = KeyFile(tmp_path)
    key = file.add("ann", {"chat", "read"})
    named = ApiKeys(str(file.path)).credential(key)
    assert (named.user, named.scopes, named.expires_ms) == ("ann", frozenset({"chat", "read"}), None)
    assert named.name == f"key:{key.split('_')[1]}"
    assert 0 <= now_ms() - named.issued_ms < 60_000
    assert key not in file.path.read_text()
    assert key.split("_", 2)[2] not in file.path.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.path.read_text()


def test_a_service_has_a_name_that_no_user_can_have(tmp_path: Path) -> None:
    """The prefix `service:` is refused in a user name."""
    file = KeyFile(tmp_path)
    key = file.add_service("backend")
    assert ApiKeys(str(file.path)).credential(key).user == "service:backend"
    with pytest.raises(ValueError, match="service:"):
        file.add("service:backend")


def test_keys_are_random() -> None:
    """Two keys have different ids and different secrets."""
    one, two = (new_key(user="ann", service=None, scopes=["chat"])[0] for _ in range(2))
    assert one.split("_")[1] != two.split("_")[1]
    assert one.split("_", 2)[2] != two.split("_", 2)[2]
    assert len(one.split("_", 2)[2]) == 43


def test_an_invalid_key_is_refused(tmp_path: Path) -> None:
    """The key is cut off, too long, has the secret of another key, isn't a key at all, or isn't in the file."""
    file = KeyFile(tmp_path)
    key, other = file.add("ann"), file.add("bob")
    keys = ApiKeys(str(file.path))
    mixed = key[:19] + "_" + other.split("_", 2)[2]
    for wrong in (key[:-1], key + "x", mixed, "tw_", "", "tw_\ud800", new_key(user="a", service=None, scopes=[])[0]):
        assert "Invalid API key" in refused(keys, wrong)


def test_a_key_can_expire(tmp_path: Path) -> None:
    """The error message says that the key has expired."""
    file = KeyFile(tmp_path)
    over, lasting = file.add(lifetime_s=-1), file.add(lifetime_s=60)
    keys = ApiKeys(str(file.path))
    assert "expired" in refused(keys, over)
    ends = keys.credential(lasting).expires_ms
    assert ends is not None
    assert 50_000 < ends - now_ms() <= 60_000


class ReloadedKeys:
    """A key file that is reloaded, with a clock that the test controls."""

    def __init__(self, folder: Path) -> None:
        self.file = KeyFile(folder)
        self.now = 0.0
        self.ann, self.bob = self.file.add("ann"), self.file.add("bob")
        self.keys = ApiKeys(str(self.file.path), lambda: self.now)

    def valid_users(self) -> list[str]:
        """Return the users whose keys are valid."""
        found = []
        for key in (self.ann, self.bob):
            with suppress(ApiError):
                found.append(self.keys.credential(key).user)
        return found

    def reload(self, later_s: float = 1.0) -> bool:
        """Reload the file after the given time."""
        self.now += later_s
        return self.keys.reload()


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new key is valid at once."""
    reloaded = ReloadedKeys(tmp_path)
    assert not reloaded.reload()
    later = reloaded.file.add("carl")
    assert reloaded.reload()
    assert (reloaded.keys.credential(later).user, reloaded.keys.count) == ("carl", 3)


def test_a_removed_key_becomes_invalid_after_a_delay(tmp_path: Path) -> None:
    """A key becomes invalid a short time after its removal, unless it is added again in that time.

    Other keys aren't affected.
    """
    reloaded = ReloadedKeys(tmp_path)
    lines, ann = reloaded.file.lines(), reloaded.keys.credential(reloaded.ann)
    reloaded.file.remove(reloaded.ann)
    assert not reloaded.reload()
    assert not reloaded.reload(REMOVAL_DELAY_S - 0.1)
    reloaded.file.replace(lines)
    assert not reloaded.reload(REMOVAL_DELAY_S)
    reloaded.file.remove(reloaded.ann)
    assert not reloaded.reload(100)
    assert reloaded.valid_users() == ["ann", "bob"]
    assert reloaded.reload(REMOVAL_DELAY_S)
    assert (reloaded.valid_users(), reloaded.keys.current(ann)) == (["bob"], None)
    assert not reloaded.reload()


@pytest.mark.parametrize("moment", ["empty", "away", "cut", "half", "unreadable"])
def test_keys_stay_valid_while_the_file_is_replaced(tmp_path: Path, moment: str) -> None:
    """This holds for every intermediate state of the file."""
    reloaded = ReloadedKeys(tmp_path)
    text = reloaded.file.path.read_text()
    if moment == "away":
        reloaded.file.path.unlink()
    elif moment == "unreadable":
        reloaded.file.path.unlink()
        reloaded.file.path.mkdir()
    else:
        seen = {"empty": "", "cut": text[: text.index("\n") + 1], "half": text[:-30]}[moment]
        reloaded.file.path.write_text(seen)
    for _ in range(2):
        with suppress(AuthSetupError):
            reloaded.reload(REMOVAL_DELAY_S / 4)
        assert reloaded.valid_users() == ["ann", "bob"]
    if moment == "unreadable":
        reloaded.file.path.rmdir()
    reloaded.file.path.write_text(text)
    assert not reloaded.reload(REMOVAL_DELAY_S)
    assert reloaded.valid_users() == ["ann", "bob"]


def test_keys_stay_valid_while_the_file_is_emptied_again_and_again(tmp_path: Path) -> None:
    """The file may have had keys between two checks, so the delay begins again with each new version without keys."""
    reloaded = ReloadedKeys(tmp_path)
    for n in range(6):
        reloaded.file.path.write_text("")
        os.utime(reloaded.file.path, (n, n))
        assert not reloaded.reload(REMOVAL_DELAY_S)
        assert reloaded.valid_users() == ["ann", "bob"]
    assert reloaded.reload(REMOVAL_DELAY_S)
    assert reloaded.valid_users() == []


@pytest.mark.parametrize("moment", ["empty", "away"])
def test_keys_of_a_removed_file_become_invalid(tmp_path: Path, moment: str) -> None:
    """If the file stays missing or empty, no key is valid any more."""
    reloaded = ReloadedKeys(tmp_path)
    if moment == "away":
        reloaded.file.path.unlink()
    else:
        reloaded.file.path.write_text("")
    assert not reloaded.reload()
    assert reloaded.reload(REMOVAL_DELAY_S)
    assert reloaded.valid_users() == []


@pytest.mark.parametrize(
    ("change", "still"),
    [
        ({"scopes": ["read"]}, True),
        ({"scopes": ["admin", "cancel", "chat", "read"]}, True),
        ({"expires_at": "2100-01-01T00:00:00Z"}, True),
        ({"sha256": "11" * 32}, False),
        ({"user": "eve"}, False),
        ({"user": None, "service": "ann"}, False),
    ],
)
def test_an_edited_line_takes_effect_at_once(tmp_path: Path, change: dict[str, Any], still: bool) -> None:
    """With another expiry or other scopes it is the same key.

    With another hash or another user it is a different key.
    """
    reloaded = ReloadedKeys(tmp_path)
    ann = reloaded.keys.credential(reloaded.ann)
    reloaded.file.edit(reloaded.ann, **change)
    assert reloaded.reload()
    now = reloaded.keys.current(ann)
    assert (now is not None) == still
    if now is not None:
        assert (now.scopes, now.expires_ms) != (ann.scopes, ann.expires_ms)
        assert now == reloaded.keys.credential(reloaded.ann)


def test_an_invalid_file_changes_no_keys(tmp_path: Path) -> None:
    """The known keys stay valid for any length of time.

    The error is raised once for each invalid version of the file.
    """
    reloaded = ReloadedKeys(tmp_path)
    reloaded.file.path.write_text("nonsense\n")
    with pytest.raises(AuthSetupError, match="Line 1"):
        reloaded.reload()
    assert not reloaded.reload(100)
    assert reloaded.valid_users() == ["ann", "bob"]
    reloaded.file.path.unlink()
    reloaded.file.path.mkdir()
    with pytest.raises(AuthSetupError, match="can't be read"):
        reloaded.reload(100)
    assert reloaded.valid_users() == ["ann", "bob"]


@pytest.mark.parametrize(
    "change",
    [
        {"user": None},
        {"service": "backend"},
        {"sha256": "00"},
        {"sha256": "0" * 64},
        {"sha256": "x" * 64},
        {"scopes": ["fly"]},
        {"scopes": ["as"]},
        {"created_at": "yesterday"},
        {"expires_at": "2030-01-01"},
        {"color": "red"},
        {"user": ""},
    ],
)
def test_an_invalid_line_is_reported_by_number(change: dict[str, Any], tmp_path: Path) -> None:
    """The error message doesn't contain the key's hash."""
    line = json.loads(new_key(user="ann", service=None, scopes=["chat"])[1])
    wrong = {name: value for name, value in {**line, **change}.items() if value is not None}
    (tmp_path / "keys").write_text(f"\n# ours\n{json.dumps(wrong)}\n")
    with pytest.raises(AuthSetupError, match=r"^Line 3 of") as error:
        ApiKeys(str(tmp_path / "keys"))
    assert line["sha256"] not in str(error.value)
