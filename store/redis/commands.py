"""Commands as they are sent to Redis. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hiredis import pack_command

SLICE_BYTES = 64 * 1024

Argument = bytes | str | int


def packed(commands: Sequence[tuple[Argument, ...]]) -> Iterator[list[Any]]:
    """As they are sent: small ones in one piece. Large arguments aren't copied, and go out slice by slice."""
    pack: Any = pack_command  # its annotation knows commands of one word alone
    small: list[Any] = []  # bytes and slices of them, of which the annotations of redis-py know nothing
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
