"""The list of a response's input items."""

from __future__ import annotations

from gateway.dialects.responses_object import TURN_PREFIX, Object, output_items
from gateway.protocol.errors import ApiError
from gateway.protocol.requests import InputMessage
from providers.base import FilePart, ImagePart, Part, RefusalPart, TextPart, ToolResultPart


def input_page(turn: str, messages: list[InputMessage], limit: int, after: str | None, *, newest_first: bool) -> Object:
    """Return a page of the input items, the oldest first unless `newest_first`. It begins after the item `after`.

    Raise `ApiError` if there is no such item.
    """
    items: list[Object] = []
    for message in messages:
        items += _items(turn, message, len(items))
    if newest_first:
        items.reverse()
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise ApiError("not_found", "The item in `after` was not found. Check the id.", path="after")
        items = items[ids.index(after) + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }


def _items(turn: str, message: InputMessage, count: int) -> list[Object]:
    """Return the items for a message. `count` is the number of items before them."""
    name = f"{turn.removeprefix(TURN_PREFIX)}_in"
    if message.role == "assistant":
        found = output_items(name, message.parts, "completed")
        return [{**item, "id": f"{item['id']}_{count}"} for item in found]
    results = [part for part in message.parts if isinstance(part, ToolResultPart)]
    items: list[Object] = [
        {
            "id": f"fco_{name}_{count + n}",
            "type": "function_call_output",
            "call_id": part.call,
            "output": part.output,
            "status": "completed",
        }
        for n, part in enumerate(results)
    ]
    content = [shown for part in message.parts if (shown := _content(part)) is not None]
    if content:
        item_id = f"msg_{name}_{count + len(items)}"
        role = message.role if message.role != "tool" else "user"
        items.append({"id": item_id, "type": "message", "role": role, "status": "completed", "content": content})
    return items


def _content(part: Part) -> Object | None:
    if isinstance(part, TextPart | RefusalPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, ImagePart):
        address = part.url if part.data is None else f"data:{part.media_type};base64,{part.data}"
        return {"type": "input_image", "image_url": address, "detail": "auto"}
    if isinstance(part, FilePart):
        named = {} if part.name is None else {"filename": part.name}
        return {"type": "input_file", **named, **({} if part.url is None else {"file_url": part.url})}
    return None
