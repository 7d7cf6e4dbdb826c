"""Failures in an event that have another form than an error object, such as MiniMax's status. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from providers.base import ProviderError
from providers.errors.failures import Failures
from providers.errors.minimax import is_failed_status
from providers.http.lenient_json import parse_documents


class Reporting(Protocol):
    """An event that may report a failure in one of these fields."""

    error: Any
    base_resp: Any


def has_failed(event: Reporting) -> bool:
    """Return whether an event reports a failure in another way than by an object, a list or a text as `error`."""
    error = event.error
    if error and not isinstance(error, dict | list | str):
        return True
    return event.base_resp is not None and is_failed_status(event.base_resp)


def find_failed(documents: list[Any]) -> Mapping[str, Any] | None:
    """Return the document that reports a failure as `has_failed` finds it, or None."""
    objects = (document for document in documents if isinstance(document, dict))
    return next((body for body in objects if body.get("error") or is_failed_status(body.get("base_resp"))), None)


def find_failure(event: Reporting, data: bytes, failures: Failures) -> ProviderError | None:
    """Return the failure that `event` reports, or None if it reports none. `data` is the text of the event.

    Failures in the field `error` aren't looked for if it is an object, a list or a text: the caller reads those.
    """
    if has_failed(event):
        return failures.from_event(find_failed(parse_documents(data)))
    return failures.from_documents(parse_documents(data)) if event.error is None else None
