"""Programs that end badly with an open connection. Each prints the codes of the errors it gets; stderr has to stay empty.

python -W error -m tests.client_cases.python_endings URL
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from turnwire.client import AbortController, AbortSignal, Gateway, TurnwireError, connect

SLOW: dict[str, Any] = {"demo": {"rate": 20, "tokens": 60}}


async def code_of(attempt: Callable[[], Awaitable[object]] | Callable[[], object]) -> str:
    """Return the code of the error, which has to be a sentence."""
    try:
        result = attempt()
        if hasattr(result, "__await__"):
            await result
    except TurnwireError as error:
        assert str(error)[0].isupper(), error
        assert str(error).endswith("."), error
        return error.code
    return "none"


def the_loop_is_closed(url: str, transport: Any) -> list[str]:
    """A loop is closed while a turn runs in it. What is left says so in the next loop."""
    loop = asyncio.new_event_loop()

    async def begin() -> tuple[Gateway, Any]:
        gateway = await connect(url, transport=transport)
        turn = gateway.start("Hi", params=SLOW)
        await turn.accepted()
        return gateway, turn

    gateway, turn = loop.run_until_complete(begin())
    waits = loop.create_task(turn._result())
    loop.run_until_complete(asyncio.sleep(0.05))
    waits.cancel()
    loop.run_until_complete(asyncio.wait([waits]))
    loop.close()

    async def go_on() -> list[str]:
        codes = [await code_of(lambda: gateway.start("Hi")), await code_of(lambda: turn), await code_of(gateway.models)]
        await gateway.close()
        return codes

    return asyncio.run(go_on())


def the_loop_is_closed_and_nobody_looks(url: str) -> list[str]:
    """As above, but everything is forgotten at once."""
    loop = asyncio.new_event_loop()

    async def begin() -> Gateway:
        gateway = await connect(url)
        gateway.start("Hi", params=SLOW)
        return gateway

    gateway = loop.run_until_complete(begin())
    loop.close()
    del gateway
    gc.collect()
    return []


def the_program_returns(url: str) -> list[str]:
    """`asyncio.run` ends without a `close`."""

    async def main() -> None:
        gateway = await connect(url)
        turn = gateway.start("Hi", params=SLOW)
        await turn.accepted()

    asyncio.run(main())
    gc.collect()
    return []


async def it_is_forgotten(url: str) -> list[str]:
    """Nothing refers to a gateway any more, in a loop that goes on. Its tasks end when its turns have ended, and who reads its
    events keeps it."""
    before = len(asyncio.all_tasks())
    await connect(url)
    events = (await connect(url)).events()
    gc.collect()
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) > before
    del events
    turn = (await connect(url)).start("Hi", params={"demo": {"rate": 0, "tokens": 3}})
    gc.collect()
    assert (await turn).text
    del turn
    async with asyncio.timeout(10):
        while len(asyncio.all_tasks()) > before:
            gc.collect()
            await asyncio.sleep(0.02)
    return []


async def the_process_forks(url: str) -> list[str]:
    """A child process can't use the connection, and its parent isn't disturbed by it."""
    async with connect(url) as gateway:
        turn = gateway.start("Hi", params={"demo": {"rate": 50, "tokens": 20}})
        await turn.accepted()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            codes = [code(lambda: gateway.start("Hi")), code(lambda: gateway.events())]
            del gateway, turn
            gc.collect()
            os.write(writer, " ".join(codes).encode())
            os._exit(0)
        os.close(writer)
        await asyncio.to_thread(os.waitpid, child, 0)
        codes = os.read(reader, 1000).decode().split()
        os.close(reader)
        message = await turn
        assert message.status == "completed"
        assert gateway.openings == 1
        return codes


def code(attempt: Callable[[], object]) -> str:
    """Return the code of the error of a function that isn't async."""
    try:
        attempt()
    except TurnwireError as error:
        return error.code
    return "none"


async def another_thread(url: str) -> list[str]:
    """A connection is used in the loop of another thread; a signal may be aborted there."""
    async with connect(url) as gateway:
        controller = AbortController()
        turn = gateway.start("Hi", params=SLOW, signal=AbortSignal.any([controller.signal, AbortSignal.timeout(60)]))
        await turn.accepted()
        codes: list[str] = []

        async def elsewhere() -> None:
            codes.append(await code_of(lambda: gateway.start("Hi")))
            codes.append(await code_of(lambda: turn))

        def run() -> None:
            asyncio.run(elsewhere())
            controller.abort("from a thread")

        thread = threading.Thread(target=run)
        thread.start()
        message = await turn
        thread.join()
        assert (message.status, message.reason) == ("cancelled", "from a thread")
        return codes


async def a_task_is_cancelled(url: str) -> list[str]:
    """The task that awaits a turn is cancelled while the gateway fails: nothing is left, and nothing is logged."""
    gateway = await connect(url)
    turn = gateway.start("Hi", params=SLOW)
    waits = [asyncio.ensure_future(work) for work in (turn._result(), gateway.models(), turn.cancel(), gateway.ping())]
    await asyncio.sleep(0)
    for task in waits[:2]:
        task.cancel()
    await gateway.close()
    await asyncio.wait(waits)
    codes = sorted({str(getattr(task.exception(), "code", None)) for task in waits[2:] if not task.cancelled()})
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return codes


def show(name: str, *codes: str) -> None:
    """Write the codes of a program."""
    gc.collect()
    sys.stdout.write(" ".join([name, *codes]) + "\n")


def main(url: str) -> None:
    """Run all of them."""
    for transport in ("socket", "http"):
        show("closed loop", transport, *the_loop_is_closed(url, transport))
    show("forgotten loop", *the_loop_is_closed_and_nobody_looks(url))
    show("no close", *the_program_returns(url))
    show("forgotten", *asyncio.run(it_is_forgotten(url)))
    show("fork", *asyncio.run(the_process_forks(url)))
    show("thread", *asyncio.run(another_thread(url)))
    show("cancelled task", *asyncio.run(a_task_is_cancelled(url)))


if __name__ == "__main__":
    main(sys.argv[1])
