"""Commands on their way to Redis: as the protocol has them, whatever their size."""

from __future__ import annotations

from itertools import chain

import pytest
from hiredis import pack_command

from store.redis.commands import SLICE_BYTES, Argument, pack_commands


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES, 5 * SLICE_BYTES - 1])
def test_a_command_is_written_as_any_client_writes_it(size: int) -> None:
    """Texts, numbers, small and large bytes; and several commands one behind the other."""
    commands: list[tuple[Argument, ...]] = [("GET", "é", 7), ("SET", "k", b"x" * size, -1, b""), (b"PING",)]
    pieces = list(pack_commands(commands))
    assert b"".join(chain.from_iterable(pieces)) == b"".join(map(pack_command, commands))  # type: ignore[arg-type]


def test_a_large_argument_goes_out_slice_by_slice() -> None:
    """Each is a view of the argument, which is not copied; what is small goes out with it."""
    value = bytes(10 * SLICE_BYTES)
    pieces = list(pack_commands([("GET", "k"), ("SET", "k", value), ("GET", "k")]))
    assert len(pieces) == 11
    views = [part for piece in pieces for part in piece if isinstance(part, memoryview)]
    assert all(view.obj is value for view in views if len(view) == SLICE_BYTES)
    assert max(sum(map(len, piece)) for piece in pieces) < SLICE_BYTES + 200


def test_small_commands_are_one_piece() -> None:
    """One write, however many they are."""
    assert len(list(pack_commands([("GET", f"k{n}") for n in range(100)]))) == 1
