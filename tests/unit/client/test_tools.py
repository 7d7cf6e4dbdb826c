"""Tools that are made of functions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest

from turnwire.client import Message, Part, Tool, TurnwireError, tool
from turnwire.client.fields import start_fields
from turnwire.client.tools import _answers


class Place(msgspec.Struct):
    """A place."""

    name: str
    country: str = "NO"


async def weather(
    place: Place,
    unit: Literal["C", "F"] = "C",
    days: Annotated[int, msgspec.Meta(ge=1, le=7)] = 1,
    tags: list[str] | None = None,
) -> dict[str, Any]:
    """Say what the weather
    will be.

    It asks a satellite.

    Args:
        place: Where, as precisely
            as possible.
        unit (str): The unit.

    Returns:
        It: and so on.
    """
    return {"place": place.name, "unit": unit, "days": days}


def test_a_schema_from_hints_and_docstring() -> None:
    """The description is the first paragraph. Parameters with a default are optional."""
    wire = tool(weather).to_wire()
    assert wire["name"] == "weather"
    assert wire["description"] == "Say what the weather will be."
    schema = wire["parameters"]
    assert schema["type"] == "object"
    assert schema["required"] == ["place"]
    assert "as precisely as possible" in str(schema["properties"]["place"])
    assert schema["properties"]["unit"]["enum"] == ["C", "F"]
    assert schema["properties"]["unit"]["description"] == "The unit."
    assert schema["properties"]["days"]["maximum"] == 7
    assert schema["$defs"]["Place"]["required"] == ["name"]
    assert tool(weather, name="w", description="d").to_wire()["description"] == "d"


def test_functions_that_cannot_be_tools() -> None:
    """Without a hint, with `*args`, or with a type that JSON hasn't: an error that says what to do."""

    def no_hint(place):  # type: ignore[no-untyped-def]
        return place

    def arguments(*places: str) -> None: ...

    def odd(place: type) -> None: ...

    for function in (no_hint, arguments, odd):
        with pytest.raises(TurnwireError, match="Give each parameter a type") as raised:
            tool(function)
        assert raised.value.code == "invalid_tool"


async def test_answers_to_calls() -> None:
    """Calls run at the same time, and are answered in their order. Whatever fails is an answer too."""

    def broken() -> None:
        raise ValueError("no")

    known = {
        item.name: item for item in (tool(weather), tool(broken), Tool("raw", function=lambda **given: str(given)))
    }
    calls = [
        ("weather", '{"place":{"name":"Oslo"},"days":2}'),
        ("weather", '{"place":"Oslo"}'),
        ("weather", "not json"),
        ("broken", ""),
        ("nothing", "{}"),
        ("raw", '{"a":1}'),
    ]
    parts = [Part("tool_call", call=str(i), name=name, arguments=text) for i, (name, text) in enumerate(calls)]
    answers = await _answers(parts, known)
    assert [answer.call for answer in answers] == list("012345")
    assert msgspec.json.decode(answers[0].output or "") == {"place": "Oslo", "unit": "C", "days": 2}
    assert [bool(answer.error) for answer in answers] == [False, True, True, True, True, False]
    assert answers[3].output == "ValueError: no"
    assert answers[5].output == "{'a': 1}"


def test_the_fields_of_a_start() -> None:
    """Only what is given is sent, under the protocol's names. Of a message, only role and parts are."""
    history = Message(role="assistant", parts=[Part("text", text="x")], model="m", status="completed")
    fields = start_fields(
        [Part("text", text="hi"), {"kind": "text", "text": "you"}], messages=[history], continue_=True, model=None
    )
    assert fields == {
        "input": [{"kind": "text", "text": "hi"}, {"kind": "text", "text": "you"}],
        "messages": [{"role": "assistant", "parts": [{"kind": "text", "text": "x"}]}],
        "continue": True,
    }
