"""Keeps everything that must outlive the process.

SQL is written as plain functions over a connection, one module for each subject: `events`
accepts and shows events, `waiting` finds what is pending, `queue` hands it out, `outcomes` takes
it back and `changes` writes what follows, `damage` mends what it can, `deliveries` and
`subscriptions` do what they say. `writer` runs what changes something in shared transactions,
`readers` run the rest beside it, `engine` alone knows which database it is. `opening` is all that
must be right before.

Invariants: what is acknowledged is on stable storage. A delivery is pending exactly while it
has a row in `queue`. Tokens of leases only rise. Row numbers rise in the order of acceptance.
Secrets and header values are only stored sealed.
"""

from signalpost.store.opening import migrate
from signalpost.store.refusal import DatabaseRefused, MasterKeyInvalid
from signalpost.store.store import Store

__all__ = ["DatabaseRefused", "MasterKeyInvalid", "Store", "migrate"]
