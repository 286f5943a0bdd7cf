"""HTTP out: one request to a customer's endpoint, and what became of it.

``sender`` is the port's implementation; ``pools`` keeps one ``transport`` for each endpoint;
its ``backend`` resolves a name (``resolver``), has every address judged (``guard``), and dials
what was judged as a ``stream``. ``trail`` notes how far an attempt got and ``failure`` what
stopped it; ``tls`` holds the one context and the names of what can be wrong.

Invariants:

* Every connection is made by ``backend``, to an address that ``guard`` let pass just before:
  a name is resolved once for a connection, and the judged address is the dialled one.
* One attempt puts at most one request on the wire.
* The status line decides. What follows is read for a moment and never changes the outcome;
  a connection that was not read to the end of its answer is closed.
* Connections are never shared between lanes.
"""
