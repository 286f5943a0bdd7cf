"""Why a request got no answer, as an exception inside this package only."""

from __future__ import annotations

import errno
import os
import socket

import httpx

from signalpost.domain.outcome import Outcome

_CONNECT_CODES = {
    errno.ECONNREFUSED: "CONNECTION_REFUSED",
    errno.ECONNRESET: "CONNECTION_RESET",
    errno.EADDRNOTAVAIL: "UNREACHABLE",
    errno.EAFNOSUPPORT: "UNREACHABLE",
    errno.EHOSTUNREACH: "UNREACHABLE",
    errno.ENETDOWN: "UNREACHABLE",
    errno.ENETUNREACH: "UNREACHABLE",
    errno.EMFILE: "TOO_MANY_OPEN_FILES",
    errno.ENFILE: "TOO_MANY_OPEN_FILES",
}


class SendFailed(httpx.TransportError):
    """A request ended without an answer; carries what the attempt's record says about it."""

    def __init__(self, outcome: Outcome, code: str, message: str) -> None:
        self.outcome = outcome
        self.code = code
        super().__init__(message)


def timed_out(phase: str) -> SendFailed:
    """Return the failure of a request that ran out of time in this phase."""
    if phase == "TLS":
        return SendFailed(
            Outcome.TLS_FAILED, "HANDSHAKE_TIMEOUT", "the TLS handshake did not end in time"
        )
    return SendFailed(Outcome.TIMED_OUT, str(phase), f"no answer in time, while in phase {phase}")


def connect_failed(error: OSError) -> SendFailed:
    """Return the failure of a request for which no connection came about."""
    if isinstance(error, TimeoutError):
        return timed_out("CONNECT")
    code = _CONNECT_CODES.get(error.errno or 0, "CONNECT_ERROR")
    return SendFailed(Outcome.CONNECTION_FAILED, code, _explained(error))


def connection_lost(error: OSError) -> SendFailed:
    """Return the failure of a request whose connection broke after it was begun."""
    return SendFailed(Outcome.CONNECTION_LOST, "CONNECTION_RESET", _explained(error))


def closed_unanswered() -> SendFailed:
    """Return the failure of a request that the endpoint closed the connection on."""
    return SendFailed(
        Outcome.CONNECTION_LOST, "CONNECTION_CLOSED", "closed by the endpoint before its answer"
    )


def kept_connection_lost() -> SendFailed:
    """Return the failure of a request on a kept connection that ended before any answer.

    Most of these met an endpoint that was about to close an idle connection: how many there
    are tells whether connections are kept for too long.
    """
    return SendFailed(
        Outcome.CONNECTION_LOST,
        "KEPT_CONNECTION_LOST",
        "the connection, kept from an earlier request, ended before an answer",
    )


def not_http() -> SendFailed:
    """Return the failure of a request that was answered by something else than HTTP."""
    return SendFailed(Outcome.PROTOCOL_ERROR, "INVALID_RESPONSE", "the answer is not HTTP/1.1")


def internal() -> SendFailed:
    """Return the failure of a request by a fault of this service; what arrived is unknown."""
    return SendFailed(Outcome.CONNECTION_LOST, "INTERNAL", "internal error")


def _explained(error: OSError) -> str:
    """Explain by error number: the text of an exception may hold anything."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return "the connection broke"
    return os.strerror(error.errno)
