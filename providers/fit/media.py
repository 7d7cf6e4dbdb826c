"""Images and files of a history that a model can't take: a word stands in their place."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from providers.base import ChatMessage, ChatRequest, FilePart, ImagePart, Part, TextPart
from providers.fit.rules import rules_of
from providers.route import Route

IMAGE_WORD: Final = "[An image was left out here: this model can't see it.]"
OWN_IMAGE_WORD: Final = "[You made an image here.]"
NAME_CHARS_MAX: Final = 80


def leave_out_media(request: ChatRequest, route: Route) -> ChatRequest:
    """Replace the images and files that the model of `route` can't take by a word, except in the last message.

    The last message is the new input. `Route.check` refuses it if the model can't take what it holds. An image in an
    answer moves to the next message of the user, because no dialect takes images in answers.
    """
    last = len(request.messages) - 1
    if request.messages and request.messages[last].role == "assistant":
        last += 1
    types = rules_of(route).image_types
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
        for part in message.parts:
            if not isinstance(part, ImagePart | FilePart):
                parts.append(part)
                continue
            part = _with_known_type(part)
            is_taken = route.takes(part) and (types is None or isinstance(part, FilePart) or part.media_type in types)
            if message.role == "assistant":
                parts.append(TextPart(OWN_IMAGE_WORD if isinstance(part, ImagePart) else _word(part)))
                own_images += [part] if is_taken and isinstance(part, ImagePart) else []
            elif message.role != "system" and (is_taken or number == last):
                parts.append(part)
            else:
                parts.append(TextPart(_word(part)))
        messages.append(structs.replace(message, parts=tuple(parts)))
    return structs.replace(request, messages=tuple(messages)) if changed else request


def _with_known_type(part: ImagePart | FilePart) -> ImagePart | FilePart:
    """Return `part`, with the registered name of its type if it has a common wrong one, which providers refuse."""
    return structs.replace(part, media_type="image/jpeg") if part.media_type == "image/jpg" else part


def _word(part: ImagePart | FilePart) -> str:
    if isinstance(part, ImagePart):
        return IMAGE_WORD
    name = f" {part.name[:NAME_CHARS_MAX]}" if part.name else ""
    return f"[The file{name} was left out here: this model can't read it.]"
