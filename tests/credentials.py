"""Credentials for tests: keys, tokens, a file of API keys, and a JWKS server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from gateway.identity.api_keys import new_key
from gateway.identity.principal import DEFAULT_SCOPES, Scope
from tests.web_server import web_server

SECRET = "a secret of the tests that has 32 characters and more"
IDENTITY_SECRET = "another secret of the tests, for the identities of users"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def bearer(token: str) -> dict[str, str]:
    """Return the Authorization header of a token."""
    return {"Authorization": f"Bearer {token}"}


def claims(user: str = "ann", **more: Any) -> dict[str, Any]:
    """Return claims that are valid for an hour, longer than any test run; a claim that is None is removed."""
    now = time.time()
    made = {"sub": user, "iat": int(now), "exp": int(now) + 3600, **more}
    return {name: value for name, value in made.items() if value is not None}


def token(user: str = "ann", key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **more: Any) -> str:
    """Return a signed token."""
    return jwt.encode(claims(user, **more), key, algorithm, headers=None if kid is None else {"kid": kid})


def private_key(algorithm: str) -> PrivateKey:
    """Return a new private key for the algorithm."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])


def public_pem(key: PrivateKey) -> str:
    """Return the public key in PEM format."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_jwk(key: PrivateKey, kid: str) -> dict[str, Any]:
    """Return the public key as a JWK."""
    public: Any = key.public_key()
    kind: Any = OKPAlgorithm
    if isinstance(key, rsa.RSAPrivateKey):
        kind = RSAAlgorithm
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        kind = ECAlgorithm
    return {**json.loads(kind.to_jwk(public)), "kid": kid, "use": "sig"}


class KeyFile:
    """A file of API keys."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys.jsonl"
        self.path.write_text("# keys of the tests\n")

    def add(self, user: str | None = "ann", scopes: set[Scope] | None = None, **more: Any) -> str:
        """Add a new key to the file, and return it."""
        key, line = new_key(
            **{"user": user, "service": None, "scopes": DEFAULT_SCOPES if scopes is None else scopes, **more}
        )
        with self.path.open("a") as file:
            file.write(line + "\n")
        return key

    def add_service(self, name: str = "backend", scopes: set[Scope] | None = None) -> str:
        """Add a key of a service that may act as its users, and return it."""
        return self.add(None, scopes or {"chat", "read", "cancel", "as"}, service=name)

    def remove(self, key: str) -> None:
        """Remove the line of a key."""
        self.replace([line for line in self.lines() if key.split("_")[1] not in line])

    def edit(self, key: str, **fields: Any) -> None:
        """Change the line of a key; a field that is None is removed."""
        lines = self.lines()
        (number,) = (n for n, line in enumerate(lines) if key.split("_")[1] in line)
        changed = {**json.loads(lines[number]), **fields}
        lines[number] = json.dumps({name: value for name, value in changed.items() if value is not None})
        self.replace(lines)

    def lines(self) -> list[str]:
        """Return the lines of the file."""
        return self.path.read_text().splitlines()

    def replace(self, lines: list[str]) -> None:
        """Replace the file with a renamed new one, as docs/operations.md says."""
        beside = self.path.with_suffix(".new")
        beside.write_text("".join(f"{line}\n" for line in lines))
        beside.replace(self.path)


class JwksServer:
    """A JWKS server.

    It serves `keys` with the HTTP status `status`, and counts its `requests`. If `pause_s` isn't 0, it pauses for that
    many seconds after each byte.
    """

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.requests = 0
        self.status = 200
        self.pause_s = 0.0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Respond with the JWKS."""
        self.requests += 1
        if self.pause_s:
            slow = web.StreamResponse()
            await slow.prepare(request)
            for byte in json.dumps({"keys": self.keys}).encode():
                await slow.write(bytes([byte]))
                await asyncio.sleep(self.pause_s)
            return slow
        return web.json_response({"keys": self.keys}, status=self.status)


@asynccontextmanager
async def jwks_server() -> AsyncIterator[JwksServer]:
    """Run a `JwksServer` on a free port."""
    server = JwksServer()
    app = web.Application()
    app.router.add_get("/jwks.json", server.answer)
    async with web_server(app) as origin:
        server.url = f"{origin}/jwks.json"
        yield server
