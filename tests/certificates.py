"""A certificate for 127.0.0.1 and localhost, made for one test by an authority of its own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificate:
    """The PEM files of a certificate, its key and its authority, and a context that trusts this authority."""

    certfile: Path
    keyfile: Path
    authority: Path
    context: ssl.SSLContext


def make_certificate(
    folder: Path, not_after: datetime | None = None, not_before: datetime | None = None
) -> Certificate:
    """Write the files into `folder`. The certificate is valid from `not_before` to `not_after`."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost", not_after=not_after, not_before=not_before)
    certfile, keyfile, authority_file = (folder / name for name in ("fullchain.pem", "privkey.pem", "authority.pem"))
    certfile.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(keyfile))
    keyfile.chmod(0o600)
    authority.cert_pem.write_to_path(str(authority_file))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Certificate(certfile, keyfile, authority_file, context)
