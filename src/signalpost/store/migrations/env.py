"""Runs migrations on the connection that `signalpost.store.migration` provides."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
    transaction_per_migration=True,
)
context.run_migrations()
