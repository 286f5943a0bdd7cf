"""The command line: arguments become settings, and what happens becomes readable.

    command         the group `signalpost`
    serve  migrate  listen  demo  version     one command each
    options         flags that stand for settings
    process         how a command runs until it is told to stop
    receiver        an HTTPS server that takes webhooks
    certificates    the throw-away CA it runs under
    verification    what a receiver does with a signature
    webhook         a received webhook as text that is safe on a terminal
    examples        one event of each built-in type that publishers send
    board           what the demonstration knows of its deliveries
    display         how the demonstration shows it

Whatever comes from outside passes `terminal.visible` before it is printed.
"""
