"""Replace with a note each image and file of a history that a model can't take. This module does no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from providers.base import ChatMessage, ChatRequest, FilePart, ImagePart, Part, TextPart
from providers.fit.rules import Rules, rules_of
from providers.route import Route

IMAGE_NOTE: Final = "[An image was left out here: this model can't see it.]"
LARGE_NOTE: Final = "[An image was left out here: it is too large, or there are too many.]"
OWN_IMAGE_NOTE: Final = "[You made an image here.]"
NAME_CHARS_MAX: Final = 80


def leave_out_media(request: ChatRequest, route: Route) -> ChatRequest:
    """Replace with a note each image and file that the model of `route` can't take, except in the last message.

    The last message is the new input. `Route.check` refuses it if the model can't take what it holds. An image in an
    answer moves to the next message of the user, because no dialect takes images in answers. A note takes its place.
    """
    last = len(request.messages) - 1
    if request.messages and request.messages[last].role == "assistant":
        last += 1
    rules = rules_of(route)
    first, first_index = _first_that_fits(request.messages, rules)
    messages: list[ChatMessage] = []
    own_images: list[Part] = []
    changed = False
    for number, message in enumerate(request.messages):
        if not own_images and not any(isinstance(part, ImagePart | FilePart) for part in message.parts):
            messages.append(message)
            continue
        changed = True
        parts: list[Part] = []
        if message.role == "user":
            parts, own_images = own_images, []
        for index, part in enumerate(message.parts):
            if not isinstance(part, ImagePart | FilePart):
                parts.append(part)
                continue
            part = _with_known_type(part)
            is_taken = route.takes(part) and _is_allowed(part, rules) and (number, index) >= (first, first_index)
            if message.role == "assistant":
                parts.append(TextPart(OWN_IMAGE_NOTE if isinstance(part, ImagePart) else _note(part)))
                own_images += [part] if is_taken and isinstance(part, ImagePart) else []
            elif message.role != "system" and (is_taken or number == last):
                parts.append(part)
            else:
                parts.append(TextPart(_note(part, is_seen=route.takes(part) and _has_form(part, rules))))
        messages.append(structs.replace(message, parts=tuple(parts)))
    return structs.replace(request, messages=tuple(messages)) if changed else request


def _with_known_type(part: ImagePart | FilePart) -> ImagePart | FilePart:
    """Return `part`, with its registered media type instead of a common wrong one, which providers refuse."""
    return structs.replace(part, media_type="image/jpeg") if part.media_type == "image/jpg" else part


def _first_that_fits(messages: Sequence[ChatMessage], rules: Rules) -> tuple[int, int]:
    """Return the place of the oldest image or file that, with all newer ones, is within the limits of `rules`.

    A place is the number of a message and of a part in it. An image that isn't allowed on its own isn't counted.
    """
    images = chars = 0
    first = (len(messages), 0)
    for number in range(len(messages) - 1, -1, -1):
        parts = messages[number].parts
        for index in range(len(parts) - 1, -1, -1):
            part = parts[index]
            if not isinstance(part, ImagePart | FilePart) or not _is_allowed(part, rules):
                continue
            images += isinstance(part, ImagePart)
            chars += _data_chars(part)
            if rules.images is not None and images > rules.images:
                return first
            if rules.media_chars is not None and chars > rules.media_chars:
                return first
            first = (number, index)
    return 0, 0


def _is_allowed(part: ImagePart | FilePart, rules: Rules) -> bool:
    """Return whether the dialect takes the form and the size of an image. Files aren't checked here."""
    return _has_form(part, rules) and (
        isinstance(part, FilePart) or rules.image_chars is None or _data_chars(part) <= rules.image_chars
    )


def _has_form(part: ImagePart | FilePart, rules: Rules) -> bool:
    part = _with_known_type(part)
    if isinstance(part, FilePart):
        return True
    has_type = rules.image_types is None or part.media_type in rules.image_types
    return has_type and (rules.image_urls or _data_chars(part) > 0)


def _data_chars(part: ImagePart | FilePart) -> int:
    """Return the number of characters of the data of `part`, 0 if it is an address."""
    return len(part.data or "") or (len(part.url) if part.url is not None and part.url.startswith("data:") else 0)


def _note(part: ImagePart | FilePart, *, is_seen: bool = False) -> str:
    if isinstance(part, ImagePart):
        return LARGE_NOTE if is_seen else IMAGE_NOTE
    name = f" {part.name[:NAME_CHARS_MAX]}" if part.name else ""
    return f"[The file{name} was left out here: this model can't read it.]"
