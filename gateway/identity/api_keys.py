"""API keys: a file with one line for each, which holds a hash and never the key. It is read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.errors import ApiError
from gateway.identity.principal import DEFAULT_SCOPES, SERVICE_PREFIX, Principal, Scope, check_user
from gateway.identity.tokens import AuthSetupError
from gateway.ids import from_rfc3339, now_ms, rfc3339

KEY_PREFIX = "tw_"
_KEY = re.compile(r"tw_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_NO_HASH = bytes(32)


class KeyLine(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of the file. Either `user` or `service`; times are RFC 3339."""

    id: str
    sha256: str
    user: str | None = None
    service: str | None = None
    scopes: tuple[Scope, ...] = tuple(sorted(DEFAULT_SCOPES))
    created_at: str
    expires_at: str | None = None


class _Known(Struct, frozen=True):
    hash: bytes
    principal: Principal


_decode_line = msgspec.json.Decoder(KeyLine).decode


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
    """The keys in a file. Raises `AuthSetupError` where it can't be read."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, _Known] = {}
        self.reload()

    def principal(self, key: str) -> Principal:
        """Whom the key names. Raises `ApiError` "unauthenticated" where it doesn't count."""
        found = _KEY.fullmatch(key)
        known = self._keys.get(found.group(1)) if found is not None else None
        matches = hmac.compare_digest(_hash(key), _NO_HASH if known is None else known.hash)
        if known is None or not matches:
            raise ApiError("unauthenticated", "This key isn't accepted here. Check it, or make a new one.")
        expires_ms = known.principal.expires_ms
        if expires_ms is not None and now_ms() >= expires_ms:
            raise ApiError("unauthenticated", "The key has expired. Make a new one.")
        return known.principal

    def allows(self, principal: Principal) -> bool:
        """Whether every key behind the principal is still in the file, with at least its scopes."""
        for name in principal.credentials:
            kind, _, key_id = name.partition(":")
            if kind == "key":
                known = self._keys.get(key_id)
                if known is None or not principal.scopes <= known.principal.scopes:
                    return False
        return True

    def reload(self) -> bool:
        """Read the file if it has changed; whether it had. Blocks. Raises `AuthSetupError`, and then keeps what it knew."""
        try:
            stat = self._path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            text = self._path.read_bytes()
        except OSError as error:
            raise AuthSetupError(
                f"TURNWIRE_API_KEYS names {self._path}, which can't be read ({error.strerror}). "
                "`turnwire keys new` makes its lines."
            ) from None
        keys: dict[str, _Known] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith(b"#"):
                try:
                    key_id, known = _read_line(line)
                except (msgspec.MsgspecError, ValueError) as error:
                    raise AuthSetupError(f"Line {number} of {self._path} is wrong: {error}.") from None
                keys[key_id] = known
        self._keys, self._seen = keys, seen
        return True


def _read_line(text: bytes) -> tuple[str, _Known]:
    """Raises `ValueError`, msgspec's errors."""
    line = _decode_line(text)
    if (line.user is None) == (line.service is None):
        raise ValueError("a key is either of a user or of a service")
    digest = bytes.fromhex(line.sha256)
    if len(digest) != len(_NO_HASH) or digest == _NO_HASH:
        raise ValueError("sha256 has 64 hexadecimal digits")
    if "as" in line.scopes and line.service is None:
        raise ValueError("the scope as is for services")
    principal = Principal(
        user=check_user(line.user) if line.user is not None else SERVICE_PREFIX + check_user(line.service or ""),
        scopes=frozenset(line.scopes),
        credentials=(f"key:{line.id}",),
        issued_ms=from_rfc3339(line.created_at),
        expires_ms=None if line.expires_at is None else from_rfc3339(line.expires_at),
    )
    return line.id, _Known(digest, principal)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
