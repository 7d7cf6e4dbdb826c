"""The items of one response as parts. The rest of the module is tested through events (test_responses_events.py)."""

from providers.base import PartDelta, PartStarted
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_items import Annotation, Item, OutputItems, Piece


def test_text_and_whole_text() -> None:
    """Of a whole text, only what is missing is added, and each piece of a message is a part."""
    parts = DeltaBuffer()
    output = OutputItems(parts)
    output.add_text("text", 0, "content", 0, "a")
    output.add_whole_text("text", 0, "content", 0, "ab")
    output.add_whole_text("text", 0, "content", 1, "c")
    assert parts.drain() == [PartStarted(0, "text"), PartDelta(0, "ab"), PartStarted(1, "text"), PartDelta(1, "c")]


def test_citations_are_added_once() -> None:
    """A whole piece adds only the citations that weren't added before."""
    parts = DeltaBuffer()
    output = OutputItems(parts)
    piece = Piece("output_text", annotations=[Annotation("https://u1"), Annotation("https://u2"), Annotation()])
    output.add_citation(0, 0, Annotation("https://u1"))
    output.add_other_citations(0, 0, piece)
    output.add_other_citations(0, 0, piece)
    assert [delta.url for delta in parts.drain() if isinstance(delta, PartStarted)] == ["https://u1", "https://u2"]


def test_a_call_without_a_name_is_no_part() -> None:
    """A call without a name isn't a part. It becomes one when its name is known, with its arguments."""
    parts = DeltaBuffer()
    output = OutputItems(parts)
    output.complete_item("x", Item("function_call", call_id="c", arguments='{"a":1}'))
    assert not output.has_tool_calls
    output.complete_item("x", Item("function_call", call_id="c", name="n", arguments='{"a":1}'))
    output.close()
    assert output.has_tool_calls
    assert parts.drain() == [PartStarted(0, "tool_call", call="c", name="n"), PartDelta(0, '{"a":1}')]
