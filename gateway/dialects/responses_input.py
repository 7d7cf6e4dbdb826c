"""The input items of OpenAI Responses, converted to the messages of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.dialects.base import unsupported
from gateway.dialects.media import media_part
from gateway.dialects.responses_request import Content, InputItem
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import (
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


class Converted(NamedTuple):
    """The converted items.

    `system` has the texts of system messages that have no place in `messages`. `origins` has, for each message, the
    number of the item of each of its parts.
    """

    system: list[str]
    messages: list[InputMessage]
    origins: list[list[int]]

    @property
    def is_new_input(self) -> bool:
        """Whether there is no message of the assistant, so that the whole input is new in its conversation."""
        return all(message.role != "assistant" for message in self.messages)


ROLES: Final[dict[str, Role]] = {
    "user": "user",
    "system": "system",
    "developer": "system",
    "assistant": "assistant",
}
IMAGE_FORMATS: Final = frozenset({"png", "jpeg", "webp", "gif", "avif", "bmp"})
MEDIA: Final = {"input_image": "Image", "input_file": "File"}
TEXTS: Final = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


def convert_items(items: str | Sequence[InputItem] | None, *, is_answered: bool = True) -> Converted:
    """Return the messages for the input. Neighboring items of the same author become one message. Raises `ApiError`.

    Images and files in the outputs of functions follow these outputs in a message of the user. If there are only
    system messages, the last one becomes a user message: OpenAI answers it, but most providers answer only a user message.
    With `is_answered` false, the input only prepares a context, and that message stays a system message.
    """
    if isinstance(items, str):
        return Converted([], [InputMessage(role="user", parts=[TextPart(items)])] if items else [], [[0]])
    converted = Converted([], [], [])
    media: list[tuple[Part, int]] = []
    last_of_system: tuple[int, list[Part]] | None = None
    for n, item in enumerate(items or ()):
        if item.type == "function_call_output":
            result, more = _result(item, f"input[{n}]")
            _append(converted, "tool", [result], n)
            media += [(part, n) for part in more]
            continue
        role, parts = _convert(item, f"input[{n}]")
        if parts:
            _append_media(converted, media)
        if role == "system" and not converted.messages:
            texts: list[Part] = [part for part in parts if isinstance(part, TextPart) and part.text]
            converted.system.extend(part.text for part in texts if isinstance(part, TextPart))
            last_of_system = (n, texts) if texts else last_of_system
        elif parts:
            _append(converted, role, parts, n)
    _append_media(converted, media)
    if is_answered and last_of_system is not None and not converted.messages:
        n, texts = last_of_system
        del converted.system[-len(texts) :]
        _append(converted, "user", texts, n)
    return converted


def _append_media(converted: Converted, media: list[tuple[Part, int]]) -> None:
    """Append the parts of `media` as one message of the user, and clear it. Each comes with the number of its item."""
    if media:
        converted.messages.append(InputMessage(role="user", parts=[part for part, _ in media]))
        converted.origins.append([n for _, n in media])
        media.clear()


def _append(converted: Converted, role: Role, parts: list[Part], origin: int) -> None:
    last = converted.messages[-1] if converted.messages else None
    # Two user messages in a row stay separate here. They are merged only for a provider that needs it.
    if last is not None and last.role == role and role in {"assistant", "tool"}:
        last.parts.extend(parts)
        converted.origins[-1].extend([origin] * len(parts))
    else:
        converted.messages.append(InputMessage(role=role, parts=parts))
        converted.origins.append([origin] * len(parts))


def _convert(item: InputItem, path: str) -> tuple[Role, list[Part]]:
    kind = item.type or "message"
    if kind == "message":
        role = ROLES.get(item.role or "")
        if role is None:
            raise ApiError("invalid_request", f"`role` must be one of {', '.join(ROLES)}.", path=f"{path}.role")
        return role, _content(item.content, f"{path}.content")
    if kind == "function_call":
        _require(path, call_id=item.call_id, name=item.name)
        arguments = "{}" if item.arguments is None else item.arguments
        if not isinstance(arguments, str):
            raise ApiError("invalid_request", "`arguments` must be JSON as a string.", path=f"{path}.arguments")
        return "assistant", [ToolCallPart(item.call_id or "", item.name or "", arguments)]
    if kind == "reasoning":
        return "assistant", _reasoning(item)
    if kind == "image_generation_call":
        return "assistant", _image(item)
    if kind == "item_reference":
        raise unsupported(f"{path}.type", "Send the item itself, or `previous_response_id`.")
    raise unsupported(f"{path}.type", "An item is a message, function_call, function_call_output or reasoning here.")


def _require(path: str, **fields: str | None) -> None:
    for name, value in fields.items():
        if value is None:
            raise ApiError("invalid_request", f"The item has no `{name}`. Send it.", path=f"{path}.{name}")


def _reasoning(item: InputItem) -> list[Part]:
    pieces = [*(item.summary or ()), *(item.content if isinstance(item.content, list) else ())]
    text = "\n\n".join([piece.text for piece in pieces if piece.text])
    if not text and not item.encrypted_content:
        return []
    return [ReasoningPart(text, signature=item.encrypted_content)]


def _image(item: InputItem) -> list[Part]:
    """Return an image of an earlier answer, with its data, or with its address on this gateway."""
    media_type = f"image/{item.output_format if item.output_format in IMAGE_FORMATS else 'png'}"
    if item.result:
        return [ImagePart(media_type, data=item.result)]
    return [ImagePart(media_type, url=item.url)] if item.url else []


def _result(item: InputItem, path: str) -> tuple[ToolResultPart, list[Part]]:
    """Return the output of a function as text, and the images and files in it."""
    _require(path, call_id=item.call_id)
    call, output = item.call_id or "", item.output
    if isinstance(output, str):
        return ToolResultPart(call, output), []
    if not isinstance(output, list):
        raise ApiError("invalid_request", "`output` must be a string or a list.", path=f"{path}.output")
    texts: list[str] = []
    media: list[Part] = []
    for n, value in enumerate(output):
        place = f"{path}.output[{n}]"
        try:
            content = msgspec.convert(value, Content)
        except msgspec.ValidationError:
            raise ApiError("invalid_request", "The part of the output has a wrong type.", path=place) from None
        if content.type in TEXTS and content.text is not None:
            texts.append(content.text)
        elif content.type in MEDIA and (content.image_url or content.file_data or content.file_url):
            media.append(_part(content, place))
            texts.append(f"[{MEDIA[content.type]}: see the next message.]")
        else:
            raise unsupported(place, "The output of a function has text, images and files here, with their data.")
    return ToolResultPart(call, "".join(texts)), media


def _content(content: str | list[Content] | None, path: str) -> list[Part]:
    if isinstance(content, str):
        return [TextPart(content)] if content else []
    return [_part(part, f"{path}[{n}]") for n, part in enumerate(content or ())]


def _part(part: Content, path: str) -> Part:
    if part.type in TEXTS:
        if part.text is None:
            raise ApiError("invalid_request", "The part has no `text`. Send it.", path=f"{path}.text")
        return TextPart(part.text)
    if part.type == "refusal":
        return RefusalPart(part.refusal or "")
    if part.file_id is not None and part.file_data is None and part.file_url is None and part.image_url is None:
        raise unsupported(f"{path}.file_id", "Files aren't stored here. Send the data or an address.")
    if part.type == "input_image":
        if part.image_url is None:
            raise ApiError("invalid_request", "The part has no `image_url`. Send it.", path=f"{path}.image_url")
        return media_part(part.image_url, f"{path}.image_url", image=True)
    if part.type == "input_file":
        return _file(part, path)
    raise unsupported(f"{path}.type", "A part is input_text, output_text, refusal, input_image or input_file here.")


def _file(part: Content, path: str) -> Part:
    if part.file_data is not None and not part.file_data.startswith("data:"):
        return FilePart("application/pdf", data=part.file_data, name=part.filename)
    address = part.file_url if part.file_data is None else part.file_data
    if address is None:
        raise ApiError("invalid_request", "The part has neither `file_data` nor `file_url`. Send one.", path=path)
    return media_part(address, f"{path}.{'file_url' if part.file_data is None else 'file_data'}", part.filename)
