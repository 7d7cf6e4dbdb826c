"""Builds a turn's answer from its events. Applying a delta takes time in proportion to the delta, not to the answer."""

from __future__ import annotations

from io import StringIO

from turnwire.client.errors import LawViolation
from turnwire.client.events import TurnDelta, TurnPart
from turnwire.client.records import Part


class Answer:
    """The parts of an answer so far.

    `from_start` is False if the turn is followed from a later position: then a delta may belong to a part whose beginning
    was never received, which is taken for text.
    """

    def __init__(self, *, from_start: bool = True) -> None:
        self._parts: dict[int, _OpenPart] = {}
        self._from_start = from_start

    def reset(self) -> None:
        """Discard everything; what follows begins with part 0."""
        self._parts.clear()
        self._from_start = True

    def open_part(self, event: TurnPart) -> None:
        """Begin a part."""
        self._parts[event.part] = _OpenPart(event)

    def append(self, delta: TurnDelta) -> None:
        """Add to a part. Raise `LawViolation` if the part was never opened."""
        part = self._parts.get(delta.part)
        if part is None:
            if self._from_start:
                raise LawViolation(
                    f"Turn {delta.turn}: a delta for part {delta.part}, which was never opened (law 1). "
                    "The gateway is faulty: report this, and read the stored message instead."
                )
            part = self._parts[delta.part] = _OpenPart(TurnPart(turn=delta.turn, part=delta.part))
        if delta.text is not None:
            part.text.write(delta.text)
        if delta.signature is not None:
            part.signature.append(delta.signature)

    def parts(self) -> list[Part]:
        """Return a copy of the parts."""
        return [part.closed() for _, part in sorted(self._parts.items())]


class _OpenPart:
    __slots__ = ("_event", "signature", "text")

    def __init__(self, event: TurnPart) -> None:
        self._event = event
        self.text = StringIO()
        self.text.write(event.text or "")
        self.signature: list[str] = [event.signature] if event.signature else []

    def closed(self) -> Part:
        event, text = self._event, self.text.getvalue()
        is_call = event.kind == "tool_call"
        has_text = event.kind in ("text", "reasoning", "refusal") or text != ""
        return Part(
            kind=event.kind,
            text=text if has_text and not is_call else None,
            call=event.call,
            name=event.name,
            arguments=text if is_call else None,
            media_type=event.media_type,
            url=event.url,
            size=event.size,
            title=event.title,
            redacted=event.redacted,
            signature="".join(self.signature) or None,
        )
