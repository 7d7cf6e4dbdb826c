"""Vertex AI, with the real SDK and Google's real auth library, over real HTTP. The service account is fake."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.upstream import Upstream, error_response, messages
from tests.upstream_providers import open_providers

MODEL = "vertex/claude-opus-5-5@20261001"
PROJECT = {"CLOUD_ML_REGION": "europe-west1", "ANTHROPIC_VERTEX_PROJECT_ID": "my-project"}
PATH = "/v1/projects/my-project/locations/europe-west1/publishers/anthropic/models/claude-opus-5-5@20261001:streamRawPredict"


def service_account(folder: Path, upstream: Upstream) -> Path:
    """Write the key file of a service account that gets its tokens from the upstream, and return the file's path."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "account.json"
    account = {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "me@my-project.iam.gserviceaccount.com",
        "token_uri": upstream.url + "/token",
    }
    path.write_text(json.dumps(account), encoding="utf-8")
    return path


async def test_answers_with_a_token() -> None:
    """A configured access token is used, and the model is in the path."""
    environment = PROJECT | {"ANTHROPIC_VERTEX_ACCESS_TOKEN": "vertex-token-0123456789"}
    async with open_providers(environment=environment) as (upstream, providers):
        upstream.play(messages("Hel", "lo"))
        answer = await providers.answer_model(MODEL)
        assert (answer.text(), answer.finish, answer.error) == ("Hello", "stop", None)
        (received,) = upstream.requests
        assert received.path == PATH
        assert received.headers["authorization"] == "Bearer vertex-token-0123456789"
        assert received.body["anthropic_version"]
        assert "model" not in received.body


async def test_answers_with_a_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's auth library finds the key file and gets a token for the account, and the token is sent."""
    async with open_providers(environment=PROJECT) as (upstream, providers):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, upstream)))
        upstream.play(
            error_response(200, {"access_token": "issued-0123456789", "expires_in": 3600, "token_type": "Bearer"}),
            messages("Hel", "lo"),
        )
        answer = await providers.answer_model(MODEL)
        assert (answer.text(), answer.finish, answer.error) == ("Hello", "stop", None)
        token, received = upstream.requests
        assert "jwt-bearer" in token.body["text"]
        assert (received.path, received.headers["authorization"]) == (PATH, "Bearer issued-0123456789")


async def test_rejected_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no token is issued, the error is an auth error. It names the setting to check, but not the account."""
    async with open_providers(environment=PROJECT) as (upstream, providers):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, upstream)))
        upstream.play(error_response(400, {"error": "invalid_grant", "error_description": "account not found"}))
        answer = await providers.answer_model(MODEL)
        assert answer.code == "upstream_auth"
        assert answer.error is not None
        assert "GOOGLE_APPLICATION_CREDENTIALS" in answer.error.message
        assert "my-project.iam" not in answer.error.message
