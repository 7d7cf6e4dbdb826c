"""The sessions of a connection that sends requests for many users (`as`).

Each user has its own session, as isolated from the others as if it had its own socket.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.identity.credential_lease import CredentialLease
from gateway.identity.principal import check_user
from gateway.protocol import requests as p
from gateway.protocol.codec import FrameError
from gateway.protocol.errors import ApiError
from gateway.requests.services import Services
from gateway.requests.session import Session, Spawn
from gateway.streams.multiplexed_outbox import MultiplexedOutbox

IDLE_SESSIONS_MAX = 64


class DelegatedSessions:
    """The sessions of a service's connection: the service's own, and one for each user that a frame names by `as`.

    When the number of sessions has reached a threshold, the idle ones are dropped before another one is opened. The
    threshold is `IDLE_SESSIONS_MAX` plus twice the number of sessions that the last such drop left.
    """

    def __init__(
        self,
        services: Services,
        user: str,
        credential: CredentialLease,
        outbox: MultiplexedOutbox,
        spawn: Spawn,
        on_invalid_frames: Callable[[], None],
    ) -> None:
        self._services = services
        self._credential = credential
        self._user_outboxes = outbox
        self._spawn = spawn
        self._on_invalid_frames = on_invalid_frames
        self._service_session = Session(services, user, credential, outbox, spawn, on_invalid_frames)
        self._sessions: dict[str, Session] = {}
        self._sweep_above = IDLE_SESSIONS_MAX

    def receive(self, data: str | bytes) -> None:
        """Decode one frame and start its request in the session of the user it names. Never awaits, never raises."""
        try:
            request = self._user_outboxes.codec.decode(data)
        except FrameError as refused:
            self._reject_frame(refused)
            return
        user = request.as_
        if user is None:
            self._service_session.dispatch(request)
            return
        try:
            self._check(request, user)
        except ApiError as error:
            self._reject_frame(FrameError(error, request.id, user))
            return
        self._session(user).dispatch(request)

    def _check(self, request: p.AnyRequest, user: str) -> None:
        """Check that the service may send `request` as `user`. Raises `ApiError`."""
        self._credential.principal.require("as")
        _check_user(user)
        if isinstance(request, p.Auth):
            raise ApiError(
                "invalid_request", "`auth` renews the credential of the connection itself. Leave `as` out.", path="as"
            )

    def _reject_frame(self, refused: FrameError) -> None:
        """Send the error in the session of the named user, or in the service's own if no valid user is named."""
        session = self._service_session
        if refused.user is not None:
            try:
                _check_user(refused.user)
                session = self._session(refused.user)
            except ApiError:
                pass
        session.reject_frame(refused)

    def _session(self, user: str) -> Session:
        session = self._sessions.get(user)
        if session is None:
            if len(self._sessions) >= self._sweep_above:
                self._drop_idle()
            outbox = self._user_outboxes.open_user_outbox(user)
            session = Session(self._services, user, self._credential, outbox, self._spawn, self._on_invalid_frames)
            self._sessions[user] = session
        return session

    def _drop_idle(self) -> None:
        for user in [user for user, session in self._sessions.items() if session.is_idle]:
            self._sessions.pop(user).close()
            self._user_outboxes.drop_user_outbox(user)
        self._sweep_above = 2 * len(self._sessions) + IDLE_SESSIONS_MAX

    def close(self) -> None:
        """Drop all attachments and subscriptions after the service has disconnected. The turns continue."""
        for session in self._sessions.values():
            session.close()
        self._service_session.close()


def _check_user(user: str) -> None:
    """Check that `user` is a valid user name. Raises `ApiError` "invalid_request"."""
    try:
        check_user(user)
    except ValueError as error:
        raise ApiError("invalid_request", f"Invalid user name: {error}. Correct `as`.", path="as") from None
