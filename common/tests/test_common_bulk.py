"""Many rows in one statement: every type comes back as it went in, defaults are made row by row."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common.bulk import RowsMissing, given, insert_rows, insertion, update_rows
from common.db import Database, UtcDateTime


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"

    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(always=True), primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text, unique=True)
    key: Mapped[object] = mapped_column(sa.Uuid)
    many: Mapped[int] = mapped_column(sa.BigInteger)
    told: Mapped[object] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    day: Mapped[object] = mapped_column(sa.Date)
    note: Mapped[str | None] = mapped_column(sa.Text)
    price: Mapped[Decimal | None] = mapped_column(sa.Numeric)
    sure: Mapped[bool] = mapped_column(sa.Boolean)
    mark: Mapped[object] = mapped_column(sa.Uuid, server_default=sa.func.gen_random_uuid())


NOW = datetime(2026, 11, 24, 4, 0, 0, 123456, tzinfo=UTC)


def thing(number: int) -> dict[str, object]:
    return {
        "name": f"thing {number}",
        "key": uuid4(),
        "many": number - 2**62,
        "told": {"text": 'it\'s {"a", NULL} \\ ₹ \n', "list": [1, None, {"deep": "x,y"}]},
        "at": NOW + timedelta(seconds=number),
        "day": NOW.date() + timedelta(days=number),
        "note": None if number % 2 else "NULL",
        "price": Decimal(number) / 8 if number % 3 else None,
        "sure": number % 5 == 0,
    }


@pytest.fixture
def db(scratch_database: Database) -> Database:
    Base.metadata.create_all(scratch_database.engine)
    return scratch_database


def test_rows_come_back_as_they_went_in_and_in_their_order(db: Database) -> None:
    rows = [thing(number) for number in range(3_000)]
    with db.transaction() as session:
        insert_rows(session, Thing, rows)
    with db.session() as session:
        found = session.scalars(sa.select(Thing).order_by(Thing.id)).all()
        assert [{name: getattr(one, name) for name in rows[0]} for one in found] == rows
        assert len({one.mark for one in found}) == len(rows), "a default is made for each row"


def test_nothing_is_no_statement_and_what_does_not_fit_is_refused(db: Database) -> None:
    with db.transaction() as session:
        insert_rows(session, Thing, [])
    with pytest.raises(TypeError), db.transaction() as session:
        insert_rows(session, Thing, [{**thing(1), "at": datetime(2026, 11, 24)}])  # noqa: DTZ001  that is the point
    with db.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Thing)) == 0


def test_a_caller_may_skip_what_is_there_and_learn_what_is_new(db: Database) -> None:
    table = sa.inspect(Thing).local_table
    rows = [thing(number) for number in range(4)]
    with db.transaction() as session:
        insert_rows(session, Thing, rows[:2])
        statement = insertion(table, tuple(rows[0])).on_conflict_do_nothing(index_elements=["name"])
        new = session.scalars(statement.returning(table.c.name), given(rows)).all()
    assert sorted(new) == ["thing 2", "thing 3"]


def test_rows_are_changed_each_by_its_key_and_a_missing_one_is_an_error(db: Database) -> None:
    with db.transaction() as session:
        insert_rows(session, Thing, [thing(number) for number in range(100)])
        changes = [
            {"name": f"thing {number}", "many": number, "note": None, "at": NOW - timedelta(days=number)}
            for number in range(0, 100, 2)
        ]
        update_rows(session, Thing, "name", changes)
        update_rows(session, Thing, "name", [])
    with db.transaction() as session:
        found = session.execute(sa.select(Thing.name, Thing.many, Thing.note, Thing.at)).all()
    changed = [tuple(change.values()) for change in changes]
    assert sorted(row for row in found if int(row.name.split()[1]) % 2 == 0) == sorted(changed)
    assert all(row.many == int(row.name.split()[1]) - 2**62 for row in found if int(row.name.split()[1]) % 2)
    with db.transaction() as session, pytest.raises(RowsMissing, match="2 rows of thing to change, 1 changed"):
        update_rows(session, Thing, "name", [{"name": "thing 1", "many": 5}, {"name": "thing 100", "many": 5}])
