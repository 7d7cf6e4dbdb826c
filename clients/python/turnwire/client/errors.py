"""Errors of the client. Each has a `code` and a message that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnwire.client.records import ErrorRecord

if TYPE_CHECKING:
    from turnwire.client.records import Message


class TurnwireError(Exception):
    """Something failed. `code` is a code of the protocol or of this client.

    `retryable`: the same attempt may succeed later, after `retry_after_ms` if that is given. `path` names the field of
    the request that is wrong. `stored_message` is the id of the message to read instead, if a turn is `gone`. `partial`
    is the answer so far, if a turn has failed.
    """

    default_code = "failed"
    default_retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after_ms: float | None = None,
        path: str | None = None,
        stored_message: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retryable = self.default_retryable if retryable is None else retryable
        self.retry_after_ms = retry_after_ms
        self.path = path
        self.stored_message = stored_message
        self.partial: Message | None = None


class InvalidUrl(TurnwireError, ValueError):
    """The URL can't be that of a gateway. `connect` raises it at once."""

    default_code = "invalid_url"


class ConnectFailed(TurnwireError, ConnectionError):
    """No connection could be opened. The subclasses say why.

    This class itself, with the code `unreachable`: nothing answers at the address.
    """

    default_code = "unreachable"
    default_retryable = True
    perhaps_blocked = False
    """Whether it may be only the WebSocket that a proxy doesn't let through."""


class NotAGateway(ConnectFailed):
    """Something answers at the address, but it isn't a Turnwire gateway."""

    default_code = "not_a_gateway"
    default_retryable = False


class ProtocolMismatch(ConnectFailed):
    """The gateway doesn't speak the version of the protocol that this client speaks."""

    default_code = "protocol_mismatch"
    default_retryable = False


class CertificateUntrusted(ConnectFailed):
    """The gateway's certificate isn't trusted, or is for another host."""

    default_code = "certificate_untrusted"
    default_retryable = False


class Unauthenticated(ConnectFailed):
    """The gateway refuses the credential: it is invalid, has expired, or was revoked."""

    default_code = "unauthenticated"
    default_retryable = False


class CredentialFailed(ConnectFailed):
    """The function that returns the token or ticket has raised an exception, which is the `__cause__`."""

    default_code = "credential_failed"


class ConnectionLost(TurnwireError, ConnectionError):
    """The connection was lost before the answer came. The gateway may have handled the request."""

    default_code = "connection_lost"
    default_retryable = True


class ConnectionClosed(TurnwireError, ConnectionError):
    """The connection was closed for good, so nothing more can be sent on it."""

    default_code = "connection_closed"


class WrongProcess(ConnectionClosed):
    """The connection belongs to another process: this one was forked from it."""

    default_code = "wrong_process"


class WrongLoop(ConnectionClosed):
    """The connection belongs to another event loop, or to one that is closed."""

    default_code = "wrong_loop"


class LawViolation(TurnwireError):
    """The gateway broke law 1 or 2: an event is missing, repeated, or follows the ending."""

    default_code = "law_violation"


class CallbackFailed(TurnwireError):
    """A callback has raised an exception, which is the `__cause__`. Its turn was cancelled."""

    default_code = "callback_failed"


class ToolsFailed(TurnwireError):
    """`run` was stopped because the model called tools in more rounds than allowed. `partial` is the last answer."""

    default_code = "too_many_rounds"


class Aborted(TurnwireError):
    """An `AbortSignal` was aborted. `reason` is what was given to `abort`."""

    default_code = "aborted"

    def __init__(self, reason: object = None) -> None:
        super().__init__(str(reason) if reason is not None else "The operation was aborted.")
        self.reason = reason


class TurnFailed(TurnwireError):
    """A turn has failed. `code` and the other fields are those of the turn's error; `partial` is the answer so far."""


def from_record(record: ErrorRecord) -> TurnwireError:
    """Return the exception for an error that the gateway sent."""
    kind = Unauthenticated if record.code == "unauthenticated" else TurnwireError
    return kind(
        record.message,
        code=record.code,
        retryable=record.retryable,
        retry_after_ms=record.retry_after_ms,
        path=record.path,
        stored_message=record.stored_message,
    )


def gone_at_ending(stored_message: str | None = None) -> TurnwireError:
    """Return the error of a turn whose position is that of its ending. `stored_message`: the id of its message."""
    text = "The turn has ended at this position already. Read its message."
    return TurnwireError(text, code="gone", stored_message=stored_message)


def to_record(error: TurnwireError) -> ErrorRecord:
    """Return the error as a field of an event."""
    return ErrorRecord(
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        retry_after_ms=error.retry_after_ms,
        path=error.path,
        stored_message=error.stored_message,
    )
