"""Many rows in one statement: they travel as one JSON text, so the statement stays the same and short for any number."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cache
from typing import Any, cast

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON, Insert, insert
from sqlalchemy.orm import DeclarativeBase, Session

_ROWS = "rows"


class RowsMissing(Exception):
    """Rows that were to change are not there (or there twice): a programming error."""


def insert_rows(session: Session, into: sa.Table | type[DeclarativeBase], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all have the keys of the first; columns that they leave out get their SQL default.

    A sixth of the client's time and less than half of the whole of one array a column, which beats a list of VALUES: the
    server reads a value at a time and has no expression for each cell to parse. Raises TypeError for a value that JSON
    does not carry exactly, a naive datetime among them.
    """
    if rows:
        table = into if isinstance(into, sa.Table) else cast(sa.Table, into.__table__)
        session.execute(insertion(table, tuple(rows[0])), given(rows))


def update_rows(session: Session, of: type[DeclarativeBase], key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set the columns that the first row names, each row under its own `key`; raises RowsMissing when one is not there."""
    if not rows:
        return
    result = session.execute(updating(cast(sa.Table, of.__table__), key, tuple(rows[0])), given(rows))
    if result.rowcount != len(rows):  # type: ignore[attr-defined]
        raise RowsMissing(f"{len(rows)} rows of {of.__tablename__} to change, {result.rowcount} changed")  # type: ignore[attr-defined]


def array_of(values: Iterable[Any], of: type[sa.types.TypeEngine[Any]] = sa.Uuid) -> sa.BindParameter[Any]:
    """Any number of values as one array parameter, for `= ANY(...)` and `unnest`: the statement stays the same."""
    array: Any = sa.ARRAY(of)
    return sa.bindparam(None, list(values), type_=array, unique=True)


def given(rows: Sequence[Mapping[str, Any]], under: str = _ROWS) -> dict[str, str]:
    """The parameters of `insertion`, `updating` and `recordset` of that name."""
    return {under: orjson.dumps(rows, default=_exact, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()}


def all_at_once(*writes: Insert | sa.Update) -> sa.Select[int]:
    """Writes to different rows as one statement: one exchange with the server. Answers how many rows the last one wrote.

    The last has to return something. None of them sees what the others write.
    """
    parts = [write.cte(f"write_{number}") for number, write in enumerate(writes)]
    return sa.select(sa.func.count()).select_from(parts[-1]).add_cte(*parts[:-1])


@cache
def insertion(table: sa.Table, names: tuple[str, ...], under: str = _ROWS) -> Insert:
    """`INSERT INTO table (names) SELECT … FROM json_to_recordset(…)`, for callers that add ON CONFLICT or RETURNING."""
    rows = recordset(table, names, under=under)
    return insert(table).from_select([table.c[name] for name in names], sa.select(*rows.c))


@cache
def updating(table: sa.Table, key: str, names: tuple[str, ...], under: str = _ROWS) -> sa.Update:
    """`UPDATE table SET … FROM json_to_recordset(…)`: the columns `names`, each row under its own `key`."""
    rows = recordset(table, names, under=under)
    return (
        sa.update(table)
        .where(table.c[key] == rows.c[key])
        .values({name: rows.c[name] for name in names if name != key})
    )


def recordset(
    table: sa.Table, names: Sequence[str], *more: sa.ColumnClause[Any], under: str = _ROWS
) -> sa.TableValuedAlias:
    """What `given` gives as rows of a query: columns of the table, and `more` that it does not have."""
    return (
        sa.func.json_to_recordset(sa.cast(sa.bindparam(under, type_=sa.Text), JSON))
        .table_valued(*(sa.column(name, table.c[name].type) for name in names), *more, name="given")
        .render_derived(with_types=True)
    )


def _exact(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date) and not (isinstance(value, datetime) and value.tzinfo is None):
        return value.isoformat()
    raise TypeError(f"not for a column: {value!r}")
