"""The certificate with which the gateway itself serves https and wss."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path


class CertificateError(Exception):
    """The certificate or its key can't be used. The message says why and what to do, for the operator."""


def tls_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """Return the context of a server with this certificate chain and key, both in PEM files. Raises `CertificateError`.

    `keyfile` None: the key is in `certfile`, too.
    """
    key_name = keyfile or certfile
    if b"-----BEGIN CERTIFICATE-----" not in _read(certfile):
        raise CertificateError(
            f"{certfile} has no certificate in PEM format (BEGIN CERTIFICATE). Check TURNWIRE_CERTFILE."
        )
    if b"PRIVATE KEY-----" not in _read(key_name):
        raise CertificateError(
            f"{key_name} has no private key in PEM format (BEGIN PRIVATE KEY). Check TURNWIRE_KEYFILE."
        )

    def refuse_encrypted_key() -> str:
        raise CertificateError(
            f"The private key in {key_name} is encrypted, and nobody can type a passphrase into a server. Write it "
            f"without one: openssl pkey -in {key_name} -out new.key"
        )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certfile, keyfile, refuse_encrypted_key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(
                f"The private key in {key_name} doesn't belong to the first certificate in {certfile}. The server's "
                "own certificate has to come first, then those of its authorities."
            ) from None
        raise CertificateError(
            f"{certfile} and {key_name} can't be used: {error.reason or error}. Check that both are whole PEM files."
        ) from None
    return context


def validity_problem(certfile: str) -> str | None:
    """Return why clients refuse the first certificate in this file at this time, as a sentence; None if they don't.

    Raises `CertificateError` if the file can't be read.
    """
    # Imported here so that a gateway without a certificate starts faster.
    from cryptography.x509 import load_pem_x509_certificates

    certificate = load_pem_x509_certificates(_read(certfile))[0]
    begin, end, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    if end < now:
        return f"The certificate in {certfile} expired on {end:%Y-%m-%d}, so clients refuse it. Renew it."
    if begin > now:
        return f"The certificate in {certfile} is valid from {begin:%Y-%m-%d %H:%M} UTC on. Check the clock."
    return None


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(
            f"{path} can't be read: {error.strerror}. Check TURNWIRE_CERTFILE and TURNWIRE_KEYFILE."
        ) from None
