"""JSON Web Tokens: every algorithm, every way to be wrong, and what a token says of its user."""

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
    """Rules with the tests' secret, unless another key is given."""
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
    """The message with which a token is refused."""
    with pytest.raises(ApiError) as error:
        await Tokens(rules(**fields)).credential(given)
    assert error.value.code == "unauthenticated"
    assert len(given) < 8 or given not in error.value.body.message
    return error.value.body.message


async def test_a_token_names_its_user() -> None:
    """Subject, times, identity and default scopes."""
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
async def test_scopes_come_from_the_claims_that_carry_them(fields: dict[str, Any], scopes: set[str]) -> None:
    """A claim that is there counts, also when it holds none of ours."""
    assert (await Tokens(rules()).credential(token(**fields))).scopes == scopes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_public_key_checks_its_own_algorithms(algorithm: str, tmp_path: Path) -> None:
    """As text, as text on one line, and as a file."""
    key = private_key(algorithm)
    pem = public_pem(key)
    (tmp_path / "key.pem").write_text(pem)
    signed = token(key=key, algorithm=algorithm)
    for given in (pem, pem.replace("\n", "\\n"), str(tmp_path / "key.pem")):
        assert (await Tokens(rules(public_key=given)).credential(signed)).user == "ann"
    assert "Invalid token" in await refused(token(key=private_key(algorithm), algorithm=algorithm), public_key=pem)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_longer_hashes_work_too(algorithm: str) -> None:
    """A secret that is long enough for them."""
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
async def test_a_token_that_does_not_count(fields: dict[str, Any], words: str) -> None:
    """Expired, not yet valid, without an end, without a user, for another, signed by another."""
    assert words in await refused(token(**fields))


async def test_leeway_is_for_clocks() -> None:
    """A token that ended two seconds ago passes with a leeway of ten."""
    late = token(exp=int(time.time()) - 2)
    assert (await Tokens(rules(leeway_s=10)).credential(late)).user == "ann"
    await refused(late)


async def test_issuer_and_audience_are_checked() -> None:
    """As soon as the operator names them, they have to be there and to be right."""
    expected_rules: dict[str, Any] = {"issuer": "https://id.example", "audience": "turnwire"}
    good: dict[str, Any] = {"iss": "https://id.example", "aud": ["other", "turnwire"]}
    assert (await Tokens(rules(**expected_rules)).credential(token(**good))).user == "ann"
    for wrong in ({"iss": "https://evil.example"}, {"aud": "other"}, {"iss": None}, {"aud": None}):
        await refused(token(**{**good, **wrong}), **expected_rules)


def without_signatures(header: dict[str, Any], key: bytes | None = None) -> str:
    """A token by hand, signed with HMAC if there is a key."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    body = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims()).encode())}"
    signature = b"" if key is None else hmac.digest(key, body.encode(), hashlib.sha256)
    return f"{body}.{part(signature)}"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
async def test_no_algorithm_is_no_signature(name: str) -> None:
    """`alg: none`, however it is written, with each kind of key."""
    given = without_signatures({"alg": name, "typ": "JWT"})
    await refused(given)
    await refused(given, public_key=public_pem(private_key("ES256")))


async def test_a_public_key_is_no_secret() -> None:
    """HS256 keyed with the public key, which anybody has, is refused (key confusion)."""
    pem = public_pem(private_key("RS256"))
    for key in (pem, pem.strip()):
        await refused(without_signatures({"alg": "HS256", "typ": "JWT"}, key.encode()), public_key=pem)


async def test_a_token_can_not_bring_its_own_key() -> None:
    """`jwk`, `jku` and `x5u` of a header are not looked at."""
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


async def test_a_symmetric_key_in_a_jwks_is_no_key() -> None:
    """A JWKS is public."""
    async with jwks_server() as server:
        shared = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
        server.keys = [{"kty": "oct", "k": shared, "kid": "k", "alg": "HS256"}]
        await refused(token(kid="k"), jwks_url=server.url)


@pytest.mark.parametrize("given", ["", "x", "a.b", "a.b.c", "a.b.c.d", "....", "\ud800.a.b", "x" * 9000, "tw_x"])
@pytest.mark.parametrize("by_jwks", [False, True])
async def test_what_is_no_token(given: str, by_jwks: bool) -> None:
    """Anything may be sent as a token."""
    await refused(given, **({"jwks_url": "http://127.0.0.1:1/"} if by_jwks else {}))


async def test_an_end_beyond_any_calendar_is_the_last_one() -> None:
    """Times that can't be written down are cut."""
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
def test_what_the_operator_sets_is_checked_at_once(fields: dict[str, Any], words: str) -> None:
    """With what to do about it."""
    with pytest.raises(AuthSetupError, match=words):
        Tokens(rules(**fields))


async def test_an_algorithm_can_be_left_out() -> None:
    """The operator may narrow what a key is used with."""
    key = private_key("RS256")
    narrow: dict[str, Any] = {"public_key": public_pem(key), "algorithms": ("RS512",)}
    assert (await Tokens(rules(**narrow)).credential(token(key=key, algorithm="RS512"))).user == "ann"
    await refused(token(key=key, algorithm="RS256"), **narrow)
