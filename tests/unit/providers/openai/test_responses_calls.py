"""The tool calls of a response as parts. The rest of the module is tested through events (test_responses_events.py)."""

from providers.base import PartDelta, PartStarted
from providers.delta_buffer import DeltaBuffer
from providers.openai.responses_items import OutputItems
from providers.openai.responses_schema import Item


def test_a_call_without_a_name_is_no_part() -> None:
    """A call without a name isn't a part. It becomes one when its name is known, with its arguments."""
    parts = DeltaBuffer()
    output = OutputItems(parts)
    output.complete_item("x", Item("function_call", call_id="c", arguments='{"a":1}'))
    assert not output.calls
    output.complete_item("x", Item("function_call", call_id="c", name="n", arguments='{"a":1}'))
    output.close()
    assert output.calls
    assert parts.drain() == [PartStarted(0, "tool_call", call="c", name="n"), PartDelta(0, '{"a":1}')]
