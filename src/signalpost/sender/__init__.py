"""HTTP out: one request to a customer's endpoint, and what became of it.

``sender`` is the port's implementation. Its ``transport`` takes a kept ``connection`` from the
``pool``, or has the ``dialer`` make one: that resolves the name (``resolver``), has every
address judged (``guard``), dials what was judged, and speaks TLS (``tls``). The connection
writes the request once and reads the ``answer``. ``trail`` notes how far an attempt got, and
``failure`` what stopped it.

Invariants:

* Every connection is made by ``dialer``, to an address that ``guard`` let pass just before:
  a name is resolved once for a connection, and the judged address is the dialled one.
* One attempt puts at most one request on the wire.
* The status line decides. What follows is read for a moment and never changes the outcome;
  a connection that was not read to the end of its answer, or on which more arrived, is closed.
* Connections are never shared between lanes.
"""
