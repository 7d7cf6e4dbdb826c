"""The address of AG-UI: start a run, attach to it, or show a thread."""

from __future__ import annotations

from starlette.responses import Response

from gateway.dialects.ag_ui import AG_UI, Run, run_of
from gateway.dialects.ag_ui_history import ThreadHistory
from gateway.dialects.ag_ui_request import RunInput
from gateway.dialects.ag_ui_stream import RunStream
from gateway.dialects.base import Shaped, renamed
from gateway.dialects.stream import SSE
from gateway.http.dialects.conversations import (
    ChatSession,
    attach_to,
    find_running,
    place_start,
    place_with_empty_context,
    read_history,
)
from gateway.http.dialects.serving import TURN_HEADER, respond, skip_withdrawn, stream_turn, view_at
from gateway.http.negotiation import EVENT_ID, parse_last_event_id
from gateway.http.operation import HeaderSpec, Operation, RequestContext, ResponseSpec
from gateway.http.responses import NO_STORE
from gateway.http.session import HttpSession
from gateway.http.turns import attach
from gateway.offload import offload
from gateway.protocol import requests as p
from gateway.protocol.errors import ApiError
from gateway.protocol.events import TurnStarted
from gateway.protocol.results import Conversation, TurnView
from gateway.requests.services import Services

PART_BYTES = 200
"""About how many bytes a stored part counts as, for `offload`."""


class _AtEnd(Exception):
    """The client has the whole stream already."""


class _Stored(Exception):
    """No events are kept: the client gets the stored answer as the body of the response."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body


async def run_agent(context: RequestContext) -> Response | None:
    """Serve a run. Raises `ApiError` and `ClientDisconnect`."""
    context.services.memory.check()
    position = parse_last_event_id(context.headers)
    body = await context.body(context.services.settings.body_bytes)
    size = len(body)
    run = await offload(size, run_of, body, context.headers)
    del body
    stream = RunStream(run.thread, run.run, run.parent_run)

    async def begin(session: HttpSession) -> None:
        if run.is_empty and position[1] <= 1:
            context.answer_headers[TURN_HEADER] = await _attach_or_show(context.services, session, run, stream)
            return
        context.answer_headers[TURN_HEADER] = run.turn
        if position[1] > 1:
            await _resume(session, run, stream, position)
        else:
            await _start(context.services, session, run, stream, size)
        context.release_body()

    try:
        await stream_turn(context, stream, begin)
    except _Stored as stored:
        return respond(context, Shaped(200, stored.body, {"content-type": SSE}))
    except _AtEnd:
        return Response(status_code=204, headers={**NO_STORE, **context.answer_headers})
    return None


async def _start(services: Services, session: ChatSession, run: Run, stream: RunStream, size: int) -> None:
    """Start the run, or attach to the one that has its id. Raises `ApiError` and `_Stored`."""
    history = await read_history(session, run.conversation, ThreadHistory, run.is_settled)
    stored = history.input_of(run.turn)
    if stored is not None:
        await offload(size, run.check_repeated, stored, history)
        await _attach_again(session, run, stream, history)
        return
    if run.shows_answer or not run.spoken:
        await _check_exists(session, run)

    async def prepare_first() -> p.TurnStart | None:
        nonlocal history
        history = await read_history(session, run.conversation, ThreadHistory, run.is_settled)
        if history.input_of(run.turn) is not None:
            return None
        start = await offload(size, run.start, history)
        return start if run.begins_again and history.messages else None

    start = await offload(size, run.start, history)
    try:
        if run.begins_again and history.messages:
            placed = await place_with_empty_context(services, session, run.conversation, prepare_first, run.path)
            if placed is None:
                await _start(services, session, run, stream, size)
                return
        else:
            await place_start(services, session, start, run.path)
    except ApiError as error:
        raise _stored_or(error, run, stream, history) from None
    await _add_snapshots(session, run, stream, history)


async def _check_exists(session: ChatSession, run: Run) -> None:
    """Check that the run, whose answer the client shows, exists in this thread. Raises `ApiError`."""
    try:
        view: TurnView = await session.handle(p.TurnGet(turn=run.turn))
    except ApiError as error:
        raise run.nothing_to_answer() if error.code == "not_found" else error from None
    if view.conversation != run.conversation:
        raise ApiError("conflict", path="runId")


async def _attach_again(session: ChatSession, run: Run, stream: RunStream, history: ThreadHistory) -> None:
    """Attach to a run whose input is stored. Raises `ApiError` and `_Stored`."""
    try:
        await attach_to(session, run.turn)
        if run.turn not in session.outbox.attachments:
            raise ApiError("gone")
    except ApiError as error:
        raise _stored_or(error, run, stream, history) from None
    await _add_snapshots(session, run, stream, history)


def _stored_or(error: ApiError, run: Run, stream: RunStream, history: ThreadHistory) -> Exception:
    """Return the exception to raise if attaching failed: `_Stored` if the events are gone, but the answer is stored."""
    answer = history.answer_of(run.turn)
    if error.code not in {"gone", "not_found"} or answer is None:
        return error
    stream.snapshots = run.all_snapshots(history, answer.id)
    return _Stored(stream.stored(answer))


async def _add_snapshots(
    session: ChatSession, run: Run, stream: RunStream, history: ThreadHistory, turn: str | None = None
) -> None:
    """Let a stream begin with the messages of the thread that the client lacks. The session has attached to its turn."""
    turn = turn or run.turn
    skip_withdrawn(session.outbox, turn, stream)
    log = session.outbox.attachments[turn].log
    started = log.events[0] if log.events else None
    if not isinstance(started, TurnStarted):
        return
    parent = started.parent if started.input is None else started.input.parent
    if parent is not None and not history.has(parent):
        # The turn before has ended since the history was read.
        history = await read_history(session, run.conversation, ThreadHistory, lambda newer: newer.has(parent))
    size = sum(len(message.parts) for message in history.messages)
    stream.snapshots = await offload(size * PART_BYTES, run.snapshots, history, started)


async def _resume(session: HttpSession, run: Run, stream: RunStream, position: tuple[int, int]) -> None:
    """Attach to the run after a position. Raises `ApiError` and `_AtEnd`."""
    epoch, after = position
    try:
        view: TurnView = await session.handle(p.TurnGet(turn=run.turn))
    except ApiError as error:
        raise renamed(error, run.path) from None
    if view.conversation != run.conversation:
        raise ApiError("conflict", path="runId")
    if not run.is_empty:
        history = await read_history(session, run.conversation, ThreadHistory, run.is_settled)
        if (stored := history.input_of(run.turn)) is not None:
            run.check_repeated(stored, history)
    if view.status not in {"queued", "running"} and after >= view.seq:
        raise _AtEnd
    await attach(session, p.TurnAttach(turn=run.turn, epoch=epoch, after=after))
    stream.resume(await view_at(session, run.turn, after), epoch)


async def _attach_or_show(services: Services, session: ChatSession, run: Run, stream: RunStream) -> str:
    """Attach to the run, or to the newest one that runs in the thread. Return its id. If none runs, raise `_Stored`.

    Raises `ApiError`.
    """
    history = await read_history(session, run.conversation, ThreadHistory)
    if not history.exists:
        raise run.nothing_to_answer()
    stored = history.input_of(run.turn)
    if stored is not None:
        await _attach_again(session, run, stream, history)
        return run.turn
    running = await find_running(services, session, run.conversation)
    while running:
        turn = running.pop()
        try:
            await attach_to(session, turn)
        except ApiError as error:
            if error.code not in {"gone", "not_found"}:
                raise
            continue
        if turn in session.outbox.attachments:
            stream.run = turn
            await _add_snapshots(session, run, stream, history, turn)
            return turn
    found: Conversation = await session.handle(p.ConversationGet(conversation=run.conversation))
    stream.snapshots = run.all_snapshots(history, found.head)
    raise _Stored(stream.stored(None))


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST",
        "/ag-ui",
        "AG-UI: run the agent, or attach to a run",
        run_agent,
        (
            ResponseSpec("The events of the run.", is_binary=True),
            ResponseSpec("The client has all of them already.", status=204),
        ),
        headers=(
            HeaderSpec(
                "Last-Event-ID", "The id of the last event of this run.", rf"^({EVENT_ID.pattern.strip('^$')})?$"
            ),
        ),
        dialect=AG_UI,
        body=RunInput,
    ),
)
