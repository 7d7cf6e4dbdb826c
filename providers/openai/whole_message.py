"""Find what a whole message (`message` instead of `delta`) adds to the deltas before it. This module does no I/O.

Some hosts send one at the end of a stream. Its tool calls are completed by `ToolCallAssembler.fill`.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import structs

from providers.base import PartKind
from providers.openai.chat_schema import Content, Delta
from providers.thoughts import is_thought


def missing_delta(message: Delta, kinds: Collection[PartKind], said: str, *, has_transcript: bool) -> Delta:
    """Return what `message` adds to the deltas before it, without its tool calls, as one more delta.

    `kinds` are the kinds of the parts so far, and `said` is the text so far. `has_transcript`: the text includes the
    transcript of the answer's audio.
    """
    return structs.replace(
        Delta() if "reasoning" in kinds else message,
        content=_missing_text(message.content, said),
        refusal=None if "refusal" in kinds else message.refusal,
        annotations=None if "citation" in kinds else message.annotations,
        tool_calls=None,
        function_call=None,
        extra_content=None,
        images=message.images or message.image or message.image_url,
        audio=None if has_transcript else message.audio,
    )


def _missing_text(content: Content, said: str) -> str:
    """Return the rest of the whole text after `said`, or "" if it doesn't begin with `said`."""
    if content is not None and not isinstance(content, str):
        pieces = content if isinstance(content, list) else [content]
        texts = (piece for piece in pieces if isinstance(piece, str) or not is_thought(piece.type, piece))
        content = "".join(piece if isinstance(piece, str) else piece.words for piece in texts)
    return content[len(said) :] if content and content.startswith(said) else ""
