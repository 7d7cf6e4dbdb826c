"""API keys: made, hashed, told apart, taken away, and a file that is wrong."""

from __future__ import annotations

import hashlib
import json
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
    """The message with which a key is refused."""
    with pytest.raises(ApiError) as error:
        keys.credential(key)
    assert error.value.code == "unauthenticated"
    return error.value.body.message


def test_a_key_names_its_user(tmp_path: Path) -> None:
    """With its scopes and the name by which it can be revoked; the file holds its hash only."""
    file = KeyFile(tmp_path)
    key = file.add("ann", {"chat", "read"})
    named = ApiKeys(str(file.path)).credential(key)
    assert (named.user, named.scopes, named.expires_ms) == ("ann", frozenset({"chat", "read"}), None)
    assert named.name == f"key:{key.split('_')[1]}"
    assert 0 <= now_ms() - named.issued_ms < 60_000
    assert key not in file.path.read_text()
    assert key.split("_", 2)[2] not in file.path.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.path.read_text()


def test_a_service_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Which no user can have."""
    file = KeyFile(tmp_path)
    key = file.add_service("backend")
    assert ApiKeys(str(file.path)).credential(key).user == "service:backend"
    with pytest.raises(ValueError, match="service:"):
        file.add("service:backend")


def test_keys_are_random() -> None:
    """Two keys share nothing but their beginning."""
    one, two = (new_key(user="ann", service=None, scopes=["chat"])[0] for _ in range(2))
    assert one.split("_")[1] != two.split("_")[1]
    assert len(one.split("_", 2)[2]) == 43


def test_what_is_not_the_key_does_not_count(tmp_path: Path) -> None:
    """Cut, longer, another's secret behind this one's id, or no key at all."""
    file = KeyFile(tmp_path)
    key, other = file.add("ann"), file.add("bob")
    keys = ApiKeys(str(file.path))
    mixed = key[:19] + "_" + other.split("_", 2)[2]
    for wrong in (key[:-1], key + "x", mixed, "tw_", "", "tw_\ud800", new_key(user="a", service=None, scopes=[])[0]):
        assert "Invalid API key" in refused(keys, wrong)


def test_a_key_may_end(tmp_path: Path) -> None:
    """From then on it says so."""
    file = KeyFile(tmp_path)
    over, lasting = file.add(lifetime_s=-1), file.add(lifetime_s=60)
    keys = ApiKeys(str(file.path))
    assert "expired" in refused(keys, over)
    ends = keys.credential(lasting).expires_ms
    assert ends is not None
    assert 50_000 < ends - now_ms() <= 60_000


class Watched:
    """A file of keys with a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.file = KeyFile(folder)
        self.now = 0.0
        self.ann, self.bob = self.file.add("ann"), self.file.add("bob")
        self.keys = ApiKeys(str(self.file.path), lambda: self.now)

    def counts(self) -> list[str]:
        """Whose keys count."""
        found = []
        for key in (self.ann, self.bob):
            with suppress(ApiError):
                found.append(self.keys.credential(key).user)
        return found

    def reload(self, later_s: float = 1.0) -> bool:
        """Look at the file so much later."""
        self.now += later_s
        return self.keys.reload()


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new key counts at once."""
    watched = Watched(tmp_path)
    assert not watched.reload()
    later = watched.file.add("carl")
    assert watched.reload()
    assert (watched.keys.credential(later).user, watched.keys.count) == ("carl", 3)


def test_a_key_that_stays_away_is_gone(tmp_path: Path) -> None:
    """Not at the first look that misses it, but soon; the others stay. Nor does one go at once that is back meanwhile."""
    watched = Watched(tmp_path)
    lines, ann = watched.file.lines(), watched.keys.credential(watched.ann)
    watched.file.remove(watched.ann)
    assert not watched.reload()
    assert not watched.reload(REMOVAL_DELAY_S - 0.1)
    watched.file.replace(lines)
    assert not watched.reload(REMOVAL_DELAY_S)
    watched.file.remove(watched.ann)
    assert not watched.reload(100)
    assert watched.counts() == ["ann", "bob"]
    assert watched.reload(REMOVAL_DELAY_S)
    assert (watched.counts(), watched.keys.current(ann)) == (["bob"], None)
    assert not watched.reload()


@pytest.mark.parametrize("moment", ["empty", "away", "cut", "half", "unreadable"])
def test_a_file_that_is_being_replaced_takes_nobody_s_key(tmp_path: Path, moment: str) -> None:
    """Whatever is seen of it for a moment."""
    watched = Watched(tmp_path)
    text = watched.file.path.read_text()
    if moment == "away":
        watched.file.path.unlink()
    elif moment == "unreadable":
        watched.file.path.unlink()
        watched.file.path.mkdir()
    else:
        seen = {"empty": "", "cut": text[: text.index("\n") + 1], "half": text[:-30]}[moment]
        watched.file.path.write_text(seen)
    for _ in range(2):
        with suppress(AuthSetupError):
            watched.reload(REMOVAL_DELAY_S / 4)
        assert watched.counts() == ["ann", "bob"]
    if moment == "unreadable":
        watched.file.path.rmdir()
    watched.file.path.write_text(text)
    assert not watched.reload(REMOVAL_DELAY_S)
    assert watched.counts() == ["ann", "bob"]


@pytest.mark.parametrize("moment", ["empty", "away"])
def test_a_file_that_stays_away_has_no_keys(tmp_path: Path, moment: str) -> None:
    """Whoever removes it wants nobody in; what it held isn't kept."""
    watched = Watched(tmp_path)
    if moment == "away":
        watched.file.path.unlink()
    else:
        watched.file.path.write_text("")
    assert not watched.reload()
    assert watched.reload(REMOVAL_DELAY_S)
    assert watched.counts() == []


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
def test_an_edited_line_counts_at_once(tmp_path: Path, change: dict[str, Any], still: bool) -> None:
    """With another end or other scopes it is the same key; with another hash or another user it is another's."""
    watched = Watched(tmp_path)
    ann = watched.keys.credential(watched.ann)
    watched.file.edit(watched.ann, **change)
    assert watched.reload()
    now = watched.keys.current(ann)
    assert (now is not None) == still
    if now is not None:
        assert (now.scopes, now.expires_ms) != (ann.scopes, ann.expires_ms)
        assert now == watched.keys.credential(watched.ann)


def test_a_file_that_became_wrong_changes_nothing(tmp_path: Path) -> None:
    """What was known stays however long that lasts, and the operator is told, once for each wrong file."""
    watched = Watched(tmp_path)
    watched.file.path.write_text("nonsense\n")
    with pytest.raises(AuthSetupError, match="Line 1"):
        watched.reload()
    assert not watched.reload(100)
    assert watched.counts() == ["ann", "bob"]
    watched.file.path.unlink()
    watched.file.path.mkdir()
    with pytest.raises(AuthSetupError, match="can't be read"):
        watched.reload(100)
    assert watched.counts() == ["ann", "bob"]


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
def test_a_wrong_line_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    """With its number, and never with its hash."""
    line = json.loads(new_key(user="ann", service=None, scopes=["chat"])[1])
    wrong = {name: value for name, value in {**line, **change}.items() if value is not None}
    (tmp_path / "keys").write_text(f"\n# ours\n{json.dumps(wrong)}\n")
    with pytest.raises(AuthSetupError, match=r"^Line 3 of") as error:
        ApiKeys(str(tmp_path / "keys"))
    assert line["sha256"] not in str(error.value)
