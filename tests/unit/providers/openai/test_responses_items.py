"""The items of one response as parts. The rest of the module is tested through events (test_responses_events.py)."""

from providers.base import PartStarted
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_items import OutputItems
from providers.openai.responses_schema import Annotation, Piece


def test_citations_are_added_once() -> None:
    """A whole piece adds only the citations that weren't added before."""
    parts = DeltaBuffer()
    output = OutputItems(parts)
    piece = Piece("output_text", annotations=[Annotation("https://u1"), Annotation("https://u2"), Annotation()])
    output.add_citation(0, 0, Annotation("https://u1"))
    output.add_other_citations(0, 0, piece)
    output.add_other_citations(0, 0, piece)
    assert [delta.url for delta in parts.drain() if isinstance(delta, PartStarted)] == ["https://u1", "https://u2"]
