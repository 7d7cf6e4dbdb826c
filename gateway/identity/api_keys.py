"""API keys: a file with one line for each key, which holds a hash and never the key. It is read again when it changes.

While the file is being replaced it may be missing, empty or incomplete for a moment. So a wrong line changes nothing,
and a missing key is removed only after it has been missing for a while.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.identity.principal import DEFAULT_SCOPES, SERVICE_PREFIX, Credential, Scope, check_retention, check_user
from gateway.identity.tokens import AuthSetupError
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import from_rfc3339, now_ms, rfc3339

KEY_PREFIX = "tw_"
_KEY = re.compile(r"tw_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_NO_HASH = bytes(32)

REMOVAL_DELAY_S = 1.5
"""How long a key must be missing from the file before it is removed."""


class KeyLine(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the file. It has either `user` or `service`. Times are RFC 3339."""

    id: str
    sha256: str
    user: str | None = None
    service: str | None = None
    scopes: tuple[Scope, ...] = tuple(sorted(DEFAULT_SCOPES))
    created_at: str
    expires_at: str | None = None
    retention_days: int | None = None


Keys = dict[str, Credential]

_decode_line = msgspec.json.Decoder(KeyLine, float_hook=float).decode


def new_key(
    *,
    user: str | None,
    service: str | None,
    scopes: Iterable[Scope],
    lifetime_s: float | None = None,
    retention_days: int | None = None,
) -> tuple[str, str]:
    """Return a new key of 256 random bits, and its line for the file. `retention_days`: see `Credential`.

    Raise `ValueError` if the line wouldn't be valid.
    """
    key_id = secrets.token_hex(8)
    key = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(32)}"
    now = now_ms()
    line = KeyLine(
        id=key_id,
        sha256=_hash(key).hex(),
        user=user,
        service=service,
        scopes=tuple(sorted(scopes)),
        created_at=rfc3339(now),
        expires_at=None if lifetime_s is None else rfc3339(now + int(lifetime_s * 1000)),
        retention_days=retention_days,
    )
    _read_line(msgspec.json.encode(line))
    return key, msgspec.json.encode(line).decode()


class ApiKeys:
    """The keys in the file at `path`.

    `clock` returns seconds and never goes back. Raises `AuthSetupError` if the file is wrong or can't be read.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._version: tuple[int, int, int] | None = None
        self._missing: dict[str, float] = {}
        self._file_keys: Keys = {}
        try:
            self._file_keys = self._read()
        except OSError as error:
            raise self._unreadable(error) from None
        self._keys = self._file_keys

    @property
    def count(self) -> int:
        """The number of keys, including expired ones."""
        return len(self._keys)

    def credential(self, key: str) -> Credential:
        """Return the credential in the key's line.

        Raise `ApiError` "unauthenticated" if the key is unknown or has expired.
        """
        parsed = _KEY.fullmatch(key)
        known = self._keys.get(parsed.group(1)) if parsed is not None else None
        matches = hmac.compare_digest(_hash(key), _NO_HASH if known is None else known.digest)
        if known is None or not matches:
            raise ApiError("unauthenticated", "Invalid API key. Check it, or create a new one.")
        if known.expires_ms is not None and now_ms() >= known.expires_ms:
            raise ApiError("unauthenticated", "The API key has expired. Create a new one.")
        return known

    def current(self, credential: Credential) -> Credential | None:
        """Return the credential in the key's line as it was last read.

        Return None if the key was removed, or if its line has another hash or another user.
        """
        known = self._keys.get((credential.name or "").removeprefix("key:"))
        same = known is not None and (known.user, known.digest) == (credential.user, credential.digest)
        return known if same else None

    def reload(self) -> bool:
        """Read the file again if it has changed, and return whether the keys have changed. Blocks.

        A missing file is treated as an empty one. Raise `AuthSetupError` if the file is wrong or can't be read; then
        nothing changes.
        """
        version = self._version
        try:
            self._file_keys = self._read()
        except FileNotFoundError:
            self._file_keys, self._version = {}, None
        except OSError as error:
            raise self._unreadable(error) from None
        if not self._file_keys and self._version != version:
            self._missing = {}  # the file has changed since it was last read, and may have been complete in between
        now = self._clock()
        self._missing = {
            key_id: self._missing.get(key_id, now) for key_id in self._keys.keys() - self._file_keys.keys()
        }
        pending = {
            key_id: self._keys[key_id] for key_id, since in self._missing.items() if now - since < REMOVAL_DELAY_S
        }
        before, self._keys = self._keys, {**self._file_keys, **pending}
        return self._keys != before

    def _read(self) -> Keys:
        """Return the keys in the file. The file is read only if it has changed.

        Raise `AuthSetupError` for a wrong file, but only once for each version of it. Raise `OSError` if the file can't be
        read.
        """
        stat = self._path.stat()
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if version == self._version:
            return self._file_keys
        text = self._path.read_bytes()
        self._version = version
        keys: Keys = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith(b"#"):
                try:
                    key_id, credential = _read_line(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    raise AuthSetupError(
                        f"Line {number} of {self._path} is invalid: {error}. Correct it, or leave it out."
                    ) from None
                keys[key_id] = credential
        return keys

    def _unreadable(self, error: OSError) -> AuthSetupError:
        return AuthSetupError(
            f"TURNWIRE_API_KEYS names the file {self._path}, which can't be read ({error.strerror}). "
            "Create it with lines from `turnwire keys new`, or correct its path."
        )


def _read_line(text: bytes) -> tuple[str, Credential]:
    """Return the id and the credential of a line. Raise `ValueError` or a msgspec error if the line is wrong."""
    line = _decode_line(text)
    if (line.user is None) == (line.service is None):
        raise ValueError("a key must have either `user` or `service`")
    digest = bytes.fromhex(line.sha256)
    if len(digest) != len(_NO_HASH) or digest == _NO_HASH:
        raise ValueError("`sha256` must have 64 hexadecimal digits")
    if "as" in line.scopes and line.service is None:
        raise ValueError("the scope `as` requires `service`")
    return line.id, Credential(
        user=check_user(line.user) if line.user is not None else SERVICE_PREFIX + check_user(line.service or ""),
        scopes=frozenset(line.scopes),
        name=f"key:{line.id}",
        digest=digest,
        issued_ms=from_rfc3339(line.created_at),
        expires_ms=None if line.expires_at is None else from_rfc3339(line.expires_at),
        retention_days=check_retention(line.retention_days),
    )


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
