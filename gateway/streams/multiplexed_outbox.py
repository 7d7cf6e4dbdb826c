"""The outbox of a connection that acts for many users: its own queue, and a bounded queue for each user. No I/O.

A frame is encoded once for all readers of a turn. The field `as` is added in front of the encoded fields when the frame
is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.protocol.codec import Codec
from gateway.protocol.events import TurnDetached
from gateway.streams.outbox import Outbox

USERS_WAITING_MAX = 1024

_FIXMAP, _FIXMAP_MAX, _MAP_16 = 0x80, 15, 0xDE


class UserOutbox(Outbox):
    """The queue of one user. Past its bound the user's attachments are dropped, and the other users lose nothing.

    Answers can't be dropped. If they alone exceed the bound, the client isn't reading, so `on_overflow` is called.
    """

    def __init__(
        self,
        user: str,
        codec: Codec,
        bytes_max: int,
        on_ready: Callable[[UserOutbox], None],
        on_overflow: Callable[[], None],
        connection_outbox: Outbox | None = None,
    ) -> None:
        super().__init__(codec, bytes_max, lambda: on_ready(self), on_overflow)
        self.connection_outbox = connection_outbox or self
        self.is_queued = False
        key = codec.encode({"as": user})
        self._as_field = key[1:] if codec.binary else key[:-1] + b","

    def _overflow(self) -> None:
        for turn in list(self.attachments):
            if self.detach(turn) is not None:
                self.put(TurnDetached(turn, "too_slow"))
        if self.waiting_bytes > self._bytes_max and not self.is_closed:
            super()._overflow()

    def with_user(self, frame: bytes) -> bytes:
        """Return the encoded frame with the user added as its first field, `as`."""
        if not self.codec.binary:
            return self._as_field + frame[1:]
        fields, start = frame[0] - _FIXMAP, 1
        if frame[0] == _MAP_16:
            fields, start = int.from_bytes(frame[1:3]), 3
        if fields < _FIXMAP_MAX:
            return bytes((_FIXMAP + fields + 1,)) + self._as_field + frame[start:]
        return bytes((_MAP_16,)) + (fields + 1).to_bytes(2) + self._as_field + frame[start:]


class MultiplexedOutbox(Outbox):
    """The connection's own queue and the queues of its users."""

    def __init__(
        self,
        codec: Codec,
        bytes_max: int,
        on_wake: Callable[[], None],
        on_overflow: Callable[[], None],
        on_uncrowded: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(codec, bytes_max, on_wake, on_overflow, on_uncrowded)
        self._user_outboxes: dict[str, UserOutbox] = {}
        self._rotation: deque[UserOutbox] = deque()
        self._connection_is_next = True

    @property
    def is_crowded(self) -> bool:
        """Whether too many users have frames that the client hasn't read.

        Each user's queue has a bound, but the number of users has none.
        """
        return len(self._rotation) > USERS_WAITING_MAX and not self.is_closed

    def open_user_outbox(self, user: str) -> UserOutbox:
        """Return a new queue for a user that has none."""
        outbox = self._user_outboxes[user] = UserOutbox(
            user, self.codec, self._bytes_max, self._on_ready, self._on_overflow, self
        )
        if self.is_closed:
            outbox.close()
        return outbox

    def drop_user_outbox(self, user: str) -> None:
        """Close and forget the user's queue. Its frames are dropped."""
        self._user_outboxes.pop(user).close()

    def _on_ready(self, outbox: UserOutbox) -> None:
        if not outbox.is_queued:
            outbox.is_queued = True
            self._rotation.append(outbox)
            self._on_wake()

    def close(self) -> None:
        """Close all queues and drop their frames."""
        super().close()
        self._on_uncrowded()
        for outbox in self._user_outboxes.values():
            outbox.close()

    def next_frame(self) -> bytes | None:
        """Return the next frame to send, or None.

        The connection's own frames and those of the users alternate, and the users rotate.
        """
        if self._connection_is_next:
            self._connection_is_next = False
            frame = super().next_frame()
            if frame is not None:
                return frame
        self._connection_is_next = True
        while self._rotation:
            outbox = self._rotation.popleft()
            frame = outbox.next_frame()
            if frame is not None:
                self._rotation.append(outbox)
                return outbox.with_user(frame)
            outbox.is_queued = False
            self._on_uncrowded()
        return super().next_frame()
