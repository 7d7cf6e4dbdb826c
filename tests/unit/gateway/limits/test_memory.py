"""Tests of the memory limit: near it, a process accepts no new work until memory is free again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.limits import memory as memory_module
from gateway.limits.memory import CGROUP_SHARE, Memory, cgroup_limit_bytes, resident_bytes
from gateway.protocol.errors import ApiError
from tests.in_process import eventually

MIB = 2**20


async def test_new_work_is_refused_while_memory_is_full() -> None:
    """While a large block is allocated, new work is refused with a retry time.

    After it is freed, new work is accepted.
    """
    memory = Memory(resident_bytes() + 64 * MIB)
    task = asyncio.create_task(memory.run())
    await asyncio.sleep(0)
    memory.check()
    block = bytearray(b"x") * (128 * MIB)
    await eventually(lambda: memory.is_full)
    with pytest.raises(ApiError) as refused:
        memory.check()
    assert refused.value.code == "rate_limited"
    assert refused.value.body.retry_after_ms
    del block
    await eventually(lambda: not memory.is_full)
    memory.check()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("written", "limit"), [("1000000\n", 1_000_000), ("max\n", 0), ("9223372036854771712\n", 0)])
def test_the_default_limit_is_a_share_of_the_limit_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, limit: int
) -> None:
    """The container's limit comes from cgroup v1 or v2; without one there is no limit.

    A configured limit takes precedence.
    """
    file = tmp_path / "memory.max"
    file.write_text(written)
    monkeypatch.setattr(memory_module, "_CGROUP_LIMITS", (tmp_path / "none", file))
    assert cgroup_limit_bytes() == limit
    assert Memory(0).bytes_max == int(CGROUP_SHARE * limit)
    assert Memory(5).bytes_max == 5


async def test_without_a_limit_memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` also returns at once on a system that doesn't report the memory in use."""
    monkeypatch.setattr(memory_module, "_CGROUP_LIMITS", ())
    await asyncio.wait_for(Memory(0).run(), 1)
    monkeypatch.setattr(memory_module, "_HAS_STATM", False)
    await asyncio.wait_for(Memory(1).run(), 1)
