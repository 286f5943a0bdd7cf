"""Account events in over gRPC, signed webhooks out: durable, retried, observable.

The layers, each of which may import only what stands below it::

    cli            the command: arguments become settings
    app            builds everything by hand and owns every lifetime
    api  client    gRPC in: the servicers, and what a publisher needs
    store  sender  SQL, and HTTP out
    publishing  subscriptions  delivery    the use cases
    ports          what the use cases need from store and sender
    domain         pure rules and values
    v1             generated from the contract in ``proto/``
"""

from importlib.metadata import version

__version__ = version("signalpost")
