"""Tests of JSON Web Tokens: keys and algorithms, invalid tokens, the claims about the user, and the operator's settings."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.identity.principal import DEFAULT_SCOPES
from gateway.identity.tokens import AuthSetupError, Tokens
from gateway.protocol.errors import ApiError
from gateway.settings import TokenSettings
from tests.credentials import SECRET, claims, jwks_server, private_key, public_jwk, public_pem, token

ALGORITHMS = ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]


def rules(**fields: Any) -> TokenSettings:
    """Return settings with the tests' secret, unless another key is given."""
    given = {
        "prefix": "TURNWIRE_JWT_",
        "secret": None,
        "public_key": None,
        "jwks_url": None,
        "algorithms": (),
        "issuer": None,
        "audience": None,
        "leeway_s": 0,
        "scope_prefix": "",
        **fields,
    }
    if given["public_key"] is None and given["jwks_url"] is None:
        given["secret"] = SECRET
    return TokenSettings(**given)


async def refused(given: str, **fields: Any) -> str:
    """Return the message with which a token is refused."""
    with pytest.raises(ApiError) as error:
        await Tokens(rules(**fields)).credential(given)
    assert error.value.code == "unauthenticated"
    assert len(given) < 8 or given not in error.value.body.message
    return error.value.body.message


async def test_a_token_names_its_user() -> None:
    """The credential has the subject, the times, the `jti` name and the default scopes."""
    token_claims = claims("auth0|5f", jti="j1")
    named = await Tokens(rules()).credential(jwt.encode(token_claims, SECRET, "HS256"))
    assert (named.user, named.scopes) == ("auth0|5f", DEFAULT_SCOPES)
    assert named.name == "jti:j1"
    assert (named.issued_ms, named.expires_ms) == (token_claims["iat"] * 1000, token_claims["exp"] * 1000)


@pytest.mark.parametrize(
    ("fields", "scopes"),
    [
        ({"scope": "openid chat read"}, {"chat", "read"}),
        ({"scp": ["cancel", "admin"]}, {"cancel", "admin"}),
        ({"scopes": ["as"]}, {"as"}),
        ({"scp": "read"}, {"read"}),
        ({"scope": ""}, set()),
        ({"scope": "", "scp": ["admin"]}, set()),
    ],
)
async def test_scopes_come_from_the_first_scope_claim(fields: dict[str, Any], scopes: set[str]) -> None:
    """A claim that is present is used even if it has none of our scopes."""
    assert (await Tokens(rules()).credential(token(**fields))).scopes == scopes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_public_key_verifies_its_own_algorithms(algorithm: str, tmp_path: Path) -> None:
    """The key can be given as PEM text, as PEM text on one line, or as a file."""
    key = private_key(algorithm)
    pem = public_pem(key)
    (tmp_path / "key.pem").write_text(pem)
    signed = token(key=key, algorithm=algorithm)
    for given in (pem, pem.replace("\n", "\\n"), str(tmp_path / "key.pem")):
        assert (await Tokens(rules(public_key=given)).credential(signed)).user == "ann"
    assert "Invalid token" in await refused(token(key=private_key(algorithm), algorithm=algorithm), public_key=pem)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_longer_hashes_work_too(algorithm: str) -> None:
    """The secret must be long enough for them."""
    long = SECRET + SECRET
    assert (await Tokens(rules()._replace(secret=long)).credential(token(key=long, algorithm=algorithm))).user == "ann"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "Invalid token"),
        ({"exp": "soon"}, "Invalid token"),
        ({"nbf": 4_000_000_000}, "isn't valid yet"),
        ({"iat": 4_000_000_000}, "isn't valid yet"),
        ({"user": ""}, "Invalid token"),
        ({"user": "service:backend"}, "Invalid token"),
        ({"user": "a\nb"}, "Invalid token"),
        ({"sub": None}, "Invalid token"),
        ({"sub": 7}, "Invalid token"),
        ({"scope": 7}, "Invalid token"),
        ({"scp": [["chat"]]}, "Invalid token"),
        ({"jti": 7}, "Invalid token"),
        ({"aud": "somebody else"}, "Invalid token"),
        ({"key": "x" * 40}, "Invalid token"),
    ],
)
async def test_an_invalid_token_is_refused(fields: dict[str, Any], words: str) -> None:
    """Invalid times, users, scopes or ids, another audience, and another signature are covered."""
    assert words in await refused(token(**fields))


async def test_the_leeway_accepts_a_recently_expired_token() -> None:
    """A token that expired two seconds ago is accepted with a leeway of ten seconds."""
    late = token(exp=int(time.time()) - 2)
    assert (await Tokens(rules(leeway_s=10)).credential(late)).user == "ann"
    await refused(late)


async def test_issuer_and_audience_are_checked() -> None:
    """Each claim is required and must match if the operator has set it."""
    expected_rules: dict[str, Any] = {"issuer": "https://id.example", "audience": "turnwire"}
    good: dict[str, Any] = {"iss": "https://id.example", "aud": ["other", "turnwire"]}
    assert (await Tokens(rules(**expected_rules)).credential(token(**good))).user == "ann"
    for wrong in ({"iss": "https://evil.example"}, {"aud": "other"}, {"iss": None}, {"aud": None}):
        await refused(token(**{**good, **wrong}), **expected_rules)


def handmade_token(header: dict[str, Any], key: bytes | None = None) -> str:
    """Return a token built by hand, signed with HMAC if a key is given."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    body = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims()).encode())}"
    signature = b"" if key is None else hmac.digest(key, body.encode(), hashlib.sha256)
    return f"{body}.{part(signature)}"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
async def test_alg_none_is_refused(name: str) -> None:
    """This covers `none` in upper and lower case and an empty `alg`, with a secret and with a public key."""
    given = handmade_token({"alg": name, "typ": "JWT"})
    await refused(given)
    await refused(given, public_key=public_pem(private_key("ES256")))


async def test_a_public_key_is_not_accepted_as_a_secret() -> None:
    """HS256 keyed with the public key is refused (key confusion)."""
    pem = public_pem(private_key("RS256"))
    for key in (pem, pem.strip()):
        await refused(handmade_token({"alg": "HS256", "typ": "JWT"}, key.encode()), public_key=pem)


async def test_a_token_cannot_contain_its_own_key() -> None:
    """The header's `jwk`, `jku` and `x5u` are ignored."""
    key = private_key("RS256")
    headers = {
        "jwk": public_jwk(key, "mine"),
        "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/",
        "kid": "mine",
    }
    given = jwt.encode(claims(), key, "RS256", headers=headers)
    await refused(given, public_key=public_pem(private_key("RS256")))
    async with jwks_server() as server:
        server.keys = [public_jwk(private_key("RS256"), "theirs")]
        await refused(given, jwks_url=server.url)


async def test_a_symmetric_key_in_a_jwks_is_ignored() -> None:
    """A JWKS is public."""
    async with jwks_server() as server:
        shared = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
        server.keys = [{"kty": "oct", "k": shared, "kid": "k", "alg": "HS256"}]
        await refused(token(kid="k"), jwks_url=server.url)


@pytest.mark.parametrize("given", ["", "x", "a.b", "a.b.c", "a.b.c.d", "....", "\ud800.a.b", "x" * 9000, "tw_x"])
@pytest.mark.parametrize("by_jwks", [False, True])
async def test_malformed_tokens_are_refused(given: str, by_jwks: bool) -> None:
    """The client could send any text as a token."""
    await refused(given, **({"jwks_url": "http://127.0.0.1:1/"} if by_jwks else {}))


async def test_a_very_distant_expiry_is_clamped() -> None:
    """An expiry that can't be represented becomes the last possible one."""
    named = await Tokens(rules()).credential(token(exp=10**17))
    assert named.expires_ms == 253_402_300_799_000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"algorithms": ("RS256",)}, "JWT_ALGORITHMS doesn't fit the key: RS256"),
        ({"algorithms": ("none",)}, "doesn't fit the key: none"),
        ({"public_key": "-----BEGIN nothing"}, "has no public key"),
        ({"public_key": "no-such-file.pem"}, "can't be read"),
        ({"jwks_url": "http://127.0.0.1:1/", "algorithms": ("HS256",)}, "doesn't fit the key: HS256"),
    ],
)
def test_the_operators_settings_are_checked_at_once(fields: dict[str, Any], words: str) -> None:
    """The error message names the problem."""
    with pytest.raises(AuthSetupError, match=words):
        Tokens(rules(**fields))


async def test_the_operator_can_restrict_the_algorithms() -> None:
    """A key is used only with the listed algorithms."""
    key = private_key("RS256")
    narrow: dict[str, Any] = {"public_key": public_pem(key), "algorithms": ("RS512",)}
    assert (await Tokens(rules(**narrow)).credential(token(key=key, algorithm="RS512"))).user == "ann"
    await refused(token(key=key, algorithm="RS256"), **narrow)
