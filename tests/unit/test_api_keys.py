"""API keys: made, hashed, told apart, taken away, and a file that is wrong."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ApiError
from gateway.identity.api_keys import ApiKeys, new_key
from gateway.identity.tokens import AuthSetupError
from gateway.ids import now_ms
from tests.credentials import KeyFile


def refused(keys: ApiKeys, key: str) -> str:
    """The message with which a key is refused."""
    with pytest.raises(ApiError) as error:
        keys.principal(key)
    assert error.value.code == "unauthenticated"
    return error.value.body.message


def test_a_key_names_its_user(tmp_path: Path) -> None:
    """With its scopes and the name by which it can be revoked; the file holds its hash only."""
    file = KeyFile(tmp_path)
    key = file.add("ann", {"chat", "read"})
    named = ApiKeys(str(file.path)).principal(key)
    assert (named.user, named.scopes, named.expires_ms) == ("ann", frozenset({"chat", "read"}), None)
    assert named.credentials == (f"key:{key.split('_')[1]}",)
    assert 0 <= now_ms() - named.issued_ms < 60_000
    assert key not in file.path.read_text()
    assert key.split("_", 2)[2] not in file.path.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in file.path.read_text()


def test_a_service_has_a_name_of_its_own(tmp_path: Path) -> None:
    """Which no user can have."""
    file = KeyFile(tmp_path)
    key = file.add_service("backend")
    assert ApiKeys(str(file.path)).principal(key).user == "service:backend"
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
        assert "isn't accepted" in refused(keys, wrong)


def test_a_key_may_end(tmp_path: Path) -> None:
    """From then on it says so."""
    file = KeyFile(tmp_path)
    over, lasting = file.add(lifetime_s=-1), file.add(lifetime_s=60)
    keys = ApiKeys(str(file.path))
    assert "expired" in refused(keys, over)
    ends = keys.principal(lasting).expires_ms
    assert ends is not None
    assert 50_000 < ends - now_ms() <= 60_000


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A new key counts, one that is gone doesn't, and who came in by it is not allowed any more."""
    file = KeyFile(tmp_path)
    key = file.add("ann")
    keys = ApiKeys(str(file.path))
    ann = keys.principal(key)
    assert (keys.reload(), keys.allows(ann)) == (False, True)
    later = file.add("bob")
    assert keys.reload()
    assert keys.principal(later).user == "bob"
    file.remove(key)
    assert keys.reload()
    assert not keys.allows(ann)
    assert keys.allows(keys.principal(later))
    refused(keys, key)


def test_a_key_with_fewer_scopes_is_another(tmp_path: Path) -> None:
    """Who came in with more isn't allowed any more."""
    file = KeyFile(tmp_path)
    keys = ApiKeys(str(file.path))
    key = file.add("ann", {"chat", "read"})
    keys.reload()
    ann = keys.principal(key)
    file.path.write_text(file.path.read_text().replace('["chat","read"]', '["read"]'))
    keys.reload()
    assert not keys.allows(ann)


def test_a_file_that_became_wrong_changes_nothing(tmp_path: Path) -> None:
    """What was known stays, and the operator is told."""
    file = KeyFile(tmp_path)
    key = file.add("ann")
    keys = ApiKeys(str(file.path))
    file.path.write_text("nonsense\n")
    with pytest.raises(AuthSetupError, match="Line 1"):
        keys.reload()
    assert keys.principal(key).user == "ann"
    file.path.unlink()
    with pytest.raises(AuthSetupError, match="can't be read"):
        keys.reload()
    assert keys.principal(key).user == "ann"


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
