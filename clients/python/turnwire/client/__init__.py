"""The Turnwire client: one connection, many turns.

    from turnwire.client import connect

    async with connect("ws://127.0.0.1:8000/ws", token=...) as gateway:
        turn = gateway.start("Why is the sky blue?")
        async for text in turn.text():
            print(text, end="")
        message = await turn

`turnwire.client.sync` has the same names for programs without an event loop.
"""

from turnwire.client.abort import AbortController, AbortSignal
from turnwire.client.conversation import Conversation, Reattached
from turnwire.client.errors import (
    Aborted,
    CallbackFailed,
    CertificateUntrusted,
    ConnectFailed,
    ConnectionClosed,
    ConnectionLost,
    CredentialFailed,
    InvalidUrl,
    LawViolation,
    NotAGateway,
    ProtocolMismatch,
    ToolsFailed,
    TurnFailed,
    TurnwireError,
    Unauthenticated,
    WrongLoop,
    WrongProcess,
)
from turnwire.client.events import (
    AuthExpiring,
    ConversationDeleted,
    ConversationsChanged,
    ConversationUpdated,
    Durability,
    Ending,
    Event,
    GatewayEvent,
    GoingAway,
    Ready,
    TurnCancelled,
    TurnCompleted,
    TurnDelta,
    TurnDetached,
    TurnEvent,
    TurnFailedEvent,
    TurnPart,
    TurnReset,
    TurnStarted,
    TurnStatus,
    UnknownEvent,
    to_wire,
)
from turnwire.client.gateway import Gateway, Opening, connect
from turnwire.client.options import ConnectionState, Credential
from turnwire.client.pages import Pages
from turnwire.client.records import (
    Accepted,
    ConversationRecord,
    Cost,
    ErrorRecord,
    Estimate,
    Message,
    Model,
    Models,
    Part,
    Position,
    Rating,
    Timing,
    TurnRecord,
    Usage,
    UsageReport,
)
from turnwire.client.tools import Tool, tool
from turnwire.client.turn import Turn

PROTOCOL = "turnwire.v1"

__all__ = [
    "PROTOCOL",
    "AbortController",
    "AbortSignal",
    "Aborted",
    "Accepted",
    "AuthExpiring",
    "CallbackFailed",
    "CertificateUntrusted",
    "ConnectFailed",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionState",
    "Conversation",
    "ConversationDeleted",
    "ConversationRecord",
    "ConversationUpdated",
    "ConversationsChanged",
    "Cost",
    "Credential",
    "CredentialFailed",
    "Durability",
    "Ending",
    "ErrorRecord",
    "Estimate",
    "Event",
    "Gateway",
    "GatewayEvent",
    "GoingAway",
    "InvalidUrl",
    "LawViolation",
    "Message",
    "Model",
    "Models",
    "NotAGateway",
    "Opening",
    "Pages",
    "Part",
    "Position",
    "ProtocolMismatch",
    "Rating",
    "Ready",
    "Reattached",
    "Timing",
    "Tool",
    "ToolsFailed",
    "Turn",
    "TurnCancelled",
    "TurnCompleted",
    "TurnDelta",
    "TurnDetached",
    "TurnEvent",
    "TurnFailed",
    "TurnFailedEvent",
    "TurnPart",
    "TurnRecord",
    "TurnReset",
    "TurnStarted",
    "TurnStatus",
    "TurnwireError",
    "Unauthenticated",
    "UnknownEvent",
    "Usage",
    "UsageReport",
    "WrongLoop",
    "WrongProcess",
    "connect",
    "to_wire",
    "tool",
]
