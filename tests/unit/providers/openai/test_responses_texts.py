"""The texts of a response as parts. The rest of the module is tested through events (test_responses_events.py)."""

from providers.base import PartDelta, PartStarted
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_texts import ItemTexts


def test_text_and_whole_text() -> None:
    """Of a whole text, only what is missing is added, and each piece of a message is a part."""
    parts = DeltaBuffer()
    texts = ItemTexts(parts)
    texts.add("text", 0, "content", 0, "a")
    texts.add_whole("text", 0, "content", 0, "ab")
    texts.add_whole("text", 0, "content", 1, "c")
    assert parts.drain() == [PartStarted(0, "text"), PartDelta(0, "ab"), PartStarted(1, "text"), PartDelta(1, "c")]
