"""Messages and services of ``signalpost.v1``, generated from ``proto/`` by ``make proto``."""
