"""The credential of a connection: a text, or what a function returns."""

from __future__ import annotations

import inspect

from turnwire.client.errors import CredentialFailed, TurnwireError
from turnwire.client.options import Credential


async def fresh(credential: Credential | None) -> str | None:
    """Return the credential, from its function if it is one. Raise `CredentialFailed` if that fails.

    An error whose `retryable` is False, as a `TurnwireError` can have it, is final.
    """
    if credential is None:
        return None
    try:
        value: object = credential() if callable(credential) else credential
        if inspect.isawaitable(value):
            value = await value
    except TurnwireError as error:
        raise _failed(error, retryable=error.retryable) from error
    except Exception as error:
        raise _failed(error, retryable=True) from error
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise CredentialFailed(
            "The token or ticket must be a text of printable ASCII characters that isn't empty. Check the function or "
            "variable that it comes from.",
            retryable=False,
        )
    return value


def is_renewable(credential: Credential | None) -> bool:
    """Return whether another credential may be had."""
    return callable(credential)


def _failed(error: Exception, *, retryable: bool) -> CredentialFailed:
    return CredentialFailed(
        f"The function for the token or ticket has failed with {type(error).__name__}: {error}. Correct it, or sign in again.",
        retryable=retryable,
    )
