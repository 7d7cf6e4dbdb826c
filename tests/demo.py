"""What the demo model will say."""

from __future__ import annotations

from typing import Any

from providers.base import ChatMessage, ChatRequest, Params, TextPart
from providers.demo.model import demo_text


def expected(prompt: str, demo: dict[str, Any]) -> str:
    """The text that the demo model says to this prompt."""
    return demo_text(
        ChatRequest(model="demo", messages=(ChatMessage("user", (TextPart(prompt),)),), params=Params(demo=demo))
    )
