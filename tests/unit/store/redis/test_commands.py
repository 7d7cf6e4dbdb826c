"""Commands are encoded as the Redis protocol requires, for any size of argument."""

from __future__ import annotations

from itertools import chain

import pytest
from hiredis import pack_command

from store.redis.commands import SLICE_BYTES, Argument, pack_commands


@pytest.mark.parametrize("size", [0, 1, SLICE_BYTES, SLICE_BYTES + 1, 3 * SLICE_BYTES, 5 * SLICE_BYTES - 1])
def test_commands_are_encoded_as_by_hiredis(size: int) -> None:
    """The encoding of several commands, with text, numbers, and bytes of any size, is the same as that of hiredis."""
    commands: list[tuple[Argument, ...]] = [("GET", "é", 7), ("SET", "k", b"x" * size, -1, b""), (b"PING",)]
    pieces = list(pack_commands(commands))
    assert b"".join(chain.from_iterable(pieces)) == b"".join(map(pack_command, commands))  # type: ignore[arg-type]


def test_a_large_argument_is_sent_in_slices() -> None:
    """The slices are views, so a large argument isn't copied. Small arguments are sent together with a slice."""
    value = bytes(10 * SLICE_BYTES)
    pieces = list(pack_commands([("GET", "k"), ("SET", "k", value), ("GET", "k")]))
    assert len(pieces) == 11
    views = [part for piece in pieces for part in piece if isinstance(part, memoryview)]
    assert all(view.obj is value for view in views if len(view) == SLICE_BYTES)
    assert max(sum(map(len, piece)) for piece in pieces) < SLICE_BYTES + 200


def test_an_argument_in_pieces_is_encoded_as_one() -> None:
    """Its pieces aren't joined, and a piece that is large is sent in slices."""
    large = bytes(2 * SLICE_BYTES + 1)
    pieces = list(pack_commands([("SET", "k", (b"a", large, b"", b"b"))]))
    assert b"".join(chain.from_iterable(pieces)) == pack_command(("SET", "k", b"a" + large + b"b"))  # type: ignore[arg-type]
    views = [part for piece in pieces for part in piece if isinstance(part, memoryview)]
    assert sum(view.obj is large for view in views) == 3


def test_small_commands_are_sent_together() -> None:
    """A hundred small commands are one list of buffers, so they are sent in one write."""
    assert len(list(pack_commands([("GET", f"k{n}") for n in range(100)]))) == 1
