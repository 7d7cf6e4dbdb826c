"""JSON Web Tokens, checked with the key and the algorithms that the operator chose.

A key is used only with the algorithms of its own kind, so a public key is never accepted as a shared secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jwt
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.exceptions import ExpiredSignatureError, ImmatureSignatureError, PyJWTError
from msgspec import structs

from gateway.identity.jwks import Jwks
from gateway.identity.principal import (
    DEFAULT_SCOPES,
    Credential,
    Scope,
    check_retention,
    check_user,
    known_scopes,
)
from gateway.protocol.errors import ApiError
from gateway.settings import TokenSettings

log = structlog.stdlib.get_logger("turnwire.auth")

INVALID_TOKEN = "Invalid token. Get a new one."
TOKEN_CHARS_MAX = 8192
EXPIRES_MAX_MS = 253_402_300_799_000
"""The end of the year 9999. RFC 3339 can't express a later time."""

_SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")
_RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVE_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PUBLIC_ALGORITHMS = (*_RSA_ALGORITHMS, *_CURVE_ALGORITHMS.values(), "EdDSA")

Key = str | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class AuthSetupError(Exception):
    """The operator's settings for authentication can't be used. The message says what to do."""


class Tokens:
    """A checker of tokens by one set of rules. Raises `AuthSetupError` if the rules can't be used."""

    def __init__(self, rules: TokenSettings) -> None:
        self._rules = rules
        self.jwks = Jwks(rules.jwks_url) if rules.jwks_url is not None else None
        self._key: Key = ""
        supported = _PUBLIC_ALGORITHMS
        if rules.secret is not None:
            self._key, supported = rules.secret, _SECRET_ALGORITHMS
        elif rules.public_key is not None:
            self._key, supported = _public_key(rules)
        self._algorithms = rules.algorithms or supported
        unsupported = set(self._algorithms) - set(supported)
        if unsupported:
            raise AuthSetupError(
                f"{rules.prefix}ALGORITHMS doesn't fit the key: {', '.join(sorted(unsupported))}. "
                f"Choose from {', '.join(supported)}, or leave it out."
            )

    async def credential(self, token: str) -> Credential:
        """Return the credential in a token.

        Raise `ApiError` "unauthenticated" if the token is invalid, or "internal" if the keys can't be fetched.
        """
        if len(token) > TOKEN_CHARS_MAX:
            raise ApiError(
                "unauthenticated", f"The token is longer than {TOKEN_CHARS_MAX} characters. Send a shorter one."
            )
        try:
            claims = await self._claims(token)
            retention_days = _retention_of(claims)
            return structs.replace(_credential_of(claims, self._rules.scope_prefix), retention_days=retention_days)
        except ApiError:
            raise
        except ExpiredSignatureError:
            raise ApiError("unauthenticated", "The token has expired. Get a new one.") from None
        except ImmatureSignatureError:
            raise ApiError(
                "unauthenticated", "The token isn't valid yet. Check the clocks of its issuer and of the gateway."
            ) from None
        except (PyJWTError, ValueError, TypeError, ArithmeticError) as error:
            log.info("token rejected", reason=type(error).__name__)
            raise ApiError("unauthenticated", INVALID_TOKEN) from None

    async def _claims(self, token: str) -> dict[str, Any]:
        rules = self._rules
        key: Any = self._key
        if self.jwks is not None:
            key = await self.jwks.key(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise jwt.InvalidTokenError("no such key")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=self._algorithms,
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=rules.leeway_s,
            options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
        )
        return claims


def _public_key(rules: TokenSettings) -> tuple[Key, tuple[str, ...]]:
    """Return the public key, from a PEM text or file, and the algorithms that it can be used with.

    Raise `AuthSetupError` if there is no usable key.
    """
    pem_or_path = (rules.public_key or "").replace("\\n", "\n")
    name = f"{rules.prefix}PUBLIC_KEY"
    try:
        pem = pem_or_path.encode() if pem_or_path.startswith("-----BEGIN") else Path(pem_or_path).read_bytes()
        key = load_pem_public_key(pem)
    except OSError as error:
        raise AuthSetupError(
            f"{name} names a file that can't be read ({error.strerror}). Set it to a PEM, or to the path of one."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise AuthSetupError(
            f"{name} has no public key in PEM format. Set one that begins with -----BEGIN PUBLIC KEY-----."
        ) from None
    if isinstance(key, RSAPublicKey):
        return key, _RSA_ALGORITHMS
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVE_ALGORITHMS:
        return key, (_CURVE_ALGORITHMS[key.curve.name],)
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return key, ("EdDSA",)
    raise AuthSetupError(f"{name} has an unsupported kind of key. Use RSA, P-256, P-384, P-521 or Ed25519.")


def _credential_of(claims: dict[str, Any], scope_prefix: str) -> Credential:
    jti = claims.get("jti")
    return Credential(
        user=check_user(claims["sub"]),
        scopes=_scopes_of(claims, scope_prefix),
        name=f"jti:{jti}" if jti else None,
        issued_ms=int(float(claims.get("iat", 0)) * 1000),
        expires_ms=min(int(float(claims["exp"]) * 1000), EXPIRES_MAX_MS),
    )


def _retention_of(claims: dict[str, Any]) -> int | None:
    """Return the claim `retention_days`, None if there is none. Raise `ApiError` "unauthenticated" if it is wrong."""
    try:
        return check_retention(claims.get("retention_days"))
    except ValueError as error:
        log.info("token rejected", reason="retention_days")
        raise ApiError("unauthenticated", f"Invalid token: its claim {error}. Get a new one from its issuer.") from None


def _scopes_of(claims: dict[str, Any], prefix: str) -> frozenset[Scope]:
    """Return the gateway's scopes in the token's claims. Scopes for other services are ignored.

    A token without a scope claim has the default scopes.
    """
    for name in ("scope", "scp", "scopes"):
        claim = claims.get(name)
        if claim is not None:
            return known_scopes(claim.split() if isinstance(claim, str) else claim, prefix)
    return DEFAULT_SCOPES
