"""Images in answers: their events, frames and log entries, and the context of later turns."""

from __future__ import annotations

import base64

import msgspec

from gateway.protocol.codec import CODECS, JSON
from gateway.protocol.events import TurnDelta, TurnPart, TurnReset
from gateway.protocol.part_data import DATA_PIECE_CHARS, PartData
from gateway.protocol.requests import FRAME_BYTES_OUT_MAX
from gateway.turns.image_events import TOO_LARGE
from gateway.turns.live_turn import LiveTurn
from gateway.turns.log_entries import APPEND_BYTES_MAX, decode_events, next_append
from gateway.turns.message_fold import BROKEN_IMAGE, fold, fold_final, fold_image, fold_shown
from gateway.turns.mirror import apply_entry
from providers.base import Delta, ImagePart, PartDelta, PartStarted, PartsWithdrawn, TextPart
from providers.retry.replay_dedupe import ReplayFilter
from store.records import LogEntry
from tests.unit.gateway.turns.test_event_writer import events, make_writer

BYTES = bytes(range(256)) * 1000
DATA = base64.b64encode(BYTES).decode()


def image(part: int = 0, data: str = DATA) -> list[Delta]:
    size = len(base64.b64decode(data))
    return [PartStarted(part, "image", media_type="image/png", size=size), PartDelta(part, data=data)]


def frames(live_turn: LiveTurn, after: int = 0) -> list[dict[str, object]]:
    """Return all frames after `after`, and check that they are contiguous (law 1) and small (law 10)."""
    found = []
    while after < live_turn.log.end:
        for codec in CODECS:
            payload, last = live_turn.log.frame_after(after, codec)
            assert len(payload) <= FRAME_BYTES_OUT_MAX
            frame = codec.decode_any(payload)
            assert frame.get("after", frame["seq"] - 1) == after
            assert (frame["seq"], "data" in frame) == (last, False)
        found.append(frame)
        after = last
    return found


async def test_law_10_an_image_is_one_small_frame_with_its_address() -> None:
    """Laws 1 and 10: the frame of the part covers the data. From a position in the data, a frame covers the rest."""
    writer = await make_writer()
    writer.live_turn.conversation, writer.live_turn.message = "c", "m_1"
    writer.deliver([*image(), PartStarted(1, "text"), PartDelta(1, "Nice.")])
    log = writer.live_turn.log
    pieces = -(-len(DATA) // DATA_PIECE_CHARS)
    shown = frames(writer.live_turn, 1)
    assert [frame["type"] for frame in shown] == ["turn.part", "turn.part", "turn.delta"]
    assert (shown[0]["url"], shown[0]["size"]) == ("/v1/messages/m_1/parts/0", len(BYTES))
    assert (shown[0]["after"], shown[0]["seq"]) == (1, 2 + pieces)
    assert frames(writer.live_turn, 3)[0] == {
        "type": "turn.delta",
        "turn": writer.live_turn.turn,
        "seq": 2 + pieces,
        "part": 0,
        "after": 3,
    }
    assert fold(log.events) == [ImagePart("image/png", data=DATA), TextPart("Nice.")]
    assert fold_shown(log.events) == [ImagePart("image/png", url="/v1/messages/m_1/parts/0"), TextPart("Nice.")]
    assert fold_image(log.events, 0) == ImagePart("image/png", data=DATA)
    assert fold_image(log.events, 1) is fold_image(log.events, 2) is None
    assert writer.live_turn.output_bytes > len(DATA)


async def test_a_stateless_turn_is_named_in_the_address() -> None:
    """The address of an image in an answer without a conversation names the turn."""
    writer = await make_writer()
    writer.live_turn.message = "m_1"
    writer.deliver(image())
    part = events(writer)[0]
    assert isinstance(part, TurnPart)
    assert part.url == f"/v1/messages/m_1/parts/0?turn={writer.live_turn.turn}"


async def test_an_image_that_is_too_large_becomes_a_text() -> None:
    """An image that would exceed the bound of the answer's size is left out, and the answer continues."""
    writer = await make_writer(output_bytes_max=len(DATA) + 2000)
    writer.deliver(image())
    writer.deliver([*image(1), PartStarted(2, "text"), PartDelta(2, "Two.")])
    assert not writer.live_turn.signal.is_aborted
    assert writer.parts() == [ImagePart("image/png", data=DATA), TextPart(TOO_LARGE), TextPart("Two.")]


async def test_a_withdrawn_image_that_is_too_large_replaces_no_later_text() -> None:
    """After a reset, a long text arrives that has the part number of an image that was left out."""
    writer = await make_writer(output_bytes_max=len(DATA) - 1)
    writer.deliver([*image(), PartsWithdrawn("again")])
    long_text = "word " * 4000
    writer.deliver([PartStarted(0, "text"), PartDelta(0, long_text)])
    assert writer.parts() == [TextPart(long_text)]


async def test_data_is_logged_in_bounded_entries_and_read_elsewhere() -> None:
    """Law 7: the log's entries are small, and another instance has the same frames and the same image."""
    writer = await make_writer()
    owner = writer.live_turn
    writer.deliver([*image(), *image(1, DATA * 3)])
    mirror = LiveTurn("ann", owner.turn, b"", owner.epoch)
    mirror.become_mirror()
    entries = 0
    while owner.stored_seq < owner.log.end:
        append = next_append(owner)
        assert len(append.payload) <= APPEND_BYTES_MAX + DATA_PIECE_CHARS
        assert append.last > owner.stored_seq
        assert apply_entry(mirror, LogEntry(append.epoch, append.first, append.last, append.payload))
        frames(mirror)
        owner.mark_stored(append.last)
        entries += 1
    assert entries > 4
    assert mirror.log.events == owner.log.events
    assert mirror.output_bytes == owner.output_bytes
    assert fold_image(mirror.log.events, 1) == ImagePart("image/png", data=DATA * 3)


async def test_a_broken_image_is_not_stored_as_an_image() -> None:
    """If the owner is lost before all of the data is in the log, a text says so. A replay completes the image."""
    writer = await make_writer()
    writer.deliver(image())
    kept = writer.live_turn.log.events[:-1]
    assert fold_image(kept, 0) is None
    assert fold_final(kept) == [TextPart(BROKEN_IMAGE)]
    rest = ReplayFilter(fold(kept)).filter(image())
    received = sum(len(event.data) for event in kept if isinstance(event, PartData))
    assert rest == [PartDelta(0, data=DATA[received:])]
    assert ReplayFilter([TextPart(TOO_LARGE)]).filter(image()) == []


def test_a_reset_drops_the_data() -> None:
    """After a `turn.reset`, the data of the parts before it is gone."""
    data = PartData("t", 3, 0, data="AAAA")
    part = TurnPart(turn="t", seq=2, part=0, kind="image", media_type="image/png", size=3)
    again = TurnPart(turn="t", seq=5, part=0, kind="image", media_type="image/png", size=3)
    assert fold([part, data, TurnReset("t", 4, 1, "again"), again]) == [ImagePart("image/png", data="")]


def test_an_entry_of_data_is_decoded() -> None:
    """The log's encoding keeps data apart from deltas."""
    both = [TurnDelta("t", 1, 0, "x"), PartData("t", 2, 0, data="AAAA")]
    assert [type(event) for event in decode_events(msgspec.msgpack.encode(both))] == [TurnDelta, PartData]
    assert JSON.decode_any(JSON.encode(both[0])) == {
        "type": "turn.delta",
        "turn": "t",
        "seq": 1,
        "part": 0,
        "text": "x",
    }
