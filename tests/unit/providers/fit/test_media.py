"""Images and files of a history, for models and providers that don't take all of them."""

from __future__ import annotations

import pytest

from providers.base import ChatMessage, FilePart, ImagePart, ProviderError, TextPart
from providers.fit.media import IMAGE_NOTE, LARGE_NOTE, OWN_IMAGE_NOTE
from tests.dialect_rules import check_messages
from tests.unit.providers.fit.test_context import ASK, DIALECTS, body_of, requested


def test_images_of_the_history_are_left_out_for_a_model_that_can_not_see() -> None:
    """A note is in their place. An image in the new input is still refused."""
    picture = ImagePart("image/png", data="aGk=")
    blind = DIALECTS["chat without vision"][0]
    shown = ChatMessage("user", (TextPart("See:"), picture))
    body = body_of(blind, requested([shown, ChatMessage("assistant", (TextPart("Nice."),)), ASK]))
    assert body["messages"][0]["content"] == f"See:\n\n{IMAGE_NOTE}"
    with pytest.raises(ProviderError, match="can't see images"):
        body_of(blind, requested([ASK, shown]))


def test_files_of_the_history_are_left_out_for_a_model_that_can_not_read_them() -> None:
    """A note with the file's name is in its place. A file in the new input is still refused."""
    wav = ChatMessage("user", (FilePart("audio/wav", data="aGk=", name="a.wav"),))
    body = body_of(DIALECTS["anthropic"][0], requested([wav, ASK]))
    assert "a.wav was left out" in body["messages"][0]["content"][0]["text"]
    with pytest.raises(ProviderError, match="can't read files"):
        body_of(DIALECTS["anthropic"][0], requested([wav]))


def test_large_images_of_the_history_are_left_out_where_the_provider_refuses_them() -> None:
    """Otherwise each later turn is refused. OpenAI takes them."""
    large = ImagePart("image/png", data="A" * (5 * 2**20 + 4))
    history = [ChatMessage("user", (large, TextPart("See"))), ChatMessage("assistant", (large, TextPart("Yes."))), ASK]
    body = body_of(DIALECTS["anthropic"][0], requested(history))
    check_messages(body)
    assert body["messages"][0]["content"][0]["text"] == LARGE_NOTE
    assert OWN_IMAGE_NOTE in body["messages"][1]["content"][0]["text"]
    assert body_of(DIALECTS["openai"][0], requested(history))["messages"][0]["content"][0]["type"] == "image_url"


@pytest.mark.parametrize(
    ("dialect", "count", "chars", "kept"),
    [
        ("anthropic", 130, 4, 100),
        ("anthropic", 10, 4 * 2**20, 5),
        ("bedrock", 10, 4 * 2**20, 3),
        ("openai", 130, 4, 130),
    ],
)
def test_the_newest_images_are_sent_where_the_provider_limits_them(
    dialect: str, count: int, chars: int, kept: int
) -> None:
    """Anthropic takes 100 images and 32 MB in a request, and its cloud hosts, such as Bedrock, take fewer bytes."""
    shown = [ChatMessage("user", (ImagePart("image/png", data="A" * chars), TextPart(str(n)))) for n in range(count)]
    body = body_of(DIALECTS[dialect][0], requested([*shown, ASK]))
    pieces = [piece["type"] for message in body["messages"] for piece in message["content"]]
    assert sum(kind in ("image", "image_url") for kind in pieces) == kept
    assert pieces[0] == ("text" if kept < count else "image_url")


def test_images_at_addresses_are_left_out_where_the_provider_loads_none() -> None:
    """Bedrock and Vertex take only data."""
    linked = ChatMessage("user", (ImagePart("image/png", url="https://x.example/a.png"), TextPart("See")))
    for dialect, kind in (("anthropic", "image"), ("foundry", "image"), ("bedrock", "text"), ("vertex", "text")):
        body = body_of(DIALECTS[dialect][0], requested([linked, ASK]))
        assert body["messages"][0]["content"][0]["type"] == kind, dialect


def test_an_image_that_the_model_made_moves_to_the_next_question() -> None:
    """No dialect takes images in answers, but the next question may be about one."""
    drawn = ChatMessage("assistant", (ImagePart("image/png", data="aGk="),))
    body = body_of(DIALECTS["openai"][0], requested([ASK, drawn, ASK]))
    assert body["messages"][1]["content"] == OWN_IMAGE_NOTE
    assert [piece["type"] for piece in body["messages"][2]["content"]] == ["image_url", "text"]
