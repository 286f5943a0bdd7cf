"""Statements of the hot paths, which go to the driver as text.

SQLAlchemy composes each of them once per dialect, and begins and ends the transactions. What it
does for every execution is left out: to find out anew what the columns of a result are takes it
longer than the database needs to find a few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

from sqlalchemy import BindParameter, Connection, Table, bindparam, insert
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import CompilerElement

Values = tuple[Any, ...]

_MOST_IN_LIST = 512
_MOST_INSERTED = 64
_Arrange = Callable[[Values], Values]


class AnyRow(Protocol):
    """A row of a result, whose columns are attributes."""

    def __getattr__(self, name: str, /) -> Any:
        """Return the value of a column."""


class Driven:
    """A statement whose parameters come as plain tuples, in the order of `names`.

    It is executed inside a transaction that has begun.
    """

    def __init__(self, statement: CompilerElement, *names: str) -> None:
        self._statement = statement
        self._names = names
        self._compiled: dict[str, tuple[str, _Arrange | None]] = {}
        self._row: Callable[[Iterable[Any]], Any] | None = None

    def many(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Execute it once for each row of values."""
        if rows:
            text, arrange = self._for(conn)
            with _cursor(conn, text) as cursor:
                cursor.executemany(text, [arrange(row) for row in rows] if arrange else rows)

    def fetch(self, conn: Connection, values: Values) -> Sequence[AnyRow]:
        """Return the rows it selects."""
        text, arrange = self._for(conn)
        with _cursor(conn, text) as cursor:
            cursor.execute(text, arrange(values) if arrange else values)
            found = cursor.fetchall()
            row = self._row or self._row_of(cursor)
        return [row(values) for values in found]

    def once(self, conn: Connection, values: Values) -> None:
        """Execute it with these values."""
        text, arrange = self._for(conn)
        with _cursor(conn, text) as cursor:
            cursor.execute(text, arrange(values) if arrange else values)

    def _row_of(self, cursor: DBAPICursor) -> Callable[[Iterable[Any]], Any]:
        fields = [(column[0], object) for column in cursor.description]
        # mypy wants to know the fields.
        made: Callable[[Iterable[Any]], Any] = cast("Any", NamedTuple)("Row", fields)._make
        self._row = made
        return made

    def text(self, conn: Connection) -> str:
        """Return what the driver gets to see."""
        return self._for(conn)[0]

    def _for(self, conn: Connection) -> tuple[str, _Arrange | None]:
        found = self._compiled.get(conn.dialect.name)
        if found is None:
            found = self._compiled[conn.dialect.name] = self._compile(conn)
        return found

    def _compile(self, conn: Connection) -> tuple[str, _Arrange | None]:
        compiled = self._statement.compile(conn)
        constants = compiled.params
        order = tuple(getattr(compiled, "positiontup", None) or ())
        if order == self._names:
            return str(compiled), None
        sources = [
            (self._names.index(name), None) if name in self._names else (None, constants[name])
            for name in order
        ]

        def arrange(values: Values) -> Values:
            return tuple(value if at is None else values[at] for at, value in sources)

        return str(compiled), arrange


class DrivenInsert:
    """Inserts rows with all columns of a table, in its order.

    Many rows go into one statement: the driver lets go of the interpreter for each statement
    that it executes, and to get it back from a busy event loop costs more than the row.
    """

    def __init__(self, table: Table) -> None:
        self._one = Driven(insert(table).inline(), *(column.name for column in table.columns))
        self._texts: dict[int, str] = {}

    def many(self, conn: Connection, rows: Sequence[Values]) -> None:
        """Insert rows."""
        if conn.dialect.paramstyle != "qmark":
            self._one.many(conn, rows)
            return
        start = 0
        while start < len(rows):
            # Few texts come about, for each has a power of two of rows.
            size = min(_MOST_INSERTED, 1 << ((len(rows) - start).bit_length() - 1))
            chunk = rows[start : start + size]
            text = self._text(conn, size)
            with _cursor(conn, text) as cursor:
                cursor.execute(text, tuple(chain.from_iterable(chunk)))
            start += size

    def _text(self, conn: Connection, size: int) -> str:
        found = self._texts.get(size)
        if found is None:
            head, marks = self._one.text(conn).split(" VALUES ")
            found = self._texts[size] = f"{head} VALUES {', '.join([marks] * size)}"
        return found


class Keyed:
    """A statement for a list of keys, whatever their number.

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
        for chunk in _padded(keys):
            yield from self._of_size(len(chunk)).fetch(conn, (*values, *chunk))

    def fetch_grouped(self, conn: Connection, rows: Iterable[Values]) -> Iterator[AnyRow]:
        """Return the rows of rows that are a key and then its values, as `execute_grouped` does."""
        for shared, keys in _grouped(rows):
            yield from self.fetch(conn, keys, values=shared)

    def execute(self, conn: Connection, keys: Sequence[Any], *, values: Values = ()) -> None:
        """Execute an UPDATE or a DELETE of these keys."""
        for chunk in _padded(keys):
            self._of_size(len(chunk)).once(conn, (*values, *chunk))

    def execute_grouped(self, conn: Connection, rows: Iterable[Values]) -> None:
        """Execute an UPDATE or a DELETE of rows that are a key and then its values.

        Those with the same values share a statement.
        """
        for shared, keys in _grouped(rows):
            self.execute(conn, keys, values=shared)

    def _of_size(self, size: int) -> Driven:
        found = self._sizes.get(size)
        if found is None:
            names = [f"key_{number}" for number in range(size)]
            statement = self._build([bindparam(name) for name in names])
            found = self._sizes[size] = Driven(statement, *self._names, *names)
        return found


def _grouped(rows: Iterable[Values]) -> Iterable[tuple[Values, Sequence[Any]]]:
    groups: dict[Values, list[Any]] = {}
    for key, *values in rows:
        groups.setdefault(tuple(values), []).append(key)
    return groups.items()


def _padded(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), _MOST_IN_LIST):
        chunk = keys[start : start + _MOST_IN_LIST]
        size = 1 << (len(chunk) - 1).bit_length()
        yield (*chunk, *(chunk[-1],) * (size - len(chunk)))


@contextmanager
def _cursor(conn: Connection, text: str) -> Iterator[DBAPICursor]:
    """Return a cursor of the driver, whose errors come as those of SQLAlchemy do."""
    dialect = conn.dialect
    with closing(conn.connection.cursor()) as cursor:
        try:
            yield cursor
        except cast("type[Exception]", dialect.loaded_dbapi.Error) as error:
            raise DBAPIError.instance(
                text, None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
            ) from error
