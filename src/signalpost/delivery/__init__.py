"""Takes work out: from a waiting delivery to its next state.

    lane → lease → attempt → outcome → verdict → record

* `lanes` is the home of every lane: it decides from memory which deliveries may go.
* `worker` claims them, one slot each, and runs `attempt` for every lease.
* `attempt` builds the `request`, has it sent, and decides by the verdict.
* `probe` and `handshake` make the requests that calls ask for, outside of all lanes, in `turns`.
* `rescuer` takes back what a crash or a lost hint left lying.

Invariants: no transaction is open while a request is on its way; a leased delivery occupies
a slot of the worker and of its lane until its record is committed; a record whose lease was
lost changes nothing.
"""
