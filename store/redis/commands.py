"""Encoding of commands for Redis, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hiredis import pack_command

SLICE_BYTES = 256 * 1024
"""How much of a long argument is sent at once. The kernel takes it in less than a millisecond."""

Argument = bytes | str | int | tuple[bytes, ...]
"""A tuple is one long argument in pieces, which are sent one after the other."""


def pack_commands(commands: Sequence[tuple[Argument, ...]]) -> Iterator[list[Any]]:
    """Yield `commands` as lists of buffers to send.

    Small commands are sent together. Bytes and pieces above `SLICE_BYTES` aren't copied, and are sent slice by slice.
    """
    pack: Any = pack_command  # its annotation allows only commands of one word
    small: list[Any] = []  # bytes and slices of bytes, which the annotations of redis-py don't allow
    for command in commands:
        # A loop without a call, because a flush has thousands of arguments.
        if not [
            one for one in command if one.__class__ is tuple or (one.__class__ is bytes and len(one) > SLICE_BYTES)
        ]:
            small.append(pack(command))
            continue
        small.append(b"*%d\r\n" % len(command))
        for argument in command:
            pieces = argument if isinstance(argument, tuple) else (_encode(argument),)
            small.append(b"$%d\r\n" % sum(map(len, pieces)))
            for piece in pieces:
                for begin in range(0, len(piece), SLICE_BYTES):
                    small.append(memoryview(piece)[begin : begin + SLICE_BYTES])
                    if len(piece) > SLICE_BYTES:
                        yield small
                        small = []
            small.append(b"\r\n")
    yield small


def _encode(argument: bytes | str | int) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()
