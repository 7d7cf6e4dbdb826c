"""The messages of Anthropic's Messages API, converted to the messages of a turn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.dialects.anthropic_messages_request import Block, MessageParam, Source, SystemBlock
from gateway.dialects.base import encode_json, unsupported
from gateway.dialects.media import media_part
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import FilePart, ImagePart, Part, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart

ROLES: Final[dict[str, Role]] = {"user": "user", "assistant": "assistant", "system": "system"}
NAME_CHARS_MAX: Final = 64
LONG_NAME_CHARS_MAX: Final = 128
"""The longest name of a tool at Anthropic."""
ATTRIBUTION: Final = "x-anthropic-billing-header:"
"""The beginning of a line that Claude Code puts before its system prompt. It isn't for the model, and it differs in each
request, so that no provider could use its prompt cache."""
BLOCKS: Final = "text, image, document, search_result, tool_use, tool_result, thinking or redacted_thinking"


class Converted(NamedTuple):
    """The converted messages. `origins` has, for each of them, the path of each of its parts in the request."""

    system: str | None
    messages: list[InputMessage]
    origins: list[list[str]]

    def add(self, role: Role, parts: Sequence[_Placed]) -> None:
        """Add a message."""
        self.messages.append(InputMessage(role=role, parts=[placed.part for placed in parts]))
        self.origins.append([placed.path for placed in parts])


class _Placed(NamedTuple):
    """A part, and the path of the block that it was made from."""

    part: Part
    path: str


class ToolNames:
    """The names of tools that are too long for other providers, and so are shortened.

    `original` has the client's name of each tool by its shortened name.
    """

    def __init__(self) -> None:
        self.original: dict[str, str] = {}

    def shorten(self, name: str) -> str:
        """Return the name, or the same short one each time if it is too long."""
        if not NAME_CHARS_MAX < len(name) <= LONG_NAME_CHARS_MAX:
            return name
        short = (
            f"{name[: NAME_CHARS_MAX - 13]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
        )
        self.original[short] = name
        return short


def convert_messages(
    system: str | list[SystemBlock] | None, messages: Sequence[MessageParam], names: ToolNames
) -> Converted:
    """Return the messages of a turn. Raises `ApiError`.

    The results of tools become a message of their own, before what else is in their message. Blank text beside other
    content, and a message of the assistant without any, are left out.
    """
    texts = [system] if isinstance(system, str) else [block.text for block in system or ()]
    before = [text for text in map(_without_attribution, texts) if text]
    converted = Converted(None, [], [])
    for n, message in enumerate(messages):
        role = ROLES.get(message.role)
        if role is None:
            raise ApiError(
                "invalid_request",
                f"Unknown role {message.role[:80]!r}. Send one of {', '.join(ROLES)}.",
                path=f"messages[{n}].role",
            )
        results, others = _parts(message, f"messages[{n}].content", names)
        if role == "system" and not converted.messages:
            before += [placed.part.text for placed in others if isinstance(placed.part, TextPart)]
            continue
        if results:
            converted.add("tool", results)
        if others or not (results or role == "assistant"):
            converted.add(role, others)
    return converted._replace(system="\n\n".join(before) or None)


def _without_attribution(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(ATTRIBUTION) else text


def _parts(message: MessageParam, path: str, names: ToolNames) -> tuple[list[_Placed], list[_Placed]]:
    """Return the results of tools in a message, and its other parts."""
    if isinstance(message.content, str):
        return [], [_Placed(TextPart(message.content), path)] if message.content.strip() else []
    results: list[_Placed] = []
    others: list[_Placed] = []
    for n, block in enumerate(message.content):
        place = f"{path}[{n}]"
        if block.type == "tool_result" and message.role != "assistant":
            result, media = _result(block, place)
            results.append(_Placed(result, place))
            others += [_Placed(part, place) for part in media]
        elif block.type == "tool_use":
            others.append(_Placed(_call(block, place, names), place))
        else:
            others += [_Placed(part, place) for part in _block(block, place)]
    return results, others


def _required(value: str | None, name: str, path: str) -> str:
    if value is None:
        raise ApiError("invalid_request", f"The block has no `{name}`. Send it.", path=f"{path}.{name}")
    return value


def _call(block: Block, path: str, names: ToolNames) -> ToolCallPart:
    call, name = _required(block.id, "id", path), _required(block.name, "name", path)
    return ToolCallPart(call, names.shorten(name), encode_json(block.input or {}).decode())


def _block(block: Block, path: str) -> list[Part]:
    """Return the parts for a block that is neither a tool call nor its result. There are none for a blank one."""
    match block.type:
        case "text":
            text = _required(block.text, "text", path)
            return [TextPart(text)] if text.strip() else []
        case "image":
            return [_image(block, path)]
        case "document":
            return _document(block, path)
        case "search_result":
            return [TextPart(_search_result(block, path))]
        case "thinking":
            text, signature = block.thinking or "", block.signature or None
            return [ReasoningPart(text, signature=signature)] if text or signature else []
        case "redacted_thinking":
            return [ReasoningPart("", redacted=True, signature=_required(block.data, "data", path))]
    raise unsupported(f"{path}.type", f"A block can't be {block.type[:80]!r} here. Send {BLOCKS}.")


def _image(block: Block, path: str) -> ImagePart | FilePart:
    source = _source(block, path)
    if source.type == "base64":
        media_type = _required(source.media_type, "media_type", f"{path}.source")
        return ImagePart(media_type, data=_required(source.data, "data", f"{path}.source"))
    if source.type == "url":
        return media_part(_required(source.url, "url", f"{path}.source"), f"{path}.source.url", image=True)
    raise unsupported(f"{path}.source.type", "Send the image as base64 or url.")


def _source(block: Block, path: str) -> Source:
    if not isinstance(block.source, Source):
        raise ApiError("invalid_request", "The block has no `source`. Send it.", path=f"{path}.source")
    return block.source


def _document(block: Block, path: str) -> list[Part]:
    """Return the parts of a document: a file, or its text with its title."""
    source = _source(block, path)
    inner = f"{path}.source"
    head = "\n".join(filter(None, (block.title, block.context)))
    heads: list[Part] = [TextPart(head)] if head.strip() else []
    if source.type == "base64":
        media_type = source.media_type or "application/pdf"
        return [FilePart(media_type, data=_required(source.data, "data", inner), name=block.title)]
    if source.type == "url":
        return [media_part(_required(source.url, "url", inner), f"{inner}.url", block.title)]
    if source.type == "text":
        return [*heads, TextPart(_required(source.data, "data", inner))]
    if source.type == "content":
        content = source.content or ""
        if isinstance(content, str):
            return [*heads, TextPart(content)]
        return heads + [part for n, each in enumerate(content) for part in _block(each, f"{inner}.content[{n}]")]
    raise unsupported(f"{inner}.type", "Send the document as base64, text, content or url.")


def _search_result(block: Block, path: str) -> str:
    source = block.source if isinstance(block.source, str) else ""
    content = block.content or ""
    if not isinstance(content, str):
        content = "\n".join([_required(each.text, "text", f"{path}.content[{n}]") for n, each in enumerate(content)])
    return "\n".join(filter(None, (block.title, source, content)))


def _result(block: Block, path: str) -> tuple[ToolResultPart, list[Part]]:
    """Return the result of a tool as text, and the images and files in it, which follow it in a message of the user."""
    call = _required(block.tool_use_id, "tool_use_id", path)
    content = block.content or ""
    media: list[Part] = []
    if not isinstance(content, str):
        texts: list[str] = []
        for n, inner in enumerate(content):
            for part in _block(inner, f"{path}.content[{n}]"):
                if isinstance(part, TextPart):
                    texts.append(part.text)
                elif isinstance(part, ImagePart | FilePart):
                    media.append(part)
                    texts.append(f"[{'Image' if isinstance(part, ImagePart) else 'File'}: see the next message.]")
                else:
                    raise unsupported(f"{path}.content[{n}].type", "A result has text, images and documents here.")
        content = "\n".join(texts)
    return ToolResultPart(call, content, error=block.is_error is True), media
