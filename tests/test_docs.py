"""Check docs/protocol.md against the code: it names exactly what exists, and its JSON examples are valid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import Struct
from starlette.routing import Mount, Route

from gateway.http.dialects.addresses import DIALECT_OPERATIONS
from gateway.http.routes import routes
from gateway.protocol import events
from gateway.protocol import requests as protocol
from gateway.protocol.codec import JSON
from gateway.protocol.errors import CODES, CloseCode, ErrorBody
from gateway.settings import Settings
from providers.base import Params, Part, PartKind, Tool, Usage
from providers.demo.model import DemoOptions

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")

LATER = "**[later]**"
LAWS = 13
STANDARD_CLOSE_CODES = {1000, 1002, 1003, 1007, 1009, 1011}

ANSWERS: tuple[type[Struct], ...] = (protocol.Result, protocol.ResultPiece, protocol.ErrorAnswer)
REQUESTS: tuple[type[Struct], ...] = get_args(protocol.AnyRequest)
EVENTS: tuple[type[Struct], ...] = get_args(events.ServerEvent)
PARTS: tuple[type[Struct], ...] = get_args(Part)
SHAPES: dict[str, type[Struct]] = {
    "message": events.Message,
    "usage": Usage,
    "cost": events.Cost,
    "timing": events.Timing,
    "error": ErrorBody,
    "params": Params,
    "tool": Tool,
}
SHARED_FIELDS = {"id", "turn", "seq"}
"""Fields that all events of a table have. The text above the table describes them once."""

FENCE = re.compile(r"^```json[ ]?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ServerFrame = events.ServerEvent | protocol.Result | protocol.ResultPiece | protocol.ErrorAnswer


def tag_of(struct: type[Struct]) -> str:
    """Return the `type` or `kind` of a struct."""
    return str(struct.__struct_config__.tag)


def section(title: str) -> str:
    """Return the text under a heading, up to the next heading of the same or a higher level."""
    heading = re.search(rf"^(#+) `?{re.escape(title)}`?\n", DOCUMENT, re.MULTILINE)
    assert heading is not None, f"no section {title}"
    level = len(heading.group(1))
    following = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(DOCUMENT, heading.end())
    return DOCUMENT[heading.end() : following.start() if following else len(DOCUMENT)]


SHAPE_TABLES = section("Data types").partition("\n### ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of every table row, including the header row and the `|---|` row."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def row_of(name: str, text: str) -> str:
    """Return the other cells of the row whose first cell is `name`, with or without backticks."""
    found = [" | ".join(cells[1:]) for cells in rows(text) if cells[0].strip("`") == name]
    assert len(found) == 1, f"{len(found)} rows for {name}"
    return found[0]


def names_in(text: str) -> set[str]:
    """Return every word in backticks."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}


def examples(info: str) -> list[str]:
    """Return the JSON texts of all code blocks with this info word."""
    decoder = json.JSONDecoder()
    found = []
    for kind, block in FENCE.findall(DOCUMENT):
        start = 0
        while kind == info and block[start:].strip():
            start += len(block[start:]) - len(block[start:].lstrip())
            _, end = decoder.raw_decode(block, start)
            found.append(block[start:end])
            start = end
    return found


@pytest.mark.parametrize("request_type", REQUESTS, ids=tag_of)
def test_every_request_is_documented_with_its_fields(request_type: type[Struct]) -> None:
    """A request has a row in a table, and its fields are in this row or in the request's section.

    `id` and `as`, which all requests have, are described elsewhere.
    """
    name = tag_of(request_type)
    text = row_of(name, DOCUMENT)
    if f"### `{name}`" in DOCUMENT:
        text += section(name)
    assert set(request_type.__struct_encode_fields__) - {"id", "as"} <= names_in(text)


@pytest.mark.parametrize("event", [*EVENTS, *ANSWERS], ids=tag_of)
def test_every_event_and_answer_is_documented_with_its_fields(event: type[Struct]) -> None:
    """A server frame has a row with its own fields. Those of `turn.status` may be anywhere in the section on events."""
    name = tag_of(event)
    within = section("Requests and answers") if event in ANSWERS else section("Server events")
    if event is events.TurnStatus:
        assert set(event.__struct_fields__) - SHARED_FIELDS <= names_in(within)
        return
    assert set(event.__struct_fields__) - SHARED_FIELDS <= names_in(row_of(name, within))


def test_no_row_names_a_request_or_event_that_does_not_exist() -> None:
    """A dotted name at the beginning of a row is a type in the code, or is marked as later."""
    known = {tag_of(frame) for frame in (*REQUESTS, *EVENTS, *ANSWERS)}
    dotted = {cells[0].strip("`") for cells in rows(DOCUMENT) if LATER not in cells[-1]}
    assert {name for name in dotted if re.fullmatch(r"[a-z]+\.[a-z]+", name)} <= known


@pytest.mark.parametrize("name", SHAPES)
def test_every_data_type_is_documented_with_its_fields(name: str) -> None:
    """The row of a data type has each of its fields."""
    assert set(SHAPES[name].__struct_fields__) <= names_in(row_of(name, SHAPE_TABLES))


@pytest.mark.parametrize("part", PARTS, ids=tag_of)
def test_every_part_is_documented_with_its_fields(part: type[Struct]) -> None:
    """The table of parts has each kind with its fields. The row of `image` has those of `file`, too.

    `signature` is described once below the table.
    """
    kind = tag_of(part)
    text = row_of("image" if kind == "file" else kind, SHAPE_TABLES)
    assert kind in get_args(PartKind)
    assert set(part.__struct_fields__) - {"signature"} <= names_in(text)


def test_the_demo_options_are_those_of_the_code() -> None:
    """The table of the demo model's options is complete and has no other option."""
    options = {cells[0].strip("`") for cells in rows(section("The demo model"))} - {"option", "---"}
    assert options == set(DemoOptions.__struct_fields__)


def test_the_error_codes_are_those_of_the_code() -> None:
    """Codes, HTTP statuses and `retryable` equal those of `gateway.protocol.errors`."""
    table = {
        cells[0].strip("`"): (int(cells[1]), cells[2] == "yes")
        for cells in rows(section("Error codes"))
        if cells[0].startswith("`")
    }
    assert table == {code: (facts.http_status, facts.retryable) for code, facts in CODES.items()}


def test_the_close_codes_are_those_of_the_code() -> None:
    """The table has the codes of `CloseCode` and the standard ones."""
    first_cells = " ".join(cells[0] for cells in rows(section("Close codes")))
    assert {int(code) for code in re.findall(r"\d{4}", first_cells)} == set(CloseCode) | STANDARD_CLOSE_CODES


def test_the_laws_are_numbered_from_1_to_13() -> None:
    """Each law has its number, which the names of tests use, and a title."""
    numbers = re.findall(r"^(\d+)\. \*\*", section("The laws"), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, LAWS + 1))


def test_every_variable_is_a_setting() -> None:
    """Every variable in the document whose name begins with `TURNWIRE_` is a setting."""
    named = set(re.findall(r"\bTURNWIRE_([A-Z_]+)\b", DOCUMENT))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_the_http_paths_are_those_of_the_code() -> None:
    """The HTTP section has every path that is served, and no other, but for those of dialects, which have a page."""
    dialects = {operation.path for operation in DIALECT_OPERATIONS}
    made = routes(Settings.model_validate({}))
    served = {route.path.replace(":path}", "}") for route in made if isinstance(route, Route | Mount)}
    assert set(re.findall(r"`[A-Z]+ (/\S*)`", section("HTTP API"))) == served - dialects
    page = (ROOT / "docs/dialects.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`[A-Z]+ (/\S*)`", page)) == dialects


def test_every_later_mark_is_bold() -> None:
    """Every `[later]` is in bold text."""
    assert all(
        line.count("[later]") == len(re.findall(r"\*\*[^*]*\[later\][^*]*\*\*", line)) for line in DOCUMENT.splitlines()
    )


def test_every_code_block_has_a_known_info_string() -> None:
    """A JSON block has frames of a client or of the server, or an HTTP body; the tests below validate it as such."""
    blocks = re.findall(r"^```(\S+.*)$", DOCUMENT, re.MULTILINE)
    assert set(blocks) == {"json client", "json server", "json http", "sse"}


def test_client_examples_are_valid_requests() -> None:
    """The gateway's decoder accepts each of them."""
    texts = examples("client")
    assert texts
    for text in texts:
        assert isinstance(JSON.decode(text), REQUESTS), text


def test_server_examples_are_valid_frames() -> None:
    """Each is a frame without unknown or missing fields, small enough for law 10."""
    texts = examples("server")
    assert texts
    for text in texts:
        frame = json.loads(text)
        decoded: Any = msgspec.convert(frame, ServerFrame)
        assert msgspec.to_builtins(decoded) == frame
        assert len(JSON.encode(decoded)) <= protocol.FRAME_BYTES_OUT_MAX


def test_http_examples_are_error_bodies() -> None:
    """Each has a valid `error` object."""
    texts = examples("http")
    assert texts
    for text in texts:
        error = json.loads(text)["error"]
        assert msgspec.to_builtins(msgspec.convert(error, ErrorBody)) == error
