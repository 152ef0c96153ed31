"""Many rows in one statement: a column is an array, so the statement stays the same and short for any number of rows."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, Insert, insert
from sqlalchemy.orm import DeclarativeBase, Session


def insert_rows(session: Session, into: sa.Table | type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the keys of the first; columns that they leave out get their SQL default.

    About half the time of a list of VALUES, and a third of the client's: no parameter for each cell, nothing to parse.
    """
    if rows:
        table = into if isinstance(into, sa.Table) else cast(sa.Table, into.__table__)
        session.execute(insertion(table, tuple(rows[0])), arrays(rows))


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns: the parameters of `insertion`."""
    return {name: [row[name] for row in rows] for name in rows[0]}


@cache
def insertion(table: sa.Table, names: tuple[str, ...]) -> Insert:
    """`INSERT INTO table (names) SELECT … FROM unnest(…)`, for callers that add ON CONFLICT or RETURNING."""
    columns = [table.c[name] for name in names]
    given = (
        sa.func.unnest(*(sa.bindparam(column.name, type_=_array(column.type)) for column in columns))
        .table_valued(*(sa.column(column.name, column.type) for column in columns), name="given")
        .render_derived()
    )
    return insert(table).from_select(columns, sa.select(*given.c))


def _array(of: sa.types.TypeEngine[Any]) -> ARRAY[Any]:
    return ARRAY(of)
