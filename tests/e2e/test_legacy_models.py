"""Outdated models: listed as such, priced, sent to their provider, and refused by a provider that has retired them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.client import client
from tests.gateway_process import gateway_process
from tests.upstream import Script, Upstream, chat, error_response, messages

pytestmark = pytest.mark.e2e

RETIRED: dict[str, Script] = {
    "kimi-k2-turbo-preview": error_response(
        404,
        {
            "error": {
                "message": "Not found the model kimi-k2-turbo-preview or Permission denied",
                "type": "resource_not_found_error",
            }
        },
    ),
    "kimi-k2-thinking": error_response(
        404,
        {
            "error": {
                "message": "Not found the model kimi-k2-thinking or Permission denied",
                "type": "resource_not_found_error",
            }
        },
    ),
    "glm-4": error_response(400, {"error": {"code": "1211", "message": "模型不存在"}}),
    "glm-3-turbo": error_response(400, {"error": {"code": "1211", "message": "模型不存在"}}),
    "gpt-4": error_response(
        404,
        {
            "error": {
                "message": "The model `gpt-4` has been deprecated, learn more here: https://x.example",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
        },
    ),
    "gpt-3.5-turbo": error_response(
        404, {"error": {"message": "The model `gpt-3.5-turbo` does not exist or you do not have access to it."}}
    ),
    "claude-3-opus-20240229": error_response(
        404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-3-opus-20240229"}}
    ),
    "claude-3-sonnet-20240229": error_response(
        404, {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-3-sonnet-20240229"}}
    ),
}


def environment(upstream: Upstream) -> dict[str, str]:
    """Return the variables with which all providers of these models are `upstream`."""
    names = ("OPENAI", "KIMI", "GLM")
    return {
        **{f"{name}_API_KEY": "sk-x" for name in names},
        **{f"{name}_BASE_URL": upstream.openai_url for name in names},
        **{"ANTHROPIC_API_KEY": "sk-x", "ANTHROPIC_BASE_URL": upstream.anthropic_url},
    }


async def test_legacy_models_are_listed_priced_and_answered(tmp_path: Path) -> None:
    """Outdated models come after every other usable model, and have a price. The request to the provider names the model
    and has no reasoning settings, and the turn has a cost."""
    async with (
        Upstream() as upstream,
        gateway_process(tmp_path, environment(upstream)) as gateway,
        client(gateway.ws_url) as c,
    ):
        listed: list[dict[str, Any]] = (await c.request("models.list"))["models"]
        usable = [model for model in listed if model["available"]]
        assert {model["id"] for model in listed if model["legacy"]} == set(RETIRED)
        assert [model["legacy"] for model in usable] == sorted(model["legacy"] for model in usable)
        for model in usable:
            if not model["legacy"]:
                continue
            assert Decimal(model["price"]["input"]) > 0
            assert model["price"]["currency"] == "USD"
            is_claude = model["type"] == "anthropic"
            upstream.play(
                messages("Yes.") if is_claude else chat("Yes.", usage={"prompt_tokens": 9, "completion_tokens": 9})
            )
            await c.request("turn.start", turn=model["id"], input="Hi", model=model["id"], params={"temperature": 0.5})
            ending = await c.ending(model["id"])
            assert ending["type"] == "turn.completed"
            assert Decimal(ending["cost"]["amount"]) > 0
            assert upstream.requests[-1].body["model"] == model["id"]
            assert "reasoning_effort" not in upstream.requests[-1].body
            assert "thinking" not in upstream.requests[-1].body


async def test_a_retired_model_is_refused_by_its_provider(tmp_path: Path) -> None:
    """The provider is asked, and its refusal is the turn's error, without a retry and without a cost."""
    async with (
        Upstream() as upstream,
        gateway_process(tmp_path, environment(upstream)) as gateway,
        client(gateway.ws_url) as c,
    ):
        for number, (model, refusal) in enumerate(RETIRED.items(), 1):
            upstream.play(refusal)
            await c.request("turn.start", turn=model, input="Hi", model=model)
            ending = await c.ending(model)
            assert (ending["type"], ending["error"]["code"]) == ("turn.failed", "model_not_found"), model
            assert "has retired it" in ending["error"]["message"]
            assert ending["error"]["retryable"] is False
            assert Decimal(ending["cost"]["amount"]) == 0
            assert len(upstream.requests) == number
