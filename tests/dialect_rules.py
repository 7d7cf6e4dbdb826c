"""The documented rules of the dialects for the context in a request body, as checks.

Each check raises `AssertionError` with the rule that is broken. None of them uses the code that builds a body.
"""

from __future__ import annotations

import json
import re
from typing import Any

IMAGE_TYPES = {"image/png", "image/jpeg", "image/gif", "image/webp"}


def _unique(ids: list[str], pattern: str) -> None:
    assert len(set(ids)) == len(ids), f"ids of calls are unique in a request: {ids}"
    for call in ids:
        assert re.fullmatch(pattern, call), f"the id of a call has the form {pattern}: {call!r}"


def _name(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name), (
        f"the name of a function is 1 to 64 of a-z, A-Z, 0-9, _ and -: {name!r}"
    )


def _object(text: str) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"JSON has no {constant}")

    try:
        value = json.loads(text, parse_constant=refuse)
    except ValueError:
        value = None
    assert isinstance(value, dict), f"arguments are the JSON of an object: {text[:80]!r}"


def _content(content: Any, *, texts: tuple[str, ...], media: tuple[str, ...] = ()) -> None:
    """Check content that is a text, or a list of pieces of the types `texts` (with a text) and `media`."""
    if isinstance(content, str):
        assert content.strip(), "a text isn't blank"
        return
    assert isinstance(content, list)
    assert content, "content isn't empty"
    for piece in content:
        assert piece["type"] in texts + media, f"a piece of content has a type that its role may have: {piece['type']}"
        if piece["type"] in texts:
            assert piece["text"].strip(), "a text isn't blank"


def check_chat(
    body: dict[str, Any], *, ids: str = r".{1,40}", strict: bool = False, vision: bool = True, tools: bool = True
) -> None:
    """Check a body of Chat Completions.

    `ids` is the pattern of the ids of calls; `functions` means Kimi's `functions.NAME:INDEX`, numbered from 0.
    `strict` adds the rules of Mistral and of the chat templates of open models.
    """
    messages = body["messages"]
    assert messages, "there is at least one message"
    calls: list[tuple[str, str]] = []
    unanswered: list[str] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            assert message["tool_call_id"] in unanswered, "a tool message answers a call of the message before it, once"
            unanswered.remove(message["tool_call_id"])
            assert isinstance(message["content"], str), "the content of a tool message is text"
            continue
        assert not unanswered, "each call is followed by a tool message"
        if role == "assistant":
            if message["content"] is not None:
                _content(message["content"], texts=("text", "refusal"))
            assert message["content"] or message.get("tool_calls"), "an assistant message has content or calls"
            for call in message.get("tool_calls", ()):
                assert tools, "a model without tools gets no calls"
                _name(call["function"]["name"])
                _object(call["function"]["arguments"])
                calls.append((call["id"], call["function"]["name"]))
                unanswered.append(call["id"])
            assert message.get("tool_calls") != [], "tool_calls isn't an empty list"
        elif role == "user":
            _content(message["content"], texts=("text",), media=("image_url", "file") if vision else ("file",))
        else:
            assert role == "system"
            _content(message["content"], texts=("text",))
    assert not unanswered, "each call is followed by a tool message"
    if ids == "functions":
        expected = [f"functions.{name}:{number}" for number, (_, name) in enumerate(calls)]
        assert [call for call, _ in calls] == expected, "ids are functions.NAME:INDEX, numbered from 0"
    else:
        _unique([call for call, _ in calls], ids)
    if strict:
        _check_turns([message["role"] for message in messages])


def _check_turns(roles: list[str]) -> None:
    if roles[0] == "system":
        roles = roles[1:]
    assert "system" not in roles, "only the first message is a system message"
    assert roles[:1] == ["user"], "the user begins"
    assert roles[-1] in ("user", "tool"), "the last message is from the user or a tool"
    after = {"user": {"assistant"}, "assistant": {"user", "tool"}, "tool": {"tool", "assistant"}}
    for role, following in zip(roles, roles[1:], strict=False):
        assert following in after[role], f"unexpected role {following} after role {role}"


def check_responses(body: dict[str, Any], *, vision: bool = True, tools: bool = True) -> None:
    """Check a body of OpenAI's Responses API."""
    items = body["input"]
    assert items, "there is at least one item"
    calls: list[str] = []
    unanswered: list[str] = []
    for item, following in zip(items, [*items[1:], {}], strict=True):
        kind = item.get("type", "message")
        if kind == "function_call_output":
            assert item["call_id"] in unanswered, "an output follows its call, once"
            unanswered.remove(item["call_id"])
            continue
        if kind == "reasoning":
            assert item.get("encrypted_content") or item.get("content"), "reasoning has its content"
            is_answer = following.get("type") in ("reasoning", "function_call") or following.get("role") == "assistant"
            assert is_answer, "reasoning is followed by the item that it led to"
        elif kind == "function_call":
            assert tools, "a model without tools gets no calls"
            _name(item["name"])
            _object(item["arguments"])
            calls.append(item["call_id"])
            unanswered.append(item["call_id"])
        else:
            assert not unanswered or item["role"] == "assistant", (
                "only parts of the same answer are between a call and its output"
            )
            media = ("input_image", "input_file") if vision else ("input_file",)
            is_user = item["role"] == "user"
            _content(item["content"], texts=("input_text", "output_text"), media=media if is_user else ())
    assert not unanswered, "each call has an output"
    _unique(calls, r".{1,64}")


def check_messages(body: dict[str, Any], *, vision: bool = True, tools: bool = True) -> None:
    """Check a body of Anthropic's Messages API, as its newest models accept it."""
    messages = body["messages"]
    assert messages, "there is at least one message"
    assert messages[0]["role"] == "user", "the first message is from the user"
    assert messages[-1]["role"] == "user", "the newest models accept no prefill"
    system = body.get("system")
    texts = [block["text"] for block in system] if isinstance(system, list) else [] if system is None else [system]
    assert all(text.strip() for text in texts), "the system prompt isn't blank"
    assert json.dumps(body).count('"cache_control":') <= 4, "there are at most four cache breakpoints"
    calls: list[str] = []
    for before, message in zip([{}, *messages], messages, strict=False):
        blocks = message["content"]
        assert isinstance(blocks, list)
        assert blocks, "content isn't empty"
        assert message["role"] != before.get("role"), "roles alternate"
        open_calls = [block["id"] for block in before.get("content", ()) if block["type"] == "tool_use"]
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        assert sorted(results) == sorted(open_calls), "the results of all calls are in the next message"
        first = [block["type"] == "tool_result" for block in blocks]
        assert first == sorted(first, reverse=True), "results are before other content"
        for block in blocks:
            _check_block(block, message["role"], vision=vision)
            if block["type"] == "tool_use":
                calls.append(block["id"])
        assert blocks[-1]["type"] not in ("thinking", "redacted_thinking"), "a message doesn't end with a thought"
    assert not any(block["type"] == "tool_use" for block in messages[-1]["content"]), "each call has a result"
    _unique(calls, r"[a-zA-Z0-9_-]{1,64}")
    _check_thinking(body)
    assert not calls or body.get("tools"), "a request with calls defines tools"
    assert not calls or tools, "a model without tools gets no calls"


def _check_thinking(body: dict[str, Any]) -> None:
    """Check the thoughts of the open answer: the one to which the model now adds, after the results of its calls.

    It begins with a thought if there is a thinking budget, and has none if thinking is disabled.
    """
    turn: list[dict[str, Any]] = []
    for message in reversed(body["messages"]):
        if message["role"] == "user" and not any(block["type"] == "tool_result" for block in message["content"]):
            break
        if message["role"] == "assistant":
            turn.insert(0, message)
    kinds = [block["type"] for message in turn for block in message["content"]]
    thinking = body.get("thinking", {}).get("type")
    if turn and thinking == "enabled":
        assert kinds[0] in ("thinking", "redacted_thinking"), "with a budget, an open answer begins with a thought"
    if thinking == "disabled":
        assert not {"thinking", "redacted_thinking"} & set(kinds), "without thinking, an open answer has no thought"


def _check_block(block: dict[str, Any], role: str, *, vision: bool) -> None:
    of_role = {"user": {"text", "image", "document", "tool_result"}}
    of_role["assistant"] = {"text", "thinking", "redacted_thinking", "tool_use"}
    assert block["type"] in of_role[role], f"a message of the {role} has no {block['type']}"
    match block["type"]:
        case "text":
            assert block["text"].strip(), "a text isn't blank"
        case "thinking":
            assert re.fullmatch(r"[A-Za-z0-9+/=_-]+", block["signature"]), "a thought has its signature, in base64"
        case "tool_use":
            _name(block["name"])
            assert isinstance(block["input"], dict), "the input of a call is an object"
            json.dumps(block["input"], allow_nan=False)
        case "image":
            assert vision, "a model that can't see gets no images"
            assert block["source"]["type"] == "url" or block["source"]["media_type"] in IMAGE_TYPES
            assert len(block["source"].get("data", "")) <= 5 * 2**20, "an image has at most 5 MiB of base64"
