"""The requests that a client may send, as tagged structs, and the frames that answer them.

Events that the server sends without a request are in `events.py`. Rules that need more than one field are in
`validation.py` and `gateway/requests/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.protocol.errors import ErrorBody
from gateway.protocol.plain_text import PLAIN_PATTERN
from providers.base import Params, Part, Role, TextPart, Tool, ToolChoice

PROTOCOL = "turnwire.v1"
FRAME_BYTES_OUT_MAX = 16_384
PIECE_BYTES_MAX = 15_000
DEPTH_MAX = 32
ID_CHARS_MAX = 64
USER_BYTES_MAX = 255

assert PIECE_BYTES_MAX + 512 + 2 * USER_BYTES_MAX < FRAME_BYTES_OUT_MAX, (
    "a piece, its envelope and `as` must fit a frame"
)

RequestId = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, pattern=PLAIN_PATTERN)]
OWN_ID_PATTERN = r"\A[A-Za-z0-9_.\-]{1,64}\Z"
TurnId = Annotated[str, Meta(pattern=OWN_ID_PATTERN)]
ConversationId = TurnId
Key = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, pattern=PLAIN_PATTERN)]
ModelId = Annotated[str, Meta(min_length=1, max_length=200, pattern=PLAIN_PATTERN)]
Title = Annotated[str, Meta(max_length=300)]
PageLimit = Annotated[int, Meta(ge=1, le=200)]
Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
UserName = Annotated[str, Meta(min_length=1, max_length=USER_BYTES_MAX, pattern=PLAIN_PATTERN)]
Metadata = dict[str, Any]
Rating = Literal["up", "down"] | Annotated[int, Meta(ge=1, le=5)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """The fields of every request: `id`, to get an answer, and `as`, the user that a service acts for."""

    id: RequestId | None = None
    as_: UserName | None = msgspec.field(default=None, name="as")


class Position(Struct, frozen=True, forbid_unknown_fields=True):
    """A client's position in a turn: the last received `seq`, and the `epoch` in which it was written."""

    epoch: Count
    seq: Count


class InputMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A message of a stateless turn. Only `role` and `parts` are used.

    The other fields are ignored. They are allowed so that a client can send history back as it was received.
    """

    role: Role
    parts: list[Part]
    id: str | None = None
    parent: str | None = None
    turn: str | None = None
    model: str | None = None
    created_at: str | None = None
    usage: Any = None
    cost: Any = None
    ended: str | None = None
    finish_reason: str | None = None
    stop_sequence: str | None = None
    by: str | None = None
    reason: str | None = None
    error: Any = None
    timing: Any = None
    provider: str | None = None
    metadata: Any = None
    rating: str | int | None = None
    comment: str | None = None


UNTYPED_MESSAGE_FIELDS = ("usage", "cost", "error", "timing", "metadata")
"""The fields of an `InputMessage` that may have any JSON value."""


class Auth(Request, frozen=True, tag="auth"):
    """Authenticate, or renew the credential of an open connection."""

    token: str


class Ping(Request, frozen=True, tag="ping"):
    """Measure the round-trip time."""

    t: int | float | None = None


class TurnStart(Request, frozen=True, tag="turn.start"):
    """Start a turn: send input to a model. `turn` is the idempotency key.

    With `create`, the conversation is created if its user has none with that id. With `continue`, the turn goes on from the
    answer `parent`, in a new answer beside it.
    """

    turn: TurnId | None = None
    conversation: ConversationId | None = None
    create: bool = False
    model: ModelId | None = None
    input: str | list[Part] | None = None
    parent: Key | None = None
    continue_: bool = msgspec.field(default=False, name="continue")
    messages: list[InputMessage] | None = None
    system: str | None = None
    params: Params = Params()
    tools: Annotated[list[Tool], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    on_busy: Literal["parallel", "queue", "reject", "interrupt"] = "parallel"
    on_disconnect: Literal["continue", "cancel"] = "continue"
    metadata: Metadata | None = None

    @property
    def input_parts(self) -> list[Part]:
        """The input as parts. There are none if the input is empty or absent."""
        if isinstance(self.input, list):
            return self.input
        return [TextPart(self.input)] if self.input else []

    @property
    def parts(self) -> Iterator[Part]:
        """All parts of the input and the messages."""
        return chain(self.input_parts, *(message.parts for message in self.messages or ()))


decode_turn_start = msgspec.json.Decoder(TurnStart, float_hook=float).decode


class TurnEstimate(TurnStart, frozen=True, tag="turn.estimate"):
    """Estimate the tokens and the cost of a `turn.start` with these fields. Nothing is started or stored."""


decode_turn_estimate = msgspec.json.Decoder(TurnEstimate, float_hook=float).decode


class TurnCancel(Request, frozen=True, tag="turn.cancel"):
    """Cancel turns: one, several, all of a conversation, or all of the user's."""

    turn: Key | None = None
    turns: Annotated[list[Key], Meta(max_length=1000)] | None = None
    conversation: Key | None = None
    mine: bool = False
    reason: Annotated[str, Meta(max_length=300)] | None = None


class TurnAttach(Request, frozen=True, tag="turn.attach"):
    """Attach to one or more turns, each from a position."""

    turn: Key | None = None
    epoch: Count | None = None
    after: Count = 0
    positions: dict[Key, Position] | None = None


class TurnDetach(Request, frozen=True, tag="turn.detach"):
    """Detach from a turn. The turn continues."""

    turn: Key


class TurnGet(Request, frozen=True, tag="turn.get"):
    """Get the status of a turn and its message so far."""

    turn: Key


class ConversationCreate(Request, frozen=True, tag="conversation.create"):
    """Create an empty conversation, or get the one that has this id."""

    conversation: ConversationId | None = None
    title: Title | None = None
    system: str | None = None
    model: ModelId | None = None
    metadata: Metadata | None = None


class ConversationList(Request, frozen=True, tag="conversation.list"):
    """List the user's conversations, last changed first."""

    limit: PageLimit = 50
    before: Key | None = None
    query: Annotated[str, Meta(max_length=200)] | None = None
    pinned: bool = False


class ConversationGet(Request, frozen=True, tag="conversation.get"):
    """Get a conversation, without its messages."""

    conversation: Key


class ConversationUpdate(Request, frozen=True, tag="conversation.update"):
    """Change the given fields of a conversation. Other fields stay as they are."""

    conversation: Key
    title: Title | None = None
    system: str | None = None
    model: ModelId | None = None
    metadata: Metadata | None = None
    head: Key | None = None
    pinned: bool | None = None


class ConversationClear(Request, frozen=True, tag="conversation.clear"):
    """Start later turns with an empty context. The messages are kept."""

    conversation: Key


class ConversationDelete(Request, frozen=True, tag="conversation.delete"):
    """Cancel the conversation's turns and delete the conversation."""

    conversation: Key


class ConversationMessages(Request, frozen=True, tag="conversation.messages"):
    """List all messages of the conversation's tree by time. The newest page comes first."""

    conversation: Key
    limit: PageLimit = 100
    before: Key | None = None


class ConversationAttach(Request, frozen=True, tag="conversation.attach"):
    """Subscribe to every turn of a conversation, whichever client starts it."""

    conversation: Key
    positions: dict[Key, Position] | None = None


class ConversationDetach(Request, frozen=True, tag="conversation.detach"):
    """End the subscription to a conversation. Turns that are attached stay attached."""

    conversation: Key


class ConversationsAttach(Request, frozen=True, tag="conversations.attach"):
    """Subscribe to the list of the user's conversations: to each change of a conversation in it."""


class ConversationsDetach(Request, frozen=True, tag="conversations.detach"):
    """End the subscription to the list of the user's conversations."""


class FeedbackPut(Request, frozen=True, tag="feedback.put"):
    """Rate an answer."""

    message: Key
    rating: Rating
    comment: Annotated[str, Meta(max_length=2000)] | None = None


class ModelsList(Request, frozen=True, tag="models.list"):
    """List the models and their features."""


class UsageGet(Request, frozen=True, tag="usage.get"):
    """Get the user's tokens and cost, optionally only those of one conversation, or since a time (RFC 3339)."""

    conversation: Key | None = None
    since: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None


AnyRequest = (
    Auth
    | Ping
    | TurnStart
    | TurnEstimate
    | TurnCancel
    | TurnAttach
    | TurnDetach
    | TurnGet
    | ConversationCreate
    | ConversationList
    | ConversationGet
    | ConversationUpdate
    | ConversationClear
    | ConversationDelete
    | ConversationMessages
    | ConversationAttach
    | ConversationDetach
    | ConversationsAttach
    | ConversationsDetach
    | FeedbackPut
    | ModelsList
    | UsageGet
)


class Result(Struct, frozen=True, tag_field="type", tag="result", omit_defaults=True):
    """The result of request `id`, or in `pieces` the number of `result.piece` frames that were sent instead."""

    id: str
    result: Any = None
    pieces: int | None = None


class ResultPiece(Struct, frozen=True, tag_field="type", tag="result.piece"):
    """A piece of the JSON text of a large result."""

    id: str
    text: str


class ErrorAnswer(Struct, frozen=True, tag_field="type", tag="error", omit_defaults=True):
    """The request failed. `id` is absent if the request had no id or an invalid one."""

    error: ErrorBody
    id: str | None = None
