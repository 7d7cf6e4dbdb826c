"""Encoding of commands for Redis, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hiredis import pack_command

SLICE_BYTES = 64 * 1024

Argument = bytes | str | int


def pack_commands(commands: Sequence[tuple[Argument, ...]]) -> Iterator[list[Any]]:
    """Yield `commands` as lists of buffers to send.

    Small commands are sent together. An argument of type bytes above `SLICE_BYTES` isn't copied, and is sent slice by slice.
    """
    pack: Any = pack_command  # its annotation allows only commands of one word
    small: list[Any] = []  # bytes and slices of bytes, which the annotations of redis-py don't allow
    for command in commands:
        if not any(isinstance(argument, bytes) and len(argument) > SLICE_BYTES for argument in command):
            small.append(pack(command))
            continue
        small.append(b"*%d\r\n" % len(command))
        for argument in command:
            value = argument if isinstance(argument, bytes) else str(argument).encode()
            small.append(b"$%d\r\n" % len(value))
            for begin in range(0, len(value), SLICE_BYTES):
                small.append(memoryview(value)[begin : begin + SLICE_BYTES])
                if len(value) > SLICE_BYTES:
                    yield small
                    small = []
            small.append(b"\r\n")
    yield small
