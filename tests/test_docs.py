"""Holds docs/protocol.md to the code: it names what exists and nothing else, and its examples are frames."""

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

from gateway.http.routes import routes
from gateway.protocol import events
from gateway.protocol import requests as protocol
from gateway.protocol.codec import JSON
from gateway.protocol.errors import CODES, CloseCode, ErrorBody
from gateway.requests.services import Services
from gateway.settings import Settings
from providers.base import Params, Part, PartKind, Tool, Usage
from providers.demo.model import DemoOptions

DOCUMENT = (Path(__file__).parents[1] / "docs" / "protocol.md").read_text(encoding="utf-8")

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
"""What a whole table has in common is said once above it."""

FENCE = re.compile(r"^```json[ ]?(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ServerFrame = events.ServerEvent | protocol.Result | protocol.ResultPiece | protocol.ErrorAnswer


def tag_of(frame: type[Struct]) -> str:
    """The `type` or `kind` that a struct is told by."""
    return str(frame.__struct_config__.tag)


def section(title: str) -> str:
    """The text under a heading, down to the next heading of its level or above."""
    heading = re.search(rf"^(#+) `?{re.escape(title)}`?\n", DOCUMENT, re.MULTILINE)
    assert heading is not None, f"no section {title}"
    level = len(heading.group(1))
    following = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(DOCUMENT, heading.end())
    return DOCUMENT[heading.end() : following.start() if following else len(DOCUMENT)]


SHAPE_TABLES = section("Data types").partition("\n### ")[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row; of tables' heads and rules too, which name nothing that is looked for."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def row_of(name: str, text: str) -> str:
    """The row whose first cell is `name`, with or without backticks."""
    found = [" | ".join(cells[1:]) for cells in rows(text) if cells[0].strip("`") == name]
    assert len(found) == 1, f"{len(found)} rows for {name}"
    return found[0]


def names_in(text: str) -> set[str]:
    """Every word that stands in backticks."""
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", code)}


def examples(info: str) -> list[str]:
    """The JSON texts of all fences with that info word, one after another."""
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
def test_every_request_has_its_row_with_all_its_fields(request_type: type[Struct]) -> None:
    """A request is in a table of requests; its fields are there or in a section of its own."""
    name = tag_of(request_type)
    text = row_of(name, DOCUMENT)
    if f"### `{name}`" in DOCUMENT:
        text += section(name)
    assert set(request_type.__struct_encode_fields__) - {"id", "as"} <= names_in(text)


@pytest.mark.parametrize("event", [*EVENTS, *ANSWERS], ids=tag_of)
def test_every_event_and_answer_has_its_row_with_all_its_fields(event: type[Struct]) -> None:
    """What the server sends is in a table; what a status needs may stand in the table of statuses."""
    name = tag_of(event)
    within = section("Requests and answers") if event in ANSWERS else section("Server events")
    if event is events.TurnStatus:
        assert set(event.__struct_fields__) - SHARED_FIELDS <= names_in(within)
        return
    assert set(event.__struct_fields__) - SHARED_FIELDS <= names_in(row_of(name, within))


def test_no_row_names_a_request_or_event_that_does_not_exist() -> None:
    """A dotted name that opens a row is a type of the code, or is marked as later."""
    known = {tag_of(frame) for frame in (*REQUESTS, *EVENTS, *ANSWERS)}
    dotted = {cells[0].strip("`") for cells in rows(DOCUMENT) if len(cells) > 2 and LATER not in cells[-1]}
    assert {name for name in dotted if re.fullmatch(r"[a-z]+\.[a-z]+", name)} <= known


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_all_its_fields(name: str) -> None:
    """The table of shapes names each field."""
    assert set(SHAPES[name].__struct_fields__) <= names_in(row_of(name, SHAPE_TABLES))


@pytest.mark.parametrize("part", PARTS, ids=tag_of)
def test_every_part_has_all_its_fields(part: type[Struct]) -> None:
    """The table of parts names each kind with its fields; `signature` is said once below."""
    kind = tag_of(part)
    text = row_of("image" if kind == "file" else kind, SHAPE_TABLES)
    assert kind in get_args(PartKind)
    assert set(part.__struct_fields__) - {"signature"} <= names_in(text)


def test_every_demo_option_is_there() -> None:
    """The table of the demo model's options is complete, and invents none."""
    options = {cells[0].strip("`") for cells in rows(section("The demo model"))} - {"option", "---"}
    assert options == set(DemoOptions.__struct_fields__)


def test_the_table_of_error_codes_is_the_code_s() -> None:
    """Codes, HTTP statuses and `retryable` are those of `gateway.protocol.errors`."""
    table = {
        cells[0].strip("`"): (int(cells[1]), cells[2] == "yes")
        for cells in rows(section("Error codes"))
        if cells[0].startswith("`")
    }
    assert table == {code: (facts.http_status, facts.retryable) for code, facts in CODES.items()}


def test_the_table_of_close_codes_is_the_code_s() -> None:
    """Our close codes are those of `CloseCode`, and the standard ones are said too."""
    first_cells = " ".join(cells[0] for cells in rows(section("Close codes")))
    assert {int(code) for code in re.findall(r"\d{4}", first_cells)} == set(CloseCode) | STANDARD_CLOSE_CODES


def test_the_laws_are_numbered_as_tests_name_them() -> None:
    """Laws 1 to 13, each with its name."""
    numbers = re.findall(r"^(\d+)\. \*\*", section("The laws"), re.MULTILINE)
    assert [int(number) for number in numbers] == list(range(1, LAWS + 1))


def test_every_variable_is_a_setting() -> None:
    """A variable that the page names exists."""
    named = set(re.findall(r"\bTURNWIRE_([A-Z_]+)\b", DOCUMENT))
    assert named <= {name.upper() for name in Settings.model_fields}


def test_served_addresses_are_those_of_the_code() -> None:
    """The HTTP section names every address that is served, and no other."""

    def services() -> Services:
        raise AssertionError("nothing is served here")

    text = section("HTTP API")
    made = routes(Settings.model_validate({}))
    served = {route.path for route in made if isinstance(route, Route | Mount)}
    assert set(re.findall(r"`[A-Z]+ (/\S*)`", text)) == served


def test_every_later_is_marked_in_one_way() -> None:
    """The mark stands bold, so that a search for it finds every one."""
    assert all(
        line.count("[later]") == len(re.findall(r"\*\*[^*]*\[later\][^*]*\*\*", line)) for line in DOCUMENT.splitlines()
    )


def test_every_json_block_says_whose_it_is() -> None:
    """A block is frames of a client or of the server, or an HTTP body, and is checked as such."""
    blocks = re.findall(r"^```(\S+.*)$", DOCUMENT, re.MULTILINE)
    assert set(blocks) == {"json client", "json server", "json http", "sse"}


def test_a_client_s_examples_are_requests() -> None:
    """The gateway's own decoder takes each of them."""
    texts = examples("client")
    assert texts
    for text in texts:
        assert isinstance(JSON.decode(text), REQUESTS), text


def test_a_server_s_examples_are_frames() -> None:
    """Each is a frame of the code with nothing added and nothing left out, small enough for law 10."""
    texts = examples("server")
    assert texts
    for text in texts:
        frame = json.loads(text)
        decoded: Any = msgspec.convert(frame, ServerFrame)
        assert msgspec.to_builtins(decoded) == frame
        assert len(JSON.encode(decoded)) <= protocol.FRAME_BYTES_OUT_MAX


def test_an_http_example_is_an_error_body() -> None:
    """Its error has the shape of an error."""
    texts = examples("http")
    assert texts
    for text in texts:
        error = json.loads(text)["error"]
        assert msgspec.to_builtins(msgspec.convert(error, ErrorBody)) == error
