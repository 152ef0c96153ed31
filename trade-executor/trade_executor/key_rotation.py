"""Replacing the master key of the broker credentials, while processes read them.

Every process gets the new key beside the old one (EXECUTOR_SEAL_KEYS) and makes it the current one; then all rows are
sealed anew, batch by batch, each in a transaction of its own: stopped anywhere, it goes on where it was. After that the
old key may go.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from common import audit
from common.audit import Actor
from common.db import Database, run_in_transaction
from common.sealing import SealBroken, Sealer
from trade_executor.models import BrokerAccount, BrokerSession

BATCH = 200
ACTOR = Actor("command_line", "key rotation")


@dataclass(frozen=True)
class SealedColumn:
    """A column of sealed texts; `name` is what its seals are bound to."""

    table: str
    name: str
    row: InstrumentedAttribute[Any]
    value: InstrumentedAttribute[str]


SEALED_COLUMNS = (
    SealedColumn("broker_account", "api_secret", BrokerAccount.account, BrokerAccount.api_secret_sealed),
    SealedColumn("broker_session", "access_token", BrokerSession.session_id, BrokerSession.access_token_sealed),
)


@dataclass
class Resealed:
    """What a rotation has done; `unreadable` are the places that no key opens and that stay as they are."""

    version: int
    resealed: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate(db: Database, sealer: Sealer) -> Resealed:
    """Seal every credential of another key version with the current one."""
    done = Resealed(sealer.current)
    for column in SEALED_COLUMNS:
        last: Any = None
        while True:
            batch, last = run_in_transaction(db, partial(_batch, sealer=sealer, column=column, after=last))
            done.resealed += batch.resealed
            done.unreadable += batch.unreadable
            if last is None:
                break
    return done


def _batch(session: Session, *, sealer: Sealer, column: SealedColumn, after: Any) -> tuple[Resealed, Any]:
    """One batch in the order of the rows' keys; answers also the last key looked at, None at the end."""
    done = Resealed(sealer.current)
    statement = (
        sa.select(column.row, column.value)
        .where(column.value.not_like(f"{sealer.current}:%"))
        .order_by(column.row)
        .limit(BATCH)
        .with_for_update()
    )
    if after is not None:
        statement = statement.where(column.row > after)
    rows = session.execute(statement).all()
    for row, sealed in rows:
        try:
            fresh = sealer.reseal(sealed, table=column.table, row=str(row), column=column.name)
        except SealBroken:
            done.unreadable.append(f"{column.table}.{column.value.key} of {row}")
            continue
        session.execute(sa.update(column.row.class_).where(column.row == row).values({column.value.key: fresh}))
        done.resealed += 1
    if done.resealed:
        target = f"table:{column.table}"
        audit.record(session, ACTOR, "keys.rotated", target=target, rows=done.resealed, version=sealer.current)
    return done, rows[-1][0] if len(rows) == BATCH else None
