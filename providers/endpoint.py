"""The endpoint of a provider: its address, and what has to be sent with every request."""

from __future__ import annotations

from msgspec import Struct

SECRET_CHARS_MIN = 16
"""The length in characters from which a header, an option or a proxy's URL is a secret. Shorter ones are names or regions."""


class Endpoint(Struct, frozen=True):
    """The way in which this process reaches a provider. `keys` are the names of variables; their values are never shown."""

    provider: str
    title: str
    base_url: str
    keys: tuple[str, ...]
    api_keys: tuple[str, ...] = ()
    """The API keys of this provider. They are interchangeable and may be used in rotation."""
    headers: dict[str, str] = {}
    """Headers that are sent with every request."""
    options: dict[str, str] = {}
    """Other settings that the client of a cloud needs: a region, a project, credentials."""
    hint: str = ""
    """A sentence that is appended to the error message if a key is rejected."""
    proxy: str = ""
    """The URL of the HTTP proxy for requests. Empty if there is none."""

    @property
    def api_key(self) -> str:
        """The first API key, or an empty string."""
        return self.api_keys[0] if self.api_keys else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must not appear in a log or anywhere else: keys, long headers and options, a long proxy."""
        values = (*self.headers.values(), *self.options.values(), self.proxy)
        return (*self.api_keys, *(value for value in values if len(value) >= SECRET_CHARS_MIN))

    def __repr__(self) -> str:
        return f"Endpoint({self.provider!r}, keys={len(self.api_keys) or 'none'})"
