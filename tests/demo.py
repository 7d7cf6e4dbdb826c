"""The expected answers of the demo model."""

from __future__ import annotations

from typing import Any

from providers.base import ChatMessage, ChatRequest, Params, TextPart
from providers.demo.model import demo_text


def expected(prompt: str, demo: dict[str, Any]) -> str:
    """Return the demo model's answer to a prompt."""
    return demo_text(
        ChatRequest(model="demo", messages=(ChatMessage("user", (TextPart(prompt),)),), params=Params(demo=demo))
    )
