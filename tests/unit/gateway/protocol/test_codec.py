"""Tests of both codecs, which carry requests unchanged and refuse invalid frames, and of texts cut to a size."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocol import requests as p
from gateway.protocol.codec import BY_SUBPROTOCOL, CODECS, JSON, MSGPACK, Codec, FrameError
from gateway.protocol.plain_text import is_plain
from gateway.protocol.requests import DEPTH_MAX
from providers.base import ImagePart, Params, TextPart, Tool, ToolCallPart, ToolName, ToolResultPart

both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
pack = msgspec.msgpack.encode


def refusal(codec: Codec, data: bytes | str) -> FrameError:
    with pytest.raises(FrameError) as refused:
        codec.decode(data)
    return refused.value


def refused(codec: Codec, frame: dict[str, Any]) -> tuple[str, str | None, str | None]:
    """Encode a map, and return the code, path and id with which it is refused."""
    error = refusal(codec, codec.encode(frame))
    return error.error.code, error.error.body.path, error.id


def try_decode(codec: Codec, data: bytes) -> None:
    """Decode the bytes. A refusal has one of two codes and can be encoded."""
    try:
        codec.decode(data)
        return
    except FrameError as error:
        refused_by = error
    assert refused_by.error.code in {"invalid_frame", "invalid_request"}
    codec.encode(refused_by.error.body)


def nested(depth: int, leaf: Any = 1) -> Any:
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


KEYS = st.text(st.characters(exclude_categories=["Cs"]).filter(is_plain), min_size=1, max_size=64)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
FREE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
MAPS = st.dictionaries(st.text(max_size=8), FREE, max_size=3)
PARTS = st.lists(
    st.one_of(
        st.builds(TextPart, st.text(max_size=20), st.none() | st.text(max_size=5)),
        st.builds(ToolCallPart, KEYS, KEYS, st.text(max_size=20)),
        st.builds(ToolResultPart, KEYS, st.text(max_size=20), st.booleans()),
        st.builds(ImagePart, st.just("image/png"), data=st.none() | st.text(max_size=9)),
    ),
    max_size=3,
)
PARAMS = st.builds(
    Params,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    max_tokens=st.none() | st.integers(1, 10_000_000),
    stop=st.none() | st.lists(st.text(max_size=5), max_size=16),
    seed=st.none() | st.integers(-(2**53), 2**53),
    reasoning=st.sampled_from([None, "none", "max"]),
    response_format=st.none() | MAPS,
    demo=st.none() | MAPS,
)
POSITIONS = st.dictionaries(
    KEYS, st.builds(p.Position, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1)), max_size=3
)
OPTIONAL_OWN_ID = st.none() | st.from_regex(r"\A[A-Za-z0-9_.\-]{1,64}\Z")
OPTIONAL_KEY = st.none() | KEYS
REQUEST_ID = st.none() | KEYS
REQUESTS = st.one_of(
    st.builds(p.Auth, id=REQUEST_ID, token=st.text(max_size=20)),
    st.builds(p.Ping, id=REQUEST_ID, t=st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats(-1e300, 1e300)),
    st.builds(
        p.TurnStart,
        id=REQUEST_ID,
        turn=OPTIONAL_OWN_ID,
        conversation=OPTIONAL_OWN_ID,
        create=st.booleans(),
        model=OPTIONAL_KEY,
        input=st.none() | st.text(max_size=20) | PARTS,
        parent=OPTIONAL_KEY,
        messages=st.none()
        | st.lists(
            st.builds(
                p.InputMessage,
                role=st.sampled_from(["user", "assistant"]),
                parts=PARTS,
                usage=FREE,
                cost=FREE,
            ),
            max_size=2,
        ),
        system=st.none() | st.text(max_size=20),
        params=PARAMS,
        tools=st.none()
        | st.lists(st.builds(Tool, st.from_regex(r"\A[A-Za-z0-9_-]{1,9}\Z"), st.text(), MAPS), max_size=2),
        tool_choice=st.sampled_from([None, "auto", "required", ToolName("add")]),
        on_busy=st.sampled_from(["parallel", "queue", "reject", "interrupt"]),
        on_disconnect=st.sampled_from(["continue", "cancel"]),
        metadata=st.none() | MAPS,
    ),
    st.builds(p.TurnCancel, turn=OPTIONAL_KEY, turns=st.none() | st.lists(KEYS, max_size=3), mine=st.booleans()),
    st.builds(p.TurnAttach, turn=OPTIONAL_KEY, after=st.integers(0, 2**53 - 1), positions=st.none() | POSITIONS),
    st.builds(p.TurnDetach, turn=KEYS),
    st.builds(p.TurnEstimate, conversation=OPTIONAL_OWN_ID, input=st.text(max_size=20) | PARTS, params=PARAMS),
    st.builds(p.TurnGet, turn=KEYS),
    st.builds(
        p.ConversationCreate,
        conversation=OPTIONAL_OWN_ID,
        title=st.none() | st.text(max_size=300),
        metadata=st.none() | MAPS,
    ),
    st.builds(
        p.ConversationList,
        limit=st.integers(1, 200),
        before=OPTIONAL_KEY,
        query=st.none() | st.text(max_size=9),
    ),
    st.builds(p.ConversationGet, conversation=KEYS),
    st.builds(p.ConversationUpdate, conversation=KEYS, head=OPTIONAL_KEY, metadata=st.none() | MAPS),
    st.builds(p.ConversationClear, conversation=KEYS),
    st.builds(p.ConversationDelete, conversation=KEYS),
    st.builds(p.ConversationMessages, conversation=KEYS, limit=st.integers(1, 200)),
    st.builds(p.ConversationAttach, conversation=KEYS, positions=st.none() | POSITIONS),
    st.builds(p.ConversationDetach, conversation=KEYS),
    st.builds(p.ConversationsAttach),
    st.builds(p.ConversationsDetach),
    st.builds(p.FeedbackPut, message=KEYS, rating=st.sampled_from(["up", "down", 1, 5])),
    st.builds(p.ModelsList, id=REQUEST_ID),
    st.builds(p.UsageGet, since=OPTIONAL_KEY),
)


@given(REQUESTS)
def test_every_request_passes_both_codecs_unchanged(request: p.AnyRequest) -> None:
    """Both codecs carry the same maps: a request is the same after encoding and decoding with either."""
    for codec in CODECS:
        assert codec.decode(codec.encode(request)) == request
    assert JSON.decode(JSON.encode(request).decode()) == request


def test_a_codec_is_found_by_its_subprotocol() -> None:
    """JSON uses text frames and MessagePack binary ones. The index of a codec is its position in `CODECS`."""
    assert list(BY_SUBPROTOCOL) == ["turnwire.v1.json", "turnwire.v1.msgpack"]
    assert [codec.binary for codec in CODECS] == [False, True]
    assert [codec.index for codec in CODECS] == [0, 1]
    assert [BY_SUBPROTOCOL[f"turnwire.v1.{codec.name}"] for codec in CODECS] == list(CODECS)


@pytest.mark.parametrize(
    "data",
    ["", " ", "x", "{", "[1", '{"type":"ping"} x', '{"type":"ping",}', '{"type":"ping","t":NaN}', "\ud800"],
)
def test_invalid_json_is_an_invalid_frame(data: str) -> None:
    """A frame that can't be decoded is refused with `invalid_frame`, without an id."""
    error = refusal(JSON, data)
    assert (error.error.code, error.id) == ("invalid_frame", None)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_json_numbers_are_finite(value: str) -> None:
    """No notation for a number that isn't finite is accepted in JSON."""
    assert refusal(JSON, f'{{"type":"ping","id":"7","t":{value}}}').error.code in {
        "invalid_frame",
        "invalid_request",
    }
    free = f'{{"type":"conversation.create","metadata":{{"a":[{value}]}}}}'
    assert refusal(JSON, free).error.code in {"invalid_frame", "invalid_request"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_msgpack_numbers_are_finite(value: float) -> None:
    """MessagePack can encode NaN and infinities. They are refused in every field."""
    assert refused(MSGPACK, {"type": "ping", "id": "7", "t": value}) == ("invalid_frame", "t", "7")
    for frame, path in (
        ({"type": "conversation.create", "metadata": {"a": [value]}}, "metadata"),
        ({"type": "turn.start", "params": {"demo": {"a": value}}}, "params.demo"),
        ({"type": "turn.start", "params": {"response_format": {"a": value}}}, "params.response_format"),
        ({"type": "turn.start", "tools": [{"name": "a", "parameters": {"x": value}}]}, "tools[0].parameters"),
    ):
        assert refused(MSGPACK, frame)[:2] == ("invalid_frame", path)
    for name in ("temperature", "top_p"):
        answer = refused(MSGPACK, {"type": "turn.start", "params": {name: value}})
        assert answer[0] in {"invalid_frame", "invalid_request"}
        assert answer[1] == f"params.{name}"


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**400])
def test_integers_have_64_bits(value: int) -> None:
    """JSON could carry an integer that MessagePack can't encode in an answer. It is refused in every field."""
    for frame, path in (
        (f'{{"type":"ping","t":{value}}}', "t"),
        (f'{{"type":"conversation.create","metadata":{{"a":[{value}]}}}}', "metadata"),
        (
            f'{{"type":"turn.start","messages":[{{"role":"user","parts":[],"usage":{value}}}]}}',
            "messages[0].usage",
        ),
        (
            f'{{"type":"turn.start","messages":[{{"role":"user","parts":[],"cost":{value}}}]}}',
            "messages[0].cost",
        ),
    ):
        error = refusal(JSON, frame).error
        assert error.code in {"invalid_frame", "invalid_request"}
        assert error.body.path is not None
        assert path.startswith(error.body.path.removesuffix("[...]")) or error.body.path.startswith(path)


@pytest.mark.parametrize("value", [b"\x00\xff", msgspec.msgpack.Ext(5, b"x"), datetime.now(UTC)])
def test_binary_and_extension_types_are_refused(value: Any) -> None:
    """MessagePack's bin, ext and timestamp types aren't allowed in these maps."""
    assert refused(MSGPACK, {"type": "conversation.create", "id": "7", "metadata": {"a": value}}) == (
        "invalid_frame",
        "metadata",
        "7",
    )
    assert refused(MSGPACK, {"type": "turn.start", "messages": [{"role": "user", "parts": [], "usage": value}]})[1] == (
        "messages[0].usage"
    )
    assert refusal(MSGPACK, pack({"type": "auth", "token": value})).error.code == "invalid_frame"
    assert refusal(MSGPACK, pack(value)).error.code == "invalid_frame"


def test_map_keys_are_strings() -> None:
    """Integer keys are refused, both in the frame and deep in a free-form map."""
    assert refusal(MSGPACK, pack({1: 2})).error.code == "invalid_frame"
    assert refused(MSGPACK, {"type": "conversation.create", "metadata": {"a": {1: 2}}})[:2] == (
        "invalid_frame",
        "metadata",
    )
    assert refusal(MSGPACK, pack({"type": "conversation.create", "metadata": {1: 2}})).error.body.path == "metadata"


@pytest.mark.parametrize("depth", [DEPTH_MAX, 200, 5000, 100_000])
def test_nesting_that_is_too_deep_is_refused(depth: int) -> None:
    """At any depth and in any field, the error is `invalid_frame` and names the reason. There is no stack overflow."""
    deep_json = "[" * depth + "]" * depth
    deep_pack = b"\x91" * (depth - 1) + b"\x90"
    for data in (
        "[" * depth,
        deep_json,
        f'{{"type":"ping","t":{deep_json}}}',
        f'{{"type":"conversation.create","metadata":{{"a":{deep_json}}}}}',
        f'{{"type":"turn.start","messages":[{{"role":"user","parts":[],"usage":{deep_json}}}]}}',
        '{"a":' * depth + "1" + "}" * depth,
    ):
        assert refusal(JSON, data).error.code == "invalid_frame"
    for packed in (
        b"\x91" * depth,
        deep_pack,
        b"\x82\xa4type\xb3conversation.create\xa8metadata\x81\xa1a" + deep_pack,
    ):
        assert refusal(MSGPACK, packed).error.code == "invalid_frame"
    assert (
        "deeper" in refusal(JSON, f'{{"type":"conversation.create","metadata":{{"a":{deep_json}}}}}').error.body.message
    )


@both
def test_the_largest_allowed_depth_is_accepted(codec: Codec) -> None:
    """A frame of exactly the allowed depth is accepted, and one level more is refused."""
    # The frame is level 1, metadata 2, its list 3.
    allowed = {"type": "conversation.create", "metadata": {"a": nested(DEPTH_MAX - 3)}}
    codec.decode(codec.encode(allowed))
    assert (
        refused(codec, {"type": "conversation.create", "metadata": {"a": nested(DEPTH_MAX - 2)}})[0] == "invalid_frame"
    )


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"ping","id":"\\ud800"}',
        '{"type":"auth","token":"a\\udfffb"}',
        b'{"type":"ping","id":"\xed\xa0\x80"}',
        b'{"type":"auth","token":"\xff"}',
    ],
)
def test_lone_surrogates_and_bad_utf8_are_refused_in_json(data: str | bytes) -> None:
    """Text that isn't valid Unicode is refused."""
    assert refusal(JSON, data).error.code == "invalid_frame"


@pytest.mark.parametrize("text", ["\\ud800", "a\\uDBFFb", "\\udfff", "\\ud83d\\u0041", "\\ud83d\\ude00\\ud83d"])
def test_half_a_surrogate_pair_is_named(text: str) -> None:
    """The error message names the surrogate, in a value or in a key.

    A frame that was cut off is reported as truncated.
    """
    for frame in (f'{{"type":"ping","id":"{text}"}}', f'{{"type":"conversation.create","metadata":{{"{text}":1}}}}'):
        assert "surrogate" in refusal(JSON, frame).error.body.message
    assert "truncated" in refusal(JSON, '{"type":"ping","id":"\\ud83d\\ude00').error.body.message


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80"])
def test_lone_surrogates_and_bad_utf8_are_refused_in_msgpack(raw: bytes) -> None:
    """Text that isn't valid Unicode is refused."""
    text = bytes([0xA0 + len(raw)]) + raw
    assert refusal(MSGPACK, b"\x82\xa4type\xa4auth\xa5token" + text).error.code == "invalid_frame"
    assert refusal(MSGPACK, b"\x81" + text + b"\x01").error.code == "invalid_frame"


def test_duplicate_keys_never_change_a_frames_type() -> None:
    """A duplicate key is refused, or its last value is used. The result is a request or a `FrameError`."""
    assert refusal(JSON, '{"type":"ping","type":"auth","token":"x"}').error.code == "invalid_frame"
    assert JSON.decode('{"type":"ping","id":"1","id":"2"}') == p.Ping(id="2")
    assert MSGPACK.decode(b"\x83\xa4type\xa4ping\xa2id\xa11\xa2id\xa12") == p.Ping(id="2")


@both
@pytest.mark.parametrize(
    ("frame", "code", "path"),
    [
        ({"type": "nope"}, "invalid_frame", "type"),
        ({"type": "turn.started"}, "invalid_frame", "type"),
        ({"type": 5}, "invalid_frame", "type"),
        ({}, "invalid_frame", "type"),
        ({"type": "ping", "x": 1}, "invalid_frame", None),
        ({"type": "turn.start", "params": {"x": 1}}, "invalid_frame", "params"),
        (
            {"type": "turn.start", "input": [{"kind": "text", "text": "a", "x": 1}]},
            "invalid_frame",
            "input[0]",
        ),
        ({"type": "auth"}, "invalid_request", "token"),
        ({"type": "turn.attach", "positions": {"t": {"epoch": 1}}}, "invalid_request", "positions[...].seq"),
        ({"type": "turn.attach", "positions": {"x" * 65: {"epoch": 1, "seq": 1}}}, "invalid_request", "positions"),
        ({"type": "turn.start", "on_busy": "unknown field"}, "invalid_request", "on_busy"),
        ({"type": "turn.start", "params": {"temperature": 9}}, "invalid_request", "params.temperature"),
        ({"type": "turn.start", "params": {"temperature": "warm"}}, "invalid_request", "params.temperature"),
        ({"type": "turn.start", "turn": "a b"}, "invalid_request", "turn"),
        ({"type": "turn.start", "turn": "t\n"}, "invalid_request", "turn"),
        ({"type": "turn.start", "turn": "x" * 65}, "invalid_request", "turn"),
        ({"type": "turn.start", "input": [{"kind": "bogus"}]}, "invalid_request", "input[0].kind"),
        ({"type": "turn.start", "input": [{"kind": "text", "text": 1}]}, "invalid_request", "input[0].text"),
        ({"type": "turn.attach", "turn": "t", "after": -1}, "invalid_request", "after"),
        ({"type": "turn.attach", "turn": "t", "after": 2**53}, "invalid_request", "after"),
        ({"type": "turn.get", "turn": ""}, "invalid_request", "turn"),
        ({"type": "conversation.list", "limit": 0}, "invalid_request", "limit"),
        ({"type": "conversation.list", "limit": 201}, "invalid_request", "limit"),
        ({"type": "conversation.list", "limit": 1.5}, "invalid_request", "limit"),
        ({"type": "feedback.put", "message": "m", "rating": 9}, "invalid_request", "rating"),
        ({"type": "feedback.put", "message": "m", "rating": "meh"}, "invalid_request", "rating"),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, dict) else None,
)
def test_a_refusal_has_a_code_and_the_fields_path(
    codec: Codec, frame: dict[str, Any], code: str, path: str | None
) -> None:
    """An unknown type or field is `invalid_frame`. A wrong or missing value is `invalid_request` with its path."""
    assert refused(codec, {"id": "r7", **frame}) == (code, path, "r7")


@both
@pytest.mark.parametrize("unseen", ["\x1b[31m", "\n", "\x9b", "\u202e", "\u2028", "\ufeff", "\U000e0041"])
@pytest.mark.parametrize(
    ("frame", "path"),
    [
        ({"type": "ping", "id": "?"}, "id"),
        ({"type": "ping", "as": "?"}, "as"),
        ({"type": "turn.start", "conversation": "?"}, "conversation"),
        ({"type": "turn.start", "model": "?"}, "model"),
        ({"type": "turn.cancel", "turns": ["t", "?"]}, "turns[1]"),
        ({"type": "turn.attach", "positions": {"?": {"epoch": 1, "seq": 1}}}, "positions"),
        ({"type": "conversation.list", "before": "?"}, "before"),
        ({"type": "feedback.put", "message": "?", "rating": 1}, "message"),
        ({"type": "turn.start", "tools": [{"name": "?"}]}, "tools[0].name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invisible_characters_in_names_are_refused(codec: Codec, frame: dict[str, Any], path: str, unseen: str) -> None:
    """A terminal might interpret them.

    The error message doesn't repeat them, and an invalid id or user isn't echoed.
    """
    text = json.dumps(frame).replace('"?"', json.dumps(f"a{unseen}b"))
    refused_by = refusal(codec, codec.encode({"id": "r7", **json.loads(text)}))
    assert (refused_by.error.code, refused_by.error.body.path) == ("invalid_request", path)
    assert (refused_by.id, refused_by.user) == (None if path == "id" else "r7", None)
    assert len(refused_by.error.body.message) < 100
    assert is_plain(refused_by.error.body.message)


@both
@pytest.mark.parametrize(
    "name", [" - at `$.model", " - at `$.model`", "x` - at `$.model\n", " - at `key` in `$.a`", "`"]
)
def test_a_field_name_that_looks_like_a_path_is_not_one(codec: Codec, name: str) -> None:
    """The error's path is derived only from the protocol's own fields, not from names that a client made up."""
    for frame, path in (({"type": "turn.start", "params": {name: 1}}, "params"), ({"type": name}, "type")):
        assert refused(codec, {"id": "r7", **frame}) == ("invalid_frame", path, "r7")


@both
@pytest.mark.parametrize("request_id", [5, "", "x" * 65, None, ["a"]])
def test_an_invalid_id_is_not_echoed(codec: Codec, request_id: Any) -> None:
    """An error echoes only an id that is valid for a request."""
    assert refused(codec, {"type": "nope", "id": request_id})[2] is None


@both
def test_a_frame_is_one_map(codec: Codec) -> None:
    """Arrays and scalars are refused as frames."""
    for value in ([], "x", 1, None, True, [{"type": "ping"}]):
        assert refusal(codec, codec.encode(value)).error.code == "invalid_frame"


@both
def test_a_long_reason_is_shortened(codec: Codec) -> None:
    """An error message stays short, regardless of the client's input."""
    error = refusal(codec, codec.encode({"type": "x" * 5000})).error
    assert len(error.body.message) < 300
    assert len(error.body.path or "") <= 200


@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_frame_errors(data: bytes) -> None:
    """No sequence of bytes makes either decoder raise any other exception."""
    for codec in CODECS:
        try_decode(codec, data)


@given(
    st.dictionaries(st.text(max_size=9), FREE, max_size=5),
    st.sampled_from(["ping", "turn.start", "auth", "x"]),
)
def test_random_maps_raise_nothing_but_frame_errors(frame: dict[str, Any], kind: str) -> None:
    """No map of a known or unknown type makes either decoder raise any other exception."""
    for codec in CODECS:
        try_decode(codec, codec.encode({"type": kind, **frame}))


@given(REQUESTS, st.data())
def test_a_broken_request_raises_nothing_but_frame_errors(request: p.AnyRequest, data: st.DataObject) -> None:
    """A valid frame with one changed byte decodes to a request or raises `FrameError`."""
    for codec in CODECS:
        encoded = bytearray(codec.encode(request))
        encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
        try_decode(codec, bytes(encoded))


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_a_number_without_a_fraction_is_an_integer(codec: Codec) -> None:
    """In JSON, 1.0 is 1. HTTP accepts both, and so does a frame; a field that is wrong otherwise is still named."""
    frame = {"type": "feedback.put", "id": "1", "message": "m"}
    rated = codec.decode(codec.encode({**frame, "rating": 1.0}))
    assert isinstance(rated, p.FeedbackPut)
    assert (rated.rating, type(rated.rating)) == (1, int)
    for wrong in (1.5, 6.0, float(2**80)):
        with pytest.raises(FrameError) as refused:
            codec.decode(codec.encode({**frame, "rating": wrong}))
        assert (refused.value.error.code, refused.value.error.body.path) == ("invalid_request", "rating")
