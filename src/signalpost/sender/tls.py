"""TLS of a request: always verified, at least 1.2, and what was wrong if it was not."""

from __future__ import annotations

import ssl
from pathlib import Path

from signalpost.domain.outcome import Outcome
from signalpost.sender.failure import SendFailed

# Numbers of OpenSSL (x509_vfy.h), which the ssl module does not name.
_CERTIFICATE_CODES = {
    2: "UNKNOWN_CA",
    9: "CERTIFICATE_NOT_YET_VALID",
    10: "CERTIFICATE_EXPIRED",
    18: "SELF_SIGNED",
    19: "UNKNOWN_CA",
    20: "UNKNOWN_CA",
    21: "UNKNOWN_CA",
    62: "HOSTNAME_MISMATCH",
    64: "HOSTNAME_MISMATCH",
}
_VERSION_REASONS = frozenset({"TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"})


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's roots and, if given, those of a PEM file.

    Raises OSError (ssl.SSLError is one) if the file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_failed(error: OSError | ValueError) -> SendFailed:
    """Return the failure of a request whose handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = _CERTIFICATE_CODES.get(error.verify_code, "CERTIFICATE_INVALID")
        return SendFailed(Outcome.TLS_FAILED, code, error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason in _VERSION_REASONS:
        return SendFailed(Outcome.TLS_FAILED, "TLS_VERSION", "no common version of TLS")
    return SendFailed(Outcome.TLS_FAILED, "HANDSHAKE_FAILED", "the TLS handshake failed")
