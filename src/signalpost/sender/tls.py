"""TLS of a request: always verified, at least 1.2, and what was wrong if it was not."""

from __future__ import annotations

import ssl
import time
from collections import OrderedDict
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
    64: "IP_ADDRESS_MISMATCH",
}
SESSION_SECONDS = 300.0
"""How long the session of a host is kept for resumption: as much memory as a connection."""

# Reasons of OpenSSL (sslerr.h), most of them for an alert that the endpoint sent.
_NO_VERSION = ("TLS_VERSION", "no common version of TLS")
_NO_CERTIFICATE = ("CLIENT_CERTIFICATE_REQUIRED", "the endpoint wants a client certificate")
_REFUSALS = {
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        "HANDSHAKE_REFUSED",
        "the endpoint has no forward-secret cipher suite, or wants a client certificate",
    ),
    "TLSV1_UNRECOGNIZED_NAME": ("SERVER_NAME_UNKNOWN", "the endpoint does not know its host name"),
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _NO_CERTIFICATE,
}

# Forward secrecy, whatever a distribution made the default. Those of TLS 1.3 have it anyway.
_SUITES = (
    "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:DHE+AES:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM"
)


class ClientContext(ssl.SSLContext):
    """A context for clients that resumes sessions with hosts it spoke to a moment ago.

    asyncio has no way to pass a session; this is where it makes its TLS objects.
    """

    max_sessions = 0
    """Of how many hosts sessions are kept."""

    def __init__(self, _: int) -> None:
        super().__init__()
        self._sessions: OrderedDict[str, tuple[float, ssl.SSLSession]] = OrderedDict()

    def remember(self, host: str, tls: ssl.SSLObject | None) -> None:
        """Keep the session of a host for its next connections.

        That of a connection which took one up is as old as the first of them: a certificate is
        not verified when a session is, and one that ended must be noticed.
        """
        if tls is None or tls.session is None:
            return
        if tls.session_reused:
            if host in self._sessions:
                self._sessions[host] = (self._sessions[host][0], tls.session)
            return
        now = time.monotonic()
        self._sessions[host] = (now, tls.session)
        self._sessions.move_to_end(host)
        while self._sessions:
            made_at, _ = next(iter(self._sessions.values()))
            if len(self._sessions) <= self.max_sessions and now - made_at < SESSION_SECONDS:
                break
            self._sessions.popitem(last=False)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as in the class it extends
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Make the TLS object of a connection."""
        if isinstance(server_hostname, str):
            session = session or self._recall(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def _recall(self, host: str) -> ssl.SSLSession | None:
        made_at, session = self._sessions.get(host, (0.0, None))
        return session if time.monotonic() - made_at < SESSION_SECONDS else None


def client_context(ca_file: Path | None, *, max_sessions: int) -> ClientContext:
    """Return a context that trusts the system's roots and, if given, those of a PEM file.

    It keeps the sessions of so many hosts. Raises OSError (ssl.SSLError is one) if the file
    cannot be used.
    """
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.max_sessions = max_sessions
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def tls_failed(error: OSError | ValueError) -> SendFailed:
    """Return the failure of a request whose handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = _CERTIFICATE_CODES.get(error.verify_code, "CERTIFICATE_INVALID")
        return SendFailed(Outcome.TLS_FAILED, code, error.verify_message)
    refusal = _REFUSALS.get(error.reason) if isinstance(error, ssl.SSLError) else None
    code, message = refusal or ("HANDSHAKE_FAILED", "the TLS handshake failed")
    return SendFailed(Outcome.TLS_FAILED, code, message)


def tls_broken(error: ssl.SSLError) -> SendFailed:
    """Return the failure of a request during which TLS broke, after the handshake."""
    # With TLS 1.3 a client is told only then that its certificate is missed.
    if error.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return SendFailed(Outcome.TLS_FAILED, *_NO_CERTIFICATE)
    return SendFailed(Outcome.CONNECTION_LOST, "TLS_BROKEN", "the endpoint broke TLS off")
