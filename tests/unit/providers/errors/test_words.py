"""How a provider's error text is parsed and redacted."""

from __future__ import annotations

from typing import Any

import pytest

from providers.errors.words import LOGGED_CHARS_MAX, NAME_CHARS_MAX, TEXT_CHARS_MAX, Reason, redact


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"type": "t", "code": "c", "message": "m", "param": "p"}}, Reason("t", "c", "m", "p")),
        ([[{"error": {"status": "S", "code": 400, "message": "m"}}]], Reason("S", "400", "m")),
        ({"error": "m", "code": "ignored"}, Reason(text="m")),
        ({"code": 7, "msg": "m"}, Reason(code="7", text="m")),
        ({"error_code": 17, "error_msg": "m"}, Reason(code="17", text="m")),
        ({"detail": "m"}, Reason(text="m")),
        ({"errors": [{"message": "m"}]}, Reason(text="m")),
        ({"message": {"a": 1}}, Reason(text='{"a": 1}')),
        ("m", Reason(text="m")),
        (None, Reason()),
        ([], Reason(text="")),
        ({"error": {"message": "m" * 5000}}, Reason(text="m" * TEXT_CHARS_MAX)),
        ({"detail": [{"msg": "m" * 5000}]}, Reason(text="m" * TEXT_CHARS_MAX)),
        ({"code": "9" * 5000, "type": "t" * 5000}, Reason("t" * NAME_CHARS_MAX, "9" * NAME_CHARS_MAX)),
        ({"message": "m", "type": {"a": 1}, "code": ["b"], "param": {"c": 1}}, Reason(text="m")),
    ],
)
def test_parse(body: Any, reason: Reason) -> None:
    """The reason is read from every format that providers use."""
    assert Reason.parse(body) == reason


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason(code="503"), 503),
        (Reason(type="rate_limit_error", code="x"), 429),
        (Reason(type="throttlingException"), 429),
        (Reason(code="200"), 0),
        (Reason(), 0),
    ],
)
def test_status(reason: Reason, status: int) -> None:
    """A body may contain a status, or a type that corresponds to one."""
    assert reason.status() == status


def test_words() -> None:
    """Quoted text is removed from the words. An apostrophe isn't a quotation mark."""
    reason = Reason("T", "", "Tool 'billing' doesn't exist, and it can't: `credits` or \"quota\"")
    assert reason.words() == "t tool '' doesn't exist, and it can't: '' or ''"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The model `gpt` isn't there", "The model '…' isn't there"),
        ("see https://host.example/path?key=1 now", "see *** now"),
        ("Cannot connect to host api.example.com:443 ssl", "Cannot connect to host *** ssl"),
        ("at 127.0.0.1:8000 or localhost:11434", "at *** or ***"),
        ("my-secret-value", "***"),
        ("Bearer abcdefg and sk-live-1234", "Bearer *** and sk-***"),
        ("kimi-k3.1-pro and gpt-5.2 stay", "kimi-k3.1-pro and gpt-5.2 stay"),
        ("id 0123456789abcdef0123456789abcdef", "id ***"),
        ("my_host.example.com and -api.example.com and .example.org.", "my_host.*** and -*** and .***."),
        ("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.example.com is long", "*** is long"),
        ("response_format.type and messages[0].content stay", "response_format.type and messages[0].content stay"),
    ],
)
def test_redaction(text: str, expected: str) -> None:
    """The log gets the text without keys, addresses and quoted text."""
    assert redact(text, ("my-secret-value",)) == expected


def test_redacted_text_is_bounded() -> None:
    """The logged text is bounded, whatever its original length."""
    assert len(redact("a b " * 1000, ())) == LOGGED_CHARS_MAX


KEY = "kxq7-mine-own-secret"
"""It matches no pattern of a key."""


@pytest.mark.parametrize("filler", ["word ", "'" + "q" * 100 + "' ", KEY + " ", "a" * 60 + " "])
@pytest.mark.parametrize("size", range(4, len(KEY)))
def test_a_cut_key_is_redacted(filler: str, size: int) -> None:
    """A key's first four characters never show, wherever the text is cut, even if redaction shortens what is before them."""
    whole = (filler * TEXT_CHARS_MAX)[: TEXT_CHARS_MAX - size] + KEY + " and more"
    for result in (
        redact(whole, (KEY,)),
        redact(Reason.parse({"message": whole}).text, (KEY,)),
        redact(KEY[:size], (KEY,)),
    ):
        assert KEY[:4] not in result
