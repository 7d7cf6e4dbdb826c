"""The input of a run of AG-UI: the body of a request. No I/O."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.dialects.ag_ui_messages import AgMessage
from gateway.dialects.application_options import ApplicationOptions
from gateway.dialects.base import decode_request, renamed
from gateway.protocol.decode_errors import decode_error


class AgTool(Struct):
    """A tool that the application has."""

    name: str
    description: str = ""
    parameters: Any = None


class AgContext(Struct):
    """A piece of information for the model."""

    description: str
    value: str


class RunInput(Struct, rename="camel", kw_only=True):
    """The input of a run. Unknown fields are ignored."""

    thread_id: str
    run_id: str
    messages: list[AgMessage]
    parent_run_id: str | None = None
    state: Any = None
    tools: list[AgTool] | None = None
    context: list[AgContext] | None = None
    forwarded_props: Any = None
    resume: list[Any] | None = None


_decode: Final = msgspec.json.Decoder(RunInput, float_hook=float).decode


def input_of(body: bytes) -> RunInput:
    """Return the input of a run in a body. Raises `ApiError`."""
    return decode_request(_decode, body)


def options_of(given: Any) -> ApplicationOptions:
    """Return the options in `forwardedProps`. Its other fields belong to the application. Raises `ApiError`."""
    if not isinstance(given, dict):
        return ApplicationOptions()
    try:
        return msgspec.convert(given, ApplicationOptions)
    except msgspec.ValidationError as error:
        raise renamed(decode_error(error), "forwardedProps.{}".format) from None
