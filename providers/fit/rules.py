"""The rules that the dialects have for a context, as data. A provider's or a model's quirks override some."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, structs

from providers.quirks import CallIds
from providers.route import DialectName, Route

_COMMON_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


class Rules(Struct, frozen=True):
    """The rules of one dialect.

    `call_ids` is the form of the ids of tool calls. `strict_roles`: the system prompt is one text at the start, then
    messages of the user and of the assistant alternate, and the last one isn't the assistant's. `results_in_user`: tool
    results are part of the user's message after them. `image_types` are the media types of images, None if they aren't
    known. A request has at most `images` images, one image at most `image_chars` base64 characters, and all images and
    files together at most `media_chars`; None means no known limit. `image_urls`: an image may be an https address. A
    signature of reasoning that has one of the characters in `foreign_signature` was made for another dialect.
    """

    call_ids: CallIds = "short"
    strict_roles: bool = False
    results_in_user: bool = False
    image_types: frozenset[str] | None = None
    image_chars: int | None = None
    media_chars: int | None = None
    images: int | None = None
    image_urls: bool = True
    foreign_signature: str = ""


# OpenAI: ids of at most 40 characters (the newest models take 64), png, jpeg, gif and webp.
# Signatures are an item's id, a colon and base64.
_RESPONSES: Final = Rules(image_types=_COMMON_IMAGES, foreign_signature="{")
# Anthropic: ids of the form ^[a-zA-Z0-9_-]{1,64}$, which are unique; all results of a message's calls are at the start
# of the next message; the newest models refuse a context that ends with an answer.
# An image has at most 5 MiB of base64, and a request 100 images and 32 MB. Signatures are base64.
_MESSAGES: Final = Rules(
    strict_roles=True,
    results_in_user=True,
    image_types=_COMMON_IMAGES,
    image_chars=5 * 2**20,
    media_chars=24_000_000,
    images=100,
    foreign_signature="{:",
)
# Bedrock and Vertex AI take smaller requests (20 and 30 MB), and load no images from addresses.
_MESSAGES_IN_CLOUD: Final = structs.replace(_MESSAGES, media_chars=15_000_000, image_urls=False)

DIALECT_RULES: Final[dict[DialectName, Rules]] = {
    "demo": Rules(),
    # Nine letters and digits is the only form that every provider of this dialect takes.
    "openai_chat": Rules(call_ids="nine"),
    "openai_responses": _RESPONSES,
    "anthropic": _MESSAGES,
    "anthropic_bedrock": _MESSAGES_IN_CLOUD,
    "anthropic_vertex": _MESSAGES_IN_CLOUD,
    "anthropic_foundry": _MESSAGES,
}
"""Map from each dialect to its rules, which don't include the quirks of its providers."""


def rules_of(route: Route) -> Rules:
    """Return the rules for the model of `route`."""
    rules = DIALECT_RULES[route.dialect]
    quirks = route.quirks
    if route.dialect == "openai_chat":
        rules = structs.replace(rules, strict_roles=quirks.strict_roles)
    return structs.replace(rules, call_ids=quirks.call_ids) if quirks.call_ids else rules
