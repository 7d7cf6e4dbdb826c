"""The options that an application adds to a request of the AI SDK or of AG-UI, under the AI SDK's names. No I/O."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.protocol.errors import ApiError
from providers.base import Effort, Params, ToolChoice, ToolName

OPTION_NAMES: Final = {
    "params.max_tokens": "maxOutputTokens",
    "params.top_p": "topP",
    "params.stop": "stopSequences",
}
"""Our paths of the options whose names differ."""


class ChosenTool(Struct, rename="camel"):
    """A choice of one tool."""

    tool_name: str
    type: str = "tool"


class ApplicationOptions(Struct, rename="camel", kw_only=True):
    """The options. Unknown ones are ignored."""

    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: int | None = None
    max_tokens: int | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    reasoning: Effort | None = None
    response_format: dict[str, Any] | None = None
    tool_choice: str | ChosenTool | None = None
    demo: dict[str, Any] | None = None


def params_of(options: ApplicationOptions) -> Params:
    """Return the parameters of the request to the model."""
    max_tokens = options.max_output_tokens
    return Params(
        temperature=options.temperature,
        top_p=options.top_p,
        max_tokens=options.max_tokens if max_tokens is None else max_tokens,
        stop=options.stop_sequences,
        seed=options.seed,
        reasoning=options.reasoning,
        response_format=options.response_format,
        demo=options.demo,
    )


def tool_choice_of(options: ApplicationOptions, path: str) -> ToolChoice | None:
    """Return the choice of a tool. `path` is that of its field. Raises `ApiError`."""
    choice = options.tool_choice
    if isinstance(choice, ChosenTool):
        return ToolName(choice.tool_name)
    if choice is None or choice in {"auto", "none", "required"}:
        return choice  # type: ignore[return-value]
    raise ApiError("invalid_request", "Send auto, none, required, or a tool.", path=path)
