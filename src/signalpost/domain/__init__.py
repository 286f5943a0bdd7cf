"""What Signalpost is about, as pure values and rules.

Nothing here awaits, reads a clock, draws a random number or does I/O: `now` and
jitter come in as arguments, decisions go out as values.
"""
