"""Why a database cannot be used at all."""

from __future__ import annotations


class DatabaseRefused(Exception):
    """The service cannot start on this database; the message is one line for its operator."""


class MasterKeyInvalid(DatabaseRefused):
    """The master key is missing, malformed, or not the one that sealed this database."""
