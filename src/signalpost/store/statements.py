"""Statements of the hot paths, which go to the driver as text.

SQLAlchemy composes each of them once per dialect; what `Connection.execute` does for every
row is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, Row, Table, bindparam, insert
from sqlalchemy.sql.elements import CompilerElement

Values = tuple[Any, ...]
AnyRow = Row[*tuple[Any, ...]]

_MOST_IN_LIST = 512


class Driven:
    """A statement whose parameters come as plain tuples, in the order of `names`."""

    def __init__(self, statement: CompilerElement, *names: str) -> None:
        self._statement = statement
        self._names = names
        self._compiled: dict[str, tuple[str, Callable[[Values], Values]]] = {}

    def many(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Execute it once for each row of values."""
        if rows:
            text, arrange = self._for(conn)
            conn.exec_driver_sql(text, [arrange(row) for row in rows])

    def fetch(self, conn: Connection, values: Values) -> Sequence[AnyRow]:
        """Return the rows it selects."""
        text, arrange = self._for(conn)
        return conn.exec_driver_sql(text, arrange(values)).fetchall()

    def _for(self, conn: Connection) -> tuple[str, Callable[[Values], Values]]:
        found = self._compiled.get(conn.dialect.name)
        if found is None:
            found = self._compiled[conn.dialect.name] = self._compile(conn)
        return found

    def _compile(self, conn: Connection) -> tuple[str, Callable[[Values], Values]]:
        compiled = self._statement.compile(conn)
        constants = compiled.params
        order = tuple(getattr(compiled, "positiontup", None) or ())
        if order == self._names:
            return str(compiled), lambda values: values
        sources = [
            (self._names.index(name), None) if name in self._names else (None, constants[name])
            for name in order
        ]

        def arrange(values: Values) -> Values:
            return tuple(value if at is None else values[at] for at, value in sources)

        return str(compiled), arrange


def driven_insert(table: Table) -> Driven:
    """Return the statement that inserts rows with all columns, in the order of the table."""
    return Driven(insert(table).inline(), *(column.name for column in table.columns))


class Lookup:
    """A SELECT for a list of keys, whatever their number.

    `build` makes the statement from the parameters of an IN list. Few texts come about, for
    the length of the list is rounded up to a power of two.
    """

    def __init__(
        self, build: Callable[[Sequence[BindParameter[Any]]], CompilerElement], *names: str
    ) -> None:
        self._build = build
        self._names = names
        self._sizes: dict[int, Driven] = {}

    def fetch(
        self, conn: Connection, keys: Sequence[Any], *, values: Values = ()
    ) -> Iterator[AnyRow]:
        """Return the rows of these keys; `values` are those of the named parameters."""
        for start in range(0, len(keys), _MOST_IN_LIST):
            chunk = keys[start : start + _MOST_IN_LIST]
            size = 1 << (len(chunk) - 1).bit_length()
            padding = (chunk[-1],) * (size - len(chunk))
            yield from self._of_size(size).fetch(conn, (*values, *chunk, *padding))

    def _of_size(self, size: int) -> Driven:
        found = self._sizes.get(size)
        if found is None:
            names = [f"key_{number}" for number in range(size)]
            statement = self._build([bindparam(name) for name in names])
            found = self._sizes[size] = Driven(statement, *self._names, *names)
        return found
