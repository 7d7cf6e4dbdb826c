"""The log of a turn's events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.api import Store
from store.records import Append, Appended, LogEntry
from tests.conformance.base import Conformance
from tests.stored import LONG_MS, append, ending, entry, in_many_examples, numbers, piece, running, stateless_turn


class Logs(Conformance):
    """The log of a turn's events."""

    async def test_events_are_stored_in_order(self, store: Store) -> None:
        """Law 7: for any given seq, the log returns in order the entries that hold later events."""
        turn = await running(store)
        assert await store.log("ann", "t1", 0) == []
        pieces = [piece(turn, 1, 1), piece(turn, 2, 5), piece(turn, 6, 7)]
        assert await store.append(pieces) == [Appended("stored", 1), Appended("stored", 5), Appended("stored", 7)]
        every = [entry(one) for one in pieces]
        assert await store.log("ann", "t1", 0) == every
        assert await store.log("ann", "t1", 1) == every[1:]
        assert await store.log("ann", "t1", 3) == every[1:]
        assert await store.log("ann", "t1", 5) == every[2:]
        assert await store.log("ann", "t1", 7) == []
        assert await store.log("ann", "t1", 99) == []
        assert (await store.turn("ann", "t1")).seq == 7

    async def test_a_repeated_append_is_stored_once(self, store: Store) -> None:
        """A call whose reply was lost can be repeated, also with the events split differently."""
        turn = await running(store)
        both = [piece(turn, 1, 3), piece(turn, 4, 6)]
        await store.append(both)
        assert await store.append(both) == [Appended("stored", 6), Appended("stored", 6)]
        assert await append(store, piece(turn, 2, 4), piece(turn, 1, 6)) == ["stored", "stored"]
        assert await store.log("ann", "t1", 0) == [entry(one) for one in both]

    async def test_an_append_that_does_not_continue_the_log_is_a_gap(self, store: Store) -> None:
        """An append with a hole, or one that overlaps the end, changes nothing and returns the end.

        So does one that has other content for events that are stored.
        """
        turn = await running(store)
        assert await store.append([piece(turn, 2, 2)]) == [Appended("gap", 0)]
        await store.append([piece(turn, 1, 3)])
        for first, last in ((5, 5), (2, 5), (3, 4), (1, 4)):
            assert await store.append([piece(turn, first, last)]) == [Appended("gap", 3)]
        assert await store.append([piece(turn, 1, 3, payload=b"another")]) == [Appended("gap", 3)]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 3))]
        assert await append(store, piece(turn, 4, 4)) == ["stored"]

    async def test_an_append_to_an_unknown_turn_is_missing(self, store: Store) -> None:
        """Law 12: an append to an unknown turn or to another user's is `missing`; the other appends are stored."""
        turn = await running(store)
        unknown = Append("ann", "unknown", turn.epoch, 1, 1, b"x")
        theirs = Append("bob", "t1", turn.epoch, 1, 1, b"x")
        assert await append(store, unknown, piece(turn, 1, 1), theirs) == ["missing", "stored", "missing"]
        assert await store.log("bob", "t1", 0) == []
        assert await store.log("ann", "unknown", 0) == []

    async def test_a_former_owner_can_not_write(self, store: Store) -> None:
        """Law 9: a former owner's writes are refused, and the log continues in the new epoch."""
        turn = await running(store)
        await store.append([piece(turn, 1, 4)])
        claimed = await store.claim("ann", "t1", "two", turn.epoch, LONG_MS, force=True)
        assert claimed is not None
        assert await append(store, piece(turn, 5, 5), piece(turn, 1, 4)) == ["fenced", "fenced"]
        assert await append(store, piece(claimed, 3, 4), piece(claimed, 1, 4)) == ["gap", "gap"]
        assert await append(store, piece(claimed, 5, 6), piece(claimed, 5, 6)) == ["stored", "stored"]
        assert await append(store, piece(claimed, 7, 7, epoch=claimed.epoch + 1)) == ["fenced"]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 4)), entry(piece(claimed, 5, 6))]
        assert await store.log("ann", "t1", 4) == [entry(piece(claimed, 5, 6))]
        assert await store.log("ann", "t1", 2) == await store.log("ann", "t1", 0)

    async def test_nothing_follows_an_ending(self, store: Store) -> None:
        """Law 2: nothing is appended to an ended turn's log, and its entries stay."""
        turn = await running(store)
        await store.end(ending(turn))
        assert await append(store, piece(turn, 10, 10), piece(turn, 1, 9)) == ["fenced", "stored"]
        assert await store.log("ann", "t1", 0) == [entry(piece(turn, 1, 9))]

    async def test_one_call_appends_to_many_logs(self, store: Store) -> None:
        """The results are in the order of the appends, for any turns and users."""
        turns = [await running(store, stateless_turn(f"t{n}", f"user{n % 3}")) for n in range(30)]
        pieces = [piece(turn, first, first) for first in (1, 2) for turn in turns]
        assert [one.end for one in await store.append(pieces)] == [1] * 30 + [2] * 30
        assert await store.append([]) == []
        for turn in turns:
            assert [one.last for one in await store.log(turn.user, turn.turn, 0)] == [1, 2]

    async def test_a_long_log_is_read_in_pieces(self, store: Store) -> None:
        """One read returns about 1 MiB at most, and the next read continues after it."""
        turn = await running(store)
        size = 64 * 1024
        for n in range(1, 41):
            await store.append([piece(turn, n, n, payload=n.to_bytes(2, "big") * (size // 2))])
        read: list[LogEntry] = []
        while entries := await store.log("ann", "t1", read[-1].last if read else 0):
            assert sum(len(one.payload) for one in entries) <= 1.5 * 2**20
            read += entries
        assert [one.last for one in read] == list(range(1, 41))
        assert all(one.payload == one.last.to_bytes(2, "big") * (size // 2) for one in read)

    @in_many_examples
    @given(
        steps=st.lists(
            st.one_of(
                st.just("claim"),
                st.tuples(st.integers(0, 1), st.integers(1, 12), st.integers(0, 4)),
            ),
            max_size=25,
        )
    )
    async def test_a_log_is_always_contiguous(self, store: Store, steps: list[str | tuple[int, int, int]]) -> None:
        """Laws 1 and 9: after any repeated, late or overlapping appends, the log has each seq once, in order."""
        user = f"user{next(numbers)}"
        turn = await running(store, stateless_turn(user=user))
        epochs, begins, end = [turn.epoch], 1, 0
        stored: list[LogEntry] = []
        for step in steps:
            if isinstance(step, str):
                claimed = await store.claim(user, "t1", f"owner{len(epochs)}", 1, LONG_MS, force=True)
                assert claimed is not None
                assert (claimed.epoch > epochs[-1], claimed.seq) == (True, end)
                epochs.append(claimed.epoch)
                begins = end + 1
                continue
            back, first, more = step
            epoch = epochs[max(0, len(epochs) - 1 - back)]
            new = piece(turn, first, first + more, epoch=epoch)
            if epoch != epochs[-1]:
                expected = "fenced"
            elif first == end + 1:
                expected, end = "stored", new.last
                stored.append(entry(new))
            else:
                expected = "stored" if first >= begins and new.last <= end else "gap"
            (appended,) = await store.append([new])
            assert (appended.outcome, appended.end) == (expected, end)
        assert await store.log(user, "t1", 0) == stored
        for after in range(end + 1):
            assert await store.log(user, "t1", after) == [one for one in stored if one.last > after]
