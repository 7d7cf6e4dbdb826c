"""Routes reject what a model doesn't support. Quirks are checked, and endpoints hide their keys."""

from typing import Any

import pydantic
import pytest
from msgspec import structs

from providers.base import ChatMessage, ChatRequest, FilePart, ImagePart, Part, ProviderError, TextPart, Tool, ToolName
from providers.endpoint import Endpoint
from providers.quirks import Quirks
from providers.timeouts import Timeouts
from tests.provider_requests import chat_request, route
from tests.upstream_providers import KEY


def request_with(part: Part) -> ChatRequest:
    return ChatRequest(model="m", messages=(ChatMessage("user", (TextPart("Hi"), part)),))


@pytest.mark.parametrize(
    ("request_", "features", "quirks", "word"),
    [
        (request_with(ImagePart("image/png", data="A")), ("chat", "tools"), {}, "images"),
        (chat_request(tools=(Tool("f"),)), ("chat", "vision"), {}, "tools"),
        (chat_request(tool_choice="required"), ("tools",), {"tools_forced": False}, "tool_choice"),
        (chat_request(tool_choice=ToolName("f")), ("tools",), {"tools_forced": False}, "tool_choice"),
        (request_with(FilePart("text/plain", data="A")), ("chat", "vision"), {}, "files"),
    ],
)
def test_unsupported_content_is_rejected(
    request_: ChatRequest, features: Any, quirks: dict[str, Any], word: str
) -> None:
    """Images, tools, a forced tool and files that the model doesn't support are rejected, naming the model."""
    with pytest.raises(ProviderError, match=word) as caught:
        route(features=features, **quirks).check(request_)
    assert caught.value.code == "unsupported"
    assert "the model m" in caught.value.message.lower()


@pytest.mark.parametrize(
    ("dialect", "response_format", "code"),
    [
        ("openai_chat", {}, "invalid_request"),
        ("openai_responses", {"type": 1}, "invalid_request"),
        ("anthropic", {"type": "json_object"}, "unsupported"),
        ("anthropic_bedrock", {"type": "json_object"}, "unsupported"),
        ("anthropic", {"type": "json_schema", "json_schema": {"name": "x"}}, "invalid_request"),
    ],
)
def test_unsupported_response_format_is_rejected(dialect: Any, response_format: dict[str, Any], code: str) -> None:
    """A response format that is invalid, or that this dialect doesn't have, is rejected before anything is sent."""
    with pytest.raises(ProviderError, match="response_format") as caught:
        route(dialect).check(chat_request(response_format=response_format))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("dialect", "response_format"),
    [
        ("openai_chat", {"type": "json_object"}),
        ("anthropic", {"type": "text"}),
        ("anthropic", {"type": "json_schema", "json_schema": {"schema": {}}}),
        ("anthropic", {"type": "json_schema", "schema": {"type": "object"}}),
    ],
)
def test_supported_response_format(dialect: Any, response_format: dict[str, Any]) -> None:
    """A response format that the dialect supports is accepted."""
    route(dialect).check(chat_request(response_format=response_format))


def test_supported_content_is_accepted() -> None:
    """Content and tools that the model supports are accepted."""
    permissive = route()
    permissive.check(request_with(ImagePart("image/png", data="A")))
    permissive.check(chat_request(tools=(Tool("f"),), tool_choice="required"))
    route(tools_forced=False).check(chat_request(tools=(Tool("f"),), tool_choice="auto"))
    route("demo").check(request_with(FilePart("text/plain", data="A")))


def test_thinking_models_have_a_longer_first_event_timeout() -> None:
    """The first-event timeout is longer for a model that thinks."""
    timeouts = Timeouts()
    assert timeouts.first_event_timeout_s(route()) == 60
    assert timeouts.first_event_timeout_s(route(features=("chat", "thinking"))) == 300


def test_key_is_never_shown() -> None:
    """No string form of an endpoint contains its key."""
    endpoint = Endpoint("openai", "OpenAI", "https://x", ("OPENAI_API_KEY",), (KEY,))
    for shown in (repr(endpoint), str(endpoint), f"{endpoint}", repr([endpoint])):
        assert KEY not in shown
    assert "keys=1" in repr(endpoint)


def test_quirks_are_checked() -> None:
    """An unknown quirk is an error in the catalog, and isn't ignored."""
    with pytest.raises(pydantic.ValidationError):
        Quirks.model_validate({"reasonning": "effort"})


PDF = FilePart("application/pdf", data="A")


@pytest.mark.parametrize(
    ("dialect", "file", "word"),
    [
        ("openai_chat", FilePart("application/pdf", url="https://x"), "url"),
        ("anthropic", FilePart("application/zip", data="A"), "application/zip"),
        ("anthropic", FilePart("text/plain", url="https://x"), "text/plain"),
    ],
)
def test_unsupported_file_forms(dialect: str, file: FilePart, word: str) -> None:
    """A file in a form that the provider's API doesn't accept is unsupported, and the message names that form."""
    with pytest.raises(ProviderError, match=word) as caught:
        route(dialect, features=("chat", "files")).check(request_with(file))
    assert caught.value.code == "unsupported"


def test_supported_files() -> None:
    """PDFs are accepted everywhere, text is accepted as data, and a URL where the provider fetches it."""
    for dialect in ("openai_chat", "openai_responses", "anthropic"):
        route(dialect, features=("chat", "files")).check(request_with(PDF))
    route("anthropic", features=("files",)).check(request_with(FilePart("text/csv", data="A")))
    route("openai_responses", features=("files",)).check(request_with(FilePart("application/pdf", url="https://x")))


def test_max_tokens_above_the_model_limit() -> None:
    """A `max_tokens` above the model's limit is invalid, and the message states the limit."""
    bounded = structs.replace(route(), max_output=100)
    bounded.check(chat_request(max_tokens=100))
    with pytest.raises(ProviderError, match="100 tokens at most") as caught:
        bounded.check(chat_request(max_tokens=101))
    assert caught.value.code == "invalid_request"


def test_request_that_exceeds_the_context_window() -> None:
    """A request that surely exceeds the context window is rejected. It is accepted if the window is unknown."""
    long = ChatRequest(model="m", messages=(ChatMessage("user", (TextPart("word " * 5000),)),))
    with pytest.raises(ProviderError, match="takes 1000 tokens") as caught:
        structs.replace(route(), context_window=1000).check_length(long)
    assert (caught.value.code, caught.value.retryable) == ("context_length_exceeded", False)
    structs.replace(route(), context_window=5000).check_length(long)
    route().check_length(long)
