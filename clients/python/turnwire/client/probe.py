"""Asks an address over HTTP what it is."""

from __future__ import annotations

import ssl as ssl_module
from typing import Any
from urllib.parse import urlsplit

import msgspec

from turnwire.client.errors import CertificateUntrusted, ConnectFailed, NotAGateway, ProtocolMismatch
from turnwire.client.http import HttpError, send
from turnwire.client.options import Options

PROTOCOL = "turnwire.v1"
TIMEOUT_S = 5.0


async def find_gateway(options: Options) -> None:
    """Return if a gateway answers over HTTP. Raise a `ConnectFailed` otherwise."""
    place = place_of(options)
    url = f"{options.address.base}/v1"
    timeout_s = min(TIMEOUT_S, options.open_timeout)
    try:
        headers = {"Accept": "application/json", **options.headers}
        response = await send("GET", url, headers=headers, ssl=options.ssl, timeout_s=timeout_s)
        async with response:
            answer: Any = msgspec.json.decode(await response.body())
    except (HttpError, msgspec.DecodeError) as error:
        raise NotAGateway(not_a_gateway(place, "It doesn't answer at /v1 as a gateway does")) from error
    except (OSError, UnicodeError, ValueError) as error:
        raise unreachable(options, error) from error
    if not isinstance(answer, dict) or answer.get("name") != "turnwire":
        raise NotAGateway(not_a_gateway(place, "It doesn't answer at /v1 as a gateway does"))
    check_protocol(options, answer.get("protocol"))


def unreachable(options: Options, error: Exception) -> ConnectFailed:
    """Return the error for an address at which nothing answers, or not with a certificate that is trusted."""
    place = place_of(options)
    if isinstance(error, TimeoutError):
        return ConnectFailed(f"The gateway at {place} didn't answer in time. Check the address, or try again.")
    if isinstance(error, ssl_module.SSLCertVerificationError):
        return CertificateUntrusted(
            f"The certificate of {place} isn't trusted: {error.verify_message.rstrip('.')}. If an authority of your own has "
            "signed it, pass ssl=ssl.create_default_context(cafile=…)."
        )
    if isinstance(error, ssl_module.SSLError):
        return NotAGateway(
            f"{place} doesn't answer with TLS ({error.reason}). Use ws:// or http:// if the gateway has no certificate."
        )
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ConnectFailed(
        f"The gateway at {place} can't be reached: {str(text).rstrip('.')}. Check the address, and that the gateway runs."
    )


def check_protocol(options: Options, protocol: object) -> None:
    """Raise `ProtocolMismatch` unless it is the one that this client speaks."""
    if protocol != PROTOCOL:
        raise ProtocolMismatch(
            f"The gateway at {options.address.host} speaks {str(protocol)[:40]!r}, and this client {PROTOCOL}. "
            "Install the version of the turnwire package that fits the gateway."
        )


def not_a_gateway(place: str, why: str) -> str:
    """Return the message of `NotAGateway`."""
    return f"{place} is not a Turnwire gateway. {why}. Check the address and its path, which is /ws unless a proxy changes it."


def place_of(options: Options) -> str:
    """Return the address as a message shows it."""
    parts = urlsplit(options.address.socket)
    return f"{parts.netloc}{parts.path}"
