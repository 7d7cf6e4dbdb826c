"""API keys: a file with one line for each, which holds a hash and never the key. It is read again when it changes.

A file that is being replaced may be away, empty or half there for a moment: a wrong line changes nothing, and a key
that is missing is gone only when it has been missing for a while.
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

from gateway.identity.principal import DEFAULT_SCOPES, SERVICE_PREFIX, Credential, Scope, check_user
from gateway.identity.tokens import AuthSetupError
from gateway.protocol.errors import ApiError
from gateway.protocol.ids import from_rfc3339, now_ms, rfc3339

KEY_PREFIX = "tw_"
_KEY = re.compile(r"tw_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_NO_HASH = bytes(32)

SETTLED_S = 1.5
"""How long a key has to be missing from the file until it is gone."""


class KeyLine(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the file. Either `user` or `service`; times are RFC 3339."""

    id: str
    sha256: str
    user: str | None = None
    service: str | None = None
    scopes: tuple[Scope, ...] = tuple(sorted(DEFAULT_SCOPES))
    created_at: str
    expires_at: str | None = None


Keys = dict[str, Credential]

_decode_line = msgspec.json.Decoder(KeyLine, float_hook=float).decode


def new_key(
    *, user: str | None, service: str | None, scopes: Iterable[Scope], lifetime_s: float | None = None
) -> tuple[str, str]:
    """A fresh key of 256 random bits, and its line for the file."""
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
    )
    _read_line(msgspec.json.encode(line))
    return key, msgspec.json.encode(line).decode()


class ApiKeys:
    """The keys in a file. Raises `AuthSetupError` where it can't be read. `clock`: in seconds, and never back."""

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path(path)
        self._clock = clock
        self._version: tuple[int, int, int] | None = None
        self._missing: dict[str, float] = {}
        self._found: Keys = {}
        try:
            self._found = self._read()
        except OSError as error:
            raise self._unreadable(error) from None
        self._keys = self._found

    @property
    def count(self) -> int:
        """How many count."""
        return len(self._keys)

    def credential(self, key: str) -> Credential:
        """What the key's line says. Raises `ApiError` "unauthenticated" where it doesn't count."""
        shaped = _KEY.fullmatch(key)
        known = self._keys.get(shaped.group(1)) if shaped is not None else None
        matches = hmac.compare_digest(_hash(key), _NO_HASH if known is None else known.digest)
        if known is None or not matches:
            raise ApiError("unauthenticated", "This key isn't accepted here. Check it, or make a new one.")
        if known.expires_ms is not None and now_ms() >= known.expires_ms:
            raise ApiError("unauthenticated", "The key has expired. Make a new one.")
        return known

    def as_it_is(self, credential: Credential) -> Credential | None:
        """What the key's line says now; None where it is gone, or has become another key's or another user's."""
        known = self._keys.get((credential.name or "").removeprefix("key:"))
        same = known is not None and (known.user, known.digest) == (credential.user, credential.digest)
        return known if same else None

    def reload(self) -> bool:
        """Look at the file again; whether other keys count now. Blocks. Raises `AuthSetupError`, and then nothing changes."""
        try:
            self._found = self._read()
        except FileNotFoundError:
            self._found, self._version = {}, None
        except OSError as error:
            raise self._unreadable(error) from None
        now = self._clock()
        self._missing = {key_id: self._missing.get(key_id, now) for key_id in self._keys.keys() - self._found.keys()}
        waiting = {key_id: self._keys[key_id] for key_id, since in self._missing.items() if now - since < SETTLED_S}
        before, self._keys = self._keys, {**self._found, **waiting}
        return self._keys != before

    def _read(self) -> Keys:
        """What the file holds; it is read where it has changed. Raises `AuthSetupError` once for a wrong one, and `OSError`."""
        stat = self._path.stat()
        version = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if version == self._version:
            return self._found
        text = self._path.read_bytes()
        self._version = version
        keys: Keys = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith(b"#"):
                try:
                    key_id, credential = _read_line(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    raise AuthSetupError(f"Line {number} of {self._path} is wrong: {error}.") from None
                keys[key_id] = credential
        return keys

    def _unreadable(self, error: OSError) -> AuthSetupError:
        return AuthSetupError(
            f"TURNWIRE_API_KEYS names {self._path}, which can't be read ({error.strerror}). "
            "`turnwire keys new` makes its lines."
        )


def _read_line(text: bytes) -> tuple[str, Credential]:
    """Raises `ValueError`, msgspec's errors."""
    line = _decode_line(text)
    if (line.user is None) == (line.service is None):
        raise ValueError("a key is either of a user or of a service")
    digest = bytes.fromhex(line.sha256)
    if len(digest) != len(_NO_HASH) or digest == _NO_HASH:
        raise ValueError("sha256 has 64 hexadecimal digits")
    if "as" in line.scopes and line.service is None:
        raise ValueError("the scope as is for services")
    return line.id, Credential(
        user=check_user(line.user) if line.user is not None else SERVICE_PREFIX + check_user(line.service or ""),
        scopes=frozenset(line.scopes),
        name=f"key:{line.id}",
        digest=digest,
        issued_ms=from_rfc3339(line.created_at),
        expires_ms=None if line.expires_at is None else from_rfc3339(line.expires_at),
    )


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
