"""Runs migrations on the connection that `signalpost.store.migration` provides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from signalpost import failpoints


def _applied(
    ctx: MigrationContext, step: MigrationInfo, heads: Collection[Any], run_args: Mapping[str, Any]
) -> None:
    """Is called by these names inside the transaction of a migration, at its end."""
    del ctx, heads, run_args
    failpoints.hit("migrate.before_commit", subject=step.up_revision_id or "")


context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,
    transaction_per_migration=True,
    on_version_apply=_applied,
)
context.run_migrations()
