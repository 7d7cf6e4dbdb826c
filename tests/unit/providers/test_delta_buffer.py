"""How the delta buffer opens parts and appends to them."""

import pytest

from providers.base import Finished, PartDelta, PartStarted, PartsWithdrawn
from providers.delta_buffer import DeltaBuffer
from tests.answers import fold


def test_consecutive_pieces_are_merged() -> None:
    """Consecutive pieces of one part within a batch are merged into one delta."""
    parts = DeltaBuffer()
    for piece in ("a", "b", "", "c"):
        parts.append_text("text", piece)
    assert parts.drain() == [PartStarted(0, "text"), PartDelta(0, "abc")]
    parts.append_text("text", "d")
    assert parts.drain() == [PartDelta(0, "d")]
    assert parts.drain() == []


def test_another_kind_opens_a_new_part() -> None:
    """A part ends where another kind begins, and later text of the first kind opens a new part."""
    parts = DeltaBuffer()
    parts.append_text("reasoning", "hm")
    parts.append_text("text", "yes")
    parts.append_text("reasoning", "or")
    assert fold([parts.drain()]).parts == [("reasoning", "hm"), ("text", "yes"), ("reasoning", "or")]
    assert (parts.last_kind, parts.last, parts.count) == ("reasoning", 2, 3)


def test_calls_interleave() -> None:
    """The arguments of parallel calls go to their own parts, in order of arrival."""
    parts = DeltaBuffer()
    first, second = parts.open_tool_call(0, "c0", "f"), parts.open_tool_call(1, "c1", "g")
    for part, text in ((first, "{"), (second, "["), (first, "}"), (second, "]")):
        parts.append(part, text)
    assert parts.find_part(1) == second
    assert parts.find_part(2) is None
    batch = parts.drain()
    assert batch[2:] == [PartDelta(0, "{"), PartDelta(1, "["), PartDelta(0, "}"), PartDelta(1, "]")]
    assert fold([batch]).parts == [("tool_call", "{}"), ("tool_call", "[]")]


def test_signature_and_text_are_separate_deltas() -> None:
    """A delta holds text or a signature, never both, and an empty signature is ignored."""
    parts = DeltaBuffer()
    part = parts.open_part("reasoning", key=0)
    parts.append(part, "why")
    parts.append_signature(part, "")
    parts.append_signature(part, "s1")
    parts.append(part, " not")
    assert parts.drain()[1:] == [PartDelta(0, "why"), PartDelta(0, signature="s1"), PartDelta(0, " not")]


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "u", "", " https://x", "https://x\n", "https://"]
)
def test_a_citation_url_must_be_http(url: str) -> None:
    """A URL that isn't a whole http or https URL is left out. A citation with nothing else is left out as a whole."""
    parts = DeltaBuffer()
    parts.add_citation(url=url, title="t", text=None)
    parts.add_citation(url=url, title=None, text=None)
    parts.add_citation(url="HTTP://x/y?z", title=None, text=None)
    assert [(one.url, one.title) for one in parts.drain() if isinstance(one, PartStarted)] == [
        (None, "t"),
        ("HTTP://x/y?z", None),
    ]


def test_text_continues_after_a_citation() -> None:
    """Text after a citation continues the same part."""
    parts = DeltaBuffer()
    parts.append_text("text", "Water is wet")
    parts.add_citation(url="https://u", title="t", text="x")
    parts.append_text("text", ", they say.")
    answer = fold([parts.drain()])
    assert answer.parts == [("text", "Water is wet, they say."), ("citation", "")]
    assert answer.started[1] == PartStarted(1, "citation", url="https://u", title="t", text="x")


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["\ud83d", "\ude00!"], "😀!"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["\ude00"], "\ufffd"),
        (["a\ud83d"], "a\ufffd"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["é", "\ud83d\ude00"], "é😀"),
    ],
)
def test_split_surrogate_pairs(pieces: list[str], text: str) -> None:
    """A split surrogate pair is joined, and a lone surrogate is replaced."""
    parts = DeltaBuffer()
    batches = []
    for piece in pieces:
        parts.append_text("text", piece)
        batches.append(parts.drain())
    parts.close()
    batches.append(parts.drain())
    answer = fold(batches)
    assert answer.text() == text
    assert answer.text().encode()


def test_other_deltas_keep_their_position() -> None:
    """A delta that doesn't belong to a part keeps its position."""
    parts = DeltaBuffer()
    parts.append_text("text", "a")
    parts.append_delta(Finished("stop"))
    assert parts.drain() == [PartStarted(0, "text"), PartDelta(0, "a"), Finished("stop")]


def test_withdrawn_parts() -> None:
    """After a withdrawal, parts are numbered from 0 again. Parts that no batch has had yet simply aren't sent."""
    parts = DeltaBuffer()
    parts.append_text("text", "a\ud83d")
    parts.withdraw("why")
    assert (parts.count, parts.last, parts.last_kind, parts.kinds) == (0, -1, None, set())
    parts.append_text("reasoning", "b")
    assert parts.drain() == [PartStarted(0, "reasoning"), PartDelta(0, "b")]
    parts.open_tool_call("key", "c", "f")
    parts.append_delta(Finished("stop"))
    parts.withdraw("why")
    assert parts.find_part("key") is None
    parts.append_text("text", "c")
    assert parts.drain() == [Finished("stop"), PartsWithdrawn("why"), PartStarted(0, "text"), PartDelta(0, "c")]
    parts.close()
    assert parts.drain() == []
