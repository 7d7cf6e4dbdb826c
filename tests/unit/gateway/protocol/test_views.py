"""Tests of the views of stored records for clients: messages, conversations, previews, titles, usage and costs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol.codec import CODECS
from gateway.protocol.events import Cost, Message, Timing, TurnStarted
from gateway.protocol.requests import FRAME_BYTES_OUT_MAX
from gateway.protocol.text_size import encoded_size
from gateway.protocol.views import (
    INPUT_TEXT_BYTES_MAX,
    MessageBody,
    body_of,
    conversation_view,
    cost_from_nano,
    counters_of,
    encode_body,
    message_view,
    parse_part_url,
    preview,
    title_of,
    usage_view,
)
from providers.base import (
    CitationPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    Usage,
)
from store.records import ConversationRecord, Counters, MessageRecord
from tests.stored import conversation

LONG = st.one_of(
    st.text(max_size=30),
    st.builds(lambda unit, n: unit * n, st.sampled_from(["a", "é", "\x01", "😀", "\n", '"']), st.integers(0, 6000)),
)
LONG_OR_NONE = st.none() | LONG
ANY_PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, LONG, LONG_OR_NONE),
        st.builds(ReasoningPart, LONG, st.booleans(), LONG_OR_NONE),
        st.builds(RefusalPart, LONG),
        st.builds(ToolCallPart, LONG, LONG, LONG),
        st.builds(ToolResultPart, LONG, LONG),
        st.builds(ImagePart, LONG, LONG_OR_NONE, LONG_OR_NONE, LONG_OR_NONE),
        st.builds(FilePart, LONG, LONG_OR_NONE, LONG_OR_NONE, LONG_OR_NONE),
        st.builds(CitationPart, LONG_OR_NONE, LONG_OR_NONE, LONG_OR_NONE),
    ),
    max_size=8,
)


def message(parts: list[Part]) -> Message:
    return Message(
        id="m" * 64,
        role="user",
        parts=parts,
        parent="p" * 64,
        created_at="2026-01-31T00:00:00.000Z",
        turn="t" * 64,
    )


def longest_start(shown: Message) -> TurnStarted:
    """Return the first event with this input, and the longest values in all other fields."""
    return TurnStarted(
        turn="t" * 64,
        seq=1,
        epoch=2**53 - 1,
        status="running",
        conversation="c" * 64,
        model="\x01" * 200,
        input=shown,
        message="m" * 64,
        parent="p" * 64,
    )


@settings(deadline=2000)
@given(ANY_PARTS)
def test_a_preview_always_fits_its_frame(parts: list[Part]) -> None:
    """Law 10: for any input, `turn.started` is a small frame. An incomplete preview is marked as truncated."""
    shown = preview(message(parts))
    frame = longest_start(shown)
    assert max(len(codec.encode(frame)) for codec in CODECS) <= FRAME_BYTES_OUT_MAX
    assert shown.truncated == (shown.parts != parts)
    assert all(getattr(part, "data", None) is None for part in shown.parts)
    texts = [part.text for part in shown.parts if isinstance(part, TextPart)]
    assert all(encoded_size(text) <= INPUT_TEXT_BYTES_MAX for text in texts)


def test_a_short_input_is_shown_whole() -> None:
    """An input within the limit is unchanged."""
    parts: list[Part] = [TextPart("Hi"), ImagePart("image/png", url="https://example.com/a.png")]
    shown = preview(message(parts))
    assert shown.parts == parts
    assert not shown.truncated


def test_long_text_is_truncated_and_data_omitted() -> None:
    """The text of all parts together is truncated at 4 KiB, and `data` is omitted."""
    shown = preview(message([TextPart("a" * 9000), TextPart("bcd"), ImagePart("image/png", data="QUJD")]))
    assert shown.truncated
    first, second, image = shown.parts
    assert isinstance(first, TextPart)
    assert 4000 < len(first.text) < INPUT_TEXT_BYTES_MAX
    assert second == TextPart("")
    assert image == ImagePart("image/png")


def test_a_part_that_does_not_fit_ends_the_preview() -> None:
    """A part other than text that is too large is omitted, and so are the parts after it."""
    shown = preview(message([TextPart("Hi"), ToolResultPart("c", "x" * 9000), TextPart("there")]))
    assert shown.parts == [TextPart("Hi")]
    assert shown.truncated


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ([TextPart("Hello there")], "Hello there"),
        ([TextPart("  \n\n  Two \t words \nmore")], "Two words"),
        ([ImagePart("image/png"), TextPart("   "), TextPart("later")], "later"),
        ([TextPart("x" * 60)], "x" * 60),
        ([TextPart("x" * 61)], "x" * 59 + "…"),
        ([TextPart("\n" * 5000 + "x" * 5000)], "x" * 59 + "…"),
        ([TextPart("word " * 20)], "word word word word word word word word word word word word…"),
        ([ImagePart("image/png")], ""),
        ([], ""),
    ],
)
def test_a_first_title_is_the_first_line_of_the_first_text(parts: list[Part], title: str) -> None:
    """Blank texts and lines are skipped. A title has at most 60 characters, and its white space is collapsed."""
    assert title_of(parts) == title
    assert len(title) <= 60


@pytest.mark.parametrize(
    ("nano", "amount"),
    [
        (0, "0.000000"),
        (1_230_000, "0.001230"),
        (1_000_000_000, "1.000000"),
        (12_345_678_901, "12.345678901"),
        (999, "0.000000999"),
        (326_250, "0.00032625"),
    ],
)
def test_a_cost_is_decimal_text(nano: int, amount: str) -> None:
    """The amount is exact, with at least six decimals, and never a float."""
    assert cost_from_nano(nano) == Cost(amount, "USD")


@pytest.mark.parametrize("stored", [b"\xff", b"[1]", b'"x"', b"{", b""])
def test_a_conversation_with_damaged_metadata_is_shown(stored: bytes) -> None:
    """Otherwise the list with this conversation could never be read."""
    assert conversation_view(conversation(metadata=b'{"a":1}')).metadata == {"a": 1}
    assert conversation_view(conversation(metadata=stored)).metadata == {}


def test_an_unknown_price_has_no_cost() -> None:
    """The cost is null, not zero, if the price isn't known."""
    assert cost_from_nano(None) is None


def test_usage_converts_to_counters_and_back() -> None:
    """Counters hold the values of the usage. The usage made from counters omits the optional ones that are zero."""
    usage = Usage(10, 20, 5, 3, 2)
    assert counters_of(usage, 7) == Counters(10, 20, 5, 3, 2, 7)
    assert usage_view(counters_of(usage, None)) == usage
    assert usage_view(counters_of(Usage(1, 2), None)) == Usage(1, 2)
    assert counters_of(None, None) == Counters()


def test_a_message_combines_its_record_and_its_body() -> None:
    """The fields of the stored record and of its body make up the message that clients see."""
    body = MessageBody(
        [TextPart("Hi")],
        "demo",
        Usage(1, 2),
        Cost("0.1"),
        "cancelled",
        by="admin",
        reason="maintenance",
        timing=Timing(1, 3, 1),
        provider="demo",
    )
    record = MessageRecord(id="m", parent="p", role="assistant", created_ms=1000, body=encode_body(body), turn="t")
    assert body_of(record) == body
    assert message_view(record) == Message(
        id="m",
        role="assistant",
        parts=[TextPart("Hi")],
        parent="p",
        created_at="1970-01-01T00:00:01.000Z",
        turn="t",
        model="demo",
        usage=Usage(1, 2),
        cost=Cost("0.1"),
        ended="cancelled",
        by="admin",
        reason="maintenance",
        timing=Timing(1, 3, 1),
        provider="demo",
    )


@pytest.mark.parametrize("value", ["x", "\x01", "ü", 0.1], ids=repr)
def test_a_preview_has_metadata_that_fits(value: object) -> None:
    """Metadata is complete in a preview, or left out, with `truncated`. The frame stays small in each codec (law 10)."""
    fitting = 0
    for count in range(0, 6000, 50):
        body = MessageBody([TextPart("x" * 4000)], metadata={"a": [value] * count})
        record = MessageRecord(
            id="m", parent="m" * 64, role="user", created_ms=0, body=encode_body(body), turn="t" * 64
        )
        shown = preview(message_view(record))
        assert shown.metadata == (None if shown.truncated else body.metadata)
        fitting += not shown.truncated
        started = longest_start(shown)
        assert max(len(codec.encode(started)) for codec in CODECS) <= FRAME_BYTES_OUT_MAX
    assert 1 < fitting < 120


def test_a_body_of_an_earlier_version_is_read() -> None:
    """A message that was stored before it had a finish reason, a timing and a provider is shown without them."""
    stored = b'{"parts":[{"kind":"text","text":"Hi"}],"model":"demo","ended":"completed"}'
    message = message_view(MessageRecord(id="m", parent=None, role="assistant", created_ms=0, body=stored))
    assert (message.ended, message.finish_reason, message.timing, message.provider) == ("completed", None, None, None)


def test_large_data_is_replaced_by_a_url() -> None:
    """A part with more than 4,096 characters of data is shown with a URL in place of the data. `parse_part_url` parses it.

    The parts of a body that the caller passes to `message_view` are shown unchanged.
    """
    small, large = ImagePart("image/png", data="A" * 4096), FilePart("text/plain", data="A" * 4100, name="a")
    record = MessageRecord(
        id="m_1", parent=None, role="user", created_ms=0, body=encode_body(MessageBody([small, large]))
    )
    shown = message_view(record).parts
    assert shown == [small, FilePart("text/plain", url="/v1/messages/m_1/parts/1", name="a")]
    assert parse_part_url("/v1/messages/m_1/parts/1") == ("m_1", 1)
    assert message_view(record, MessageBody([small, large])).parts == [small, large]


@pytest.mark.parametrize(
    "url", ["https://host/v1/messages/m/parts/1", "/v1/messages/m/parts/x", "/v1/messages//parts/1"]
)
def test_other_urls_are_not_parsed(url: str) -> None:
    """Only the gateway's own path refers to stored data."""
    assert parse_part_url(url) is None


def test_system_and_model_of_a_conversation_are_optional() -> None:
    """The view has the fields of the protocol; `system` and `model` are present only if they are set."""
    record = ConversationRecord(
        id="c",
        user="somebody",
        title="T",
        system=None,
        model=None,
        metadata=b'{"a":1}',
        head=None,
        revision=3,
        created_ms=0,
        updated_ms=1,
        messages=2,
        usage=Counters(1, 2, cost_nano=5000),
    )
    view = conversation_view(record)
    assert msgspec.to_builtins(view) == {
        "id": "c",
        "title": "T",
        "metadata": {"a": 1},
        "head": None,
        "revision": 3,
        "pinned": False,
        "created_at": "1970-01-01T00:00:00.000Z",
        "updated_at": "1970-01-01T00:00:00.001Z",
        "messages": 2,
        "usage": {"input_tokens": 1, "output_tokens": 2},
        "cost": {"amount": "0.000005", "currency": "USD"},
    }
    more = conversation_view(msgspec.structs.replace(record, system="Be brief.", model="demo"))
    assert (more.system, more.model) == ("Be brief.", "demo")
