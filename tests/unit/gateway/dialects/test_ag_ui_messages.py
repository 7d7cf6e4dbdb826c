"""The conversion between AG-UI messages and the parts of the gateway's messages."""

from __future__ import annotations

from gateway.dialects.ag_ui_messages import user_parts
from gateway.dialects.ag_ui_stored_messages import answer_messages, user_message
from providers.base import FilePart, ImagePart, Part, ReasoningPart, RefusalPart, TextPart
from tests.unit.gateway.dialects.ag_ui_thread import CALL, NEW, refused, run, stored, user


def test_parts_of_messages() -> None:
    data = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
    address = {"type": "url", "value": "https://a.example/b.pdf", "mimeType": "application/pdf"}
    content = [
        {"type": "text", "text": "Look"},
        {"type": "image", "source": data},
        {"type": "document", "source": address},
        {"type": "image", "source": {"type": "url", "value": "https://a.example/c.webp"}},
        {"type": "image", "source": {"type": "file", "value": "file-1"}},
        {"type": "video", "source": address},
        {"type": "binary", "mimeType": "image/gif", "data": "aGk=", "filename": "g.gif"},
        {"type": "binary", "mimeType": "application/pdf", "url": "https://a.example/d"},
        {"type": "hologram"},
        {"type": "image", "source": {"type": "url", "value": "data:image/png;base64,aGk="}},
    ]
    made = run(user(content)).start(NEW)
    assert made.input == [
        TextPart("Look"),
        ImagePart("image/png", data="aGk="),
        FilePart("application/pdf", url="https://a.example/b.pdf"),
        ImagePart("image/webp", url="https://a.example/c.webp"),
        ImagePart("image/gif", data="aGk=", name="g.gif"),
        FilePart("application/pdf", url="https://a.example/d"),
        ImagePart("image/png", data="aGk="),
    ]
    for part in ({"type": "video", "source": address}, {"type": "text", "text": ""}):
        assert refused(user([part])).body.path == "messages[0].content"
    parts: list[Part] = [TextPart("Hi"), ImagePart("image/png", url="/v1/messages/m/parts/1"), FilePart("a/b", "aGk=")]
    assert user_parts(user_message("u", parts), "") == parts


def test_answers_as_messages() -> None:
    parts: list[Part] = [
        *(ReasoningPart("A"), ReasoningPart("", redacted=True), TextPart("One."), ReasoningPart("B"), CALL),
        *(RefusalPart(" No."), ImagePart("image/png", url="x")),
    ]
    reasoning, answer, more = answer_messages(stored("m", "assistant", None, "t", *parts))
    assert (reasoning.id, reasoning.content, more.id, more.content) == ("m.0", "A", "m.3", "B")
    assert (answer.id, answer.content) == ("m", "One. No.")
    assert [call.function.name for call in answer.tool_calls or ()] == ["add"]
    assert answer_messages(stored("m", "assistant", None, "t")) == []
