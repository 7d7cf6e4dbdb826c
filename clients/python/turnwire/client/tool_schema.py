"""Makes tools of functions: the JSON schema from the type hints, the descriptions from the docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import msgspec

from turnwire.client.errors import TurnwireError


class Tool(msgspec.Struct):
    """A function that the model may call. `parameters` is a JSON schema of type object.

    Without a `function`, `run` can't answer its calls.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    function: Callable[..., Any] | None = None
    arguments: type[msgspec.Struct] | None = None
    """The arguments as a type, against which a call is checked."""

    def to_wire(self) -> dict[str, Any]:
        """Return the tool as a start carries it."""
        wire: dict[str, Any] = {"name": self.name}
        if self.description:
            wire["description"] = self.description
        if self.parameters:
            wire["parameters"] = self.parameters
        return wire


def tool(function: Callable[..., Any], *, name: str | None = None, description: str | None = None) -> Tool:
    """Return a tool that calls `function`, which may be async.

    Each parameter needs a type hint that JSON can express; one with a default is optional. Its description is that of
    `Annotated[…, msgspec.Meta(description=…)]`, or its line under `Args:` in the docstring. The tool's description is the
    docstring's first paragraph.

    Raises TurnwireError with the code `invalid_tool` if a parameter has no such type.
    """
    tool_name = name or re.sub(r"[^A-Za-z0-9_-]", "_", getattr(function, "__name__", "tool"))[:64]
    summary, of_parameters = _docstring(function)
    try:
        arguments = _arguments_type(function, tool_name, of_parameters)
        schema = _inline(msgspec.json.schema(arguments))
    except (TypeError, NameError) as error:
        raise TurnwireError(
            f"The function {tool_name} can't be a tool: {error}. Give each parameter a type that JSON can express, or pass a "
            "Tool with a schema of your own.",
            code="invalid_tool",
        ) from error
    return Tool(
        name=tool_name, description=description or summary, parameters=schema, function=function, arguments=arguments
    )


def _arguments_type(function: Callable[..., Any], name: str, descriptions: dict[str, str]) -> type[msgspec.Struct]:
    hints = get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(f"its parameter {parameter.name} can't be passed by name")
        if parameter.name not in hints:
            raise TypeError(f"its parameter {parameter.name} has no type hint")
        hint = hints[parameter.name]
        if parameter.name in descriptions:
            hint = Annotated[hint, msgspec.Meta(description=descriptions[parameter.name])]
        if parameter.default is parameter.empty:
            fields.append((parameter.name, hint))
        else:
            fields.append((parameter.name, hint, _default(parameter.default)))
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=False)


def _default(value: Any) -> Any:
    """Return the field's default. The schema shows the simple ones; others may be mutable, which a field can't have."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return msgspec.field(default=value)
    return msgspec.field(default_factory=lambda: value)


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the object itself at the top, because providers expect `type: object` there."""
    definitions = dict(schema.get("$defs", {}))
    top: dict[str, Any] = dict(definitions.pop(schema["$ref"].rpartition("/")[2]))
    top.pop("title", None)
    if definitions:
        top["$defs"] = definitions
    return top


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first paragraph, and the descriptions of the parameters in Google's form (`Args:`)."""
    lines = (inspect.getdoc(function) or "").splitlines()
    summary: list[str] = []
    for line in lines:
        if not line.strip():
            break
        summary.append(line.strip())
    described: dict[str, str] = {}
    current = ""
    inside = False
    for line in lines:
        if not line.startswith(" "):
            inside = line.strip() in ("Args:", "Arguments:", "Parameters:") or (inside and not line.strip())
            continue
        found = re.match(r"\s+(\w+)(?: \([^)]*\))?:\s*(.*)", line) if inside else None
        if found:
            current = found[1]
            described[current] = found[2]
        elif inside and current:
            described[current] = f"{described[current]} {line.strip()}".strip()
    return " ".join(summary), described
