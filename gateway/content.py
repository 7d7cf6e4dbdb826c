"""What a `turn.start` asks, checked as far as it can be before a provider is asked. Pure."""

from __future__ import annotations

import binascii

from gateway.errors import ApiError
from gateway.protocol import TurnStart
from providers.base import FilePart, ImagePart, Part, TextPart, Tool, ToolName


def check_content(request: TurnStart) -> None:
    """Parts that hold something, and tools that can be called. Raises `ApiError`."""
    if isinstance(request.input, list):
        _check_parts(request.input, "input")
    for n, message in enumerate(request.messages or ()):
        _check_parts(message.parts, f"messages[{n}].parts")
    _check_tools(request, request.tools or [])


def _check_parts(parts: list[Part], path: str) -> None:
    if all(isinstance(part, TextPart) and not part.text for part in parts):
        raise ApiError("invalid_request", f"{path} is empty. Send some text.", path=path)
    for n, part in enumerate(parts):
        if isinstance(part, ImagePart | FilePart):
            _check_data(part, f"{path}[{n}]")


def _check_data(part: ImagePart | FilePart, path: str) -> None:
    if (part.data is None) == (part.url is None):
        raise ApiError("invalid_request", "An image or file has either data or a url. Send one of them.", path=path)
    if part.data is not None:
        try:
            decoded = binascii.a2b_base64(part.data, strict_mode=True)
        except (binascii.Error, ValueError):
            decoded = b""
        if not decoded:
            raise ApiError("invalid_request", "data is not base64 of anything. Encode the bytes.", path=f"{path}.data")


def _check_tools(request: TurnStart, tools: list[Tool]) -> None:
    names = [tool.name for tool in tools]
    for n, tool in enumerate(tools):
        if tool.parameters and tool.parameters.get("type") != "object":
            raise ApiError(
                "invalid_request",
                'A tool takes a map: its parameters are a JSON schema of "type": "object".',
                path=f"tools[{n}].parameters",
            )
        if tool.name in names[:n]:
            raise ApiError("invalid_request", f"Two tools are called {tool.name}. Rename one.", path=f"tools[{n}].name")
    choice = request.tool_choice
    if isinstance(choice, ToolName) and choice.name not in names:
        raise ApiError("invalid_request", "tool_choice names no tool of this turn.", path="tool_choice")
    if choice == "required" and not tools:
        raise ApiError(
            "invalid_request", "tool_choice requires a tool, and there is none. Send tools.", path="tool_choice"
        )
