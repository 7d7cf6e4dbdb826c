"""Checks of a `turn.start` request that are possible before a provider is called. They do no I/O.

This module also encodes `metadata`, and measures the data of images and files.
"""

from __future__ import annotations

import binascii
import re

from gateway.protocol.codec import JSON
from gateway.protocol.errors import PATH_CHARS_MAX, ApiError, over_limit
from gateway.protocol.linked_results import misplaced_result, result_without_call, unlinked_result
from gateway.protocol.plain_text import has_visible, is_plain
from gateway.protocol.requests import Metadata, TurnStart
from gateway.protocol.value_count import too_many_items
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolName,
    ToolResultPart,
)

_URL_PREFIXES = ("https://", "http://", "data:", "/v1/messages/")
_IMAGE_DATA = re.compile(r"data:image/[\w.+-]{1,100};base64,")
_JSON_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


def check_start(request: TurnStart, items_max: int) -> None:
    """Check that the fields of a `turn.start` fit together, that its parts have content and its tools can be called.

    Raise `ApiError` "invalid_request" if not, or "too_large" if it has more than `items_max` messages, parts and tools.
    """
    messages = request.messages or []
    items = len(messages) + sum(len(message.parts) for message in messages) + len(request.tools or ())
    if items + len(request.input_parts) > items_max:
        raise too_many_items(items_max)
    if request.continue_:
        _check_continue(request)
    if request.messages is not None:
        for name in ("conversation", "parent", "input"):
            if getattr(request, name) is not None:
                raise ApiError(
                    "invalid_request", f"`messages` and `{name}` can't be combined. Leave one of them out.", path=name
                )
        if not messages:
            raise ApiError("invalid_request", "`messages` is empty. Send at least one message.", path="messages")
    elif request.input is None and request.parent is None:
        raise ApiError("invalid_request", "The turn has nothing to answer. Send `input` or `messages`.", path="input")
    if request.parent is not None and request.conversation is None:
        raise ApiError(
            "invalid_request", "`parent` requires the `conversation` that it is in. Send both.", path="conversation"
        )
    check_own_id(request.turn, "turn")
    check_own_id(request.conversation, "conversation")
    if request.create and request.conversation is None:
        raise ApiError(
            "invalid_request",
            "`create` requires the id of the `conversation` to create. Send both, or neither for a new id.",
            path="conversation",
        )
    _check_content(request)
    if (call := result_without_call(messages) or misplaced_result(messages)) is not None:
        raise unlinked_result(call, "Send the call in that message.", "messages")
    _check_tools(request)


def _check_continue(request: TurnStart) -> None:
    if request.input is not None or request.messages is not None:
        raise ApiError(
            "invalid_request",
            "`continue` goes on from a stored answer, without `input` or `messages`. Leave them out, or leave `continue` out.",
            path="continue",
        )
    if request.parent is None or request.conversation is None:
        raise ApiError(
            "invalid_request",
            "`continue` requires the answer to go on from. Send its id as `parent`, and its `conversation`.",
            path="continue",
        )


def check_own_id(own_id: str | None, field: str) -> None:
    """Check an id that a client made. `field` is the request's field. Raises `ApiError`.

    HTTP clients resolve a path that ends in a dot segment, so that such an id could not be addressed.
    """
    if own_id in {".", ".."}:
        raise ApiError("invalid_request", f"`{field}` can't be {own_id!r}. Choose another id.", path=field)


def encode_metadata(metadata: Metadata, bytes_max: int) -> bytes:
    """Return `metadata` as the JSON that is stored. Raises `ApiError` "too_large"."""
    encoded = JSON.encode(metadata)
    if len(encoded) > bytes_max:
        raise over_limit("`metadata`", len(encoded), bytes_max, "metadata")
    return encoded


def _check_content(request: TurnStart) -> None:
    messages = request.messages or []
    if request.input is not None:
        _check_parts(request.input_parts, "input")
        if all(map(_is_useless_alone, request.input_parts)):
            raise _nothing_to_send("input")
    for n, message in enumerate(messages):
        _check_parts(message.parts, f"messages[{n}].parts")
    if messages and all(_is_useless_alone(part) for message in messages for part in message.parts):
        raise _nothing_to_send("messages")


def _check_parts(parts: list[Part], path: str) -> None:
    if all(map(_is_blank, parts)):
        raise ApiError("invalid_request", f"`{path}` is empty. Send some text.", path=path)
    for n, part in enumerate(parts):
        if isinstance(part, ImagePart | FilePart):
            _check_data(part, f"{path}[{n}]")
        elif isinstance(part, ToolCallPart):
            _check_names({"call": part.call, "name": part.name}, f"{path}[{n}]")
        elif isinstance(part, ToolResultPart):
            _check_names({"call": part.call}, f"{path}[{n}]")


def _is_blank(part: Part) -> bool:
    """Return whether a part has no content for a model: only white space, and no opaque data of a provider."""
    if not isinstance(part, TextPart | ReasoningPart | RefusalPart | CitationPart):
        return False
    return not part.signature and not has_visible(part.text or "")


def _is_useless_alone(part: Part) -> bool:
    """Return whether a model can't be sent this part alone: a tool call, unsigned reasoning, or a blank part."""
    return isinstance(part, ToolCallPart) or (isinstance(part, ReasoningPart) and not part.signature) or _is_blank(part)


def _nothing_to_send(path: str) -> ApiError:
    message = f"`{path}` has nothing that can be sent to a model. Send text, an image, a file or a tool result."
    return ApiError("invalid_request", message, path=path)


def _check_names(names: dict[str, str], path: str) -> None:
    for field, name in names.items():
        if not is_plain(name):
            raise ApiError(
                "invalid_request",
                f"`{field}` has control or format characters. Send it exactly as in the turn.part of the tool call.",
                path=f"{path}.{field}",
            )


def _check_data(part: ImagePart | FilePart, path: str) -> None:
    if (part.data is None) == (part.url is None):
        raise ApiError(
            "invalid_request", "An image or file needs either `data` or `url`. Send exactly one of them.", path=path
        )
    if isinstance(part, ImagePart) and not part.media_type.startswith("image/"):
        raise ApiError(
            "invalid_request",
            "Not an image: `media_type` must begin with image/. Correct it, or send a file part instead.",
            path=f"{path}.media_type",
        )
    if part.url is not None and not part.url.startswith(_URL_PREFIXES):
        raise ApiError("invalid_request", "Unsupported address in `url`. Send an https address.", path=f"{path}.url")
    data, field = part.data, "data"
    if isinstance(part, ImagePart) and part.url is not None and part.url.startswith("data:"):
        match = _IMAGE_DATA.match(part.url)
        if match is None:
            raise ApiError(
                "invalid_request",
                "Not an image: `url` must be like data:image/png;base64,… with the image. Correct it, or send an https address.",
                path=f"{path}.url",
            )
        data, field = part.url[match.end() :], "url"
    if data is not None and not _is_base64(data):
        raise ApiError(
            "invalid_request",
            f"The data in `{field}` is empty or isn't base64. Encode the bytes as base64.",
            path=f"{path}.{field}",
        )


def data_size(part: Part) -> int:
    """Return the size in bytes of an image's or a file's data, as base64 or in a `data:` address; 0 for other parts."""
    if not isinstance(part, ImagePart | FilePart):
        return 0
    return len(part.data or "") + (len(part.url) if part.url is not None and part.url.startswith("data:") else 0)


def _is_base64(text: str) -> bool:
    try:
        return bool(binascii.a2b_base64(text, strict_mode=True))
    except (binascii.Error, ValueError):
        return False


def _find_schema_error(schema: object, path: str) -> str | None:
    """Return the path of an error in a JSON schema, or None.

    Only errors that every provider would refuse are found.
    """
    path = path[:PATH_CHARS_MAX]
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return path
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict):
        return f"{path}.properties"
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        return f"{path}.required"
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not all(isinstance(kind, str) and kind.lower() in _JSON_TYPES for kind in kinds):
        return f"{path}.type"
    inner = [(value, f"{path}.properties.{name}") for name, value in properties.items()]
    if not isinstance(schema.get("items"), list | None):
        inner.append((schema["items"], f"{path}.items"))
    return next(
        (found for value, inner_path in inner if (found := _find_schema_error(value, inner_path)) is not None), None
    )


def _check_tools(request: TurnStart) -> None:
    tools = request.tools or []
    names = [tool.name for tool in tools]
    for n, tool in enumerate(tools):
        if tool.parameters and tool.parameters.get("type") != "object":
            raise ApiError(
                "invalid_request",
                'The `parameters` of a tool must be a JSON schema of an object. Set its "type" to "object".',
                path=f"tools[{n}].parameters",
            )
        if (error_path := _find_schema_error(tool.parameters, f"tools[{n}].parameters")) is not None:
            raise ApiError("invalid_request", "Invalid JSON schema. Correct this field.", path=error_path)
        if tool.name in names[:n]:
            raise ApiError(
                "invalid_request", f"Two tools have the name {tool.name}. Rename one of them.", path=f"tools[{n}].name"
            )
    choice = request.tool_choice
    if isinstance(choice, ToolName) and choice.name not in names:
        raise ApiError(
            "invalid_request",
            "`tool_choice` names a tool that isn't in `tools`. Send this tool too.",
            path="tool_choice",
        )
    if choice == "required" and not tools:
        raise ApiError(
            "invalid_request", "`tool_choice` requires a tool, but the turn has none. Send `tools`.", path="tool_choice"
        )
