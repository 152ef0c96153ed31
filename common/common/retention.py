"""What may be deleted when it is old: rules that rooms state of their own tables, and the rule of messages, which takes two.

A message may leave its producer's outbox once every room that acts on it has certainly acted: its cursor of catching up
(`common.catching_up`) has passed the row, with what it looks at again left over. It may leave a consumer's inbox once no
outbox has it any more: it cannot come again by catching up, and on the bus nothing gets that old. The ledger, orders,
fills, allocations and the audit log have no rule and are never deleted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from common.catching_up import OVERLAP, cursor
from common.idempotency import idempotency_key
from common.outbox import inbox, outbox

OUTBOX_DAYS, OUTBOX_DAYS_MIN = 30, 7
"""Kept at least a week: an outage of a room over a long weekend, and a restored backup, are caught up on from there."""
INBOX_DAYS, INBOX_DAYS_MIN = 60, 21
CURSOR_MARGIN = OVERLAP + timedelta(hours=1)


@dataclass(frozen=True)
class Rule:
    """Rows of one room that may go at an age. `delete` takes up to a limit of them and answers how many went."""

    name: str
    what: str
    days: int
    days_min: int
    count: Callable[[Session, datetime], int]
    delete: Callable[[Session, datetime, int], int]


def of_rows(
    name: str,
    what: str,
    *,
    days: int,
    days_min: int,
    table: sa.Table,
    outdated: Callable[[datetime], ColumnElement[bool]],
) -> Rule:
    """A rule about rows that nothing else points at; `outdated` answers the condition for what is older than an instant."""
    keys = list(table.primary_key.columns)

    def count(session: Session, before: datetime) -> int:
        return session.scalar(sa.select(sa.func.count()).select_from(table).where(outdated(before))) or 0

    def delete(session: Session, before: datetime, limit: int) -> int:
        # Rows that somebody works on are left for another time, so nothing waits for this and nothing deadlocks.
        chosen = sa.select(*keys).where(outdated(before)).limit(limit).with_for_update(skip_locked=True)
        return len(session.execute(sa.delete(table).where(sa.tuple_(*keys).in_(chosen)).returning(*keys)).all())

    return Rule(name, what, days, days_min, count, delete)


ANSWERED_KEYS = of_rows(
    "keys",
    "answers kept for Idempotency-Keys",
    days=90,
    days_min=30,
    table=idempotency_key,
    outdated=lambda before: idempotency_key.c.created_at < before,
)
"""After this a key counts as new: nobody repeats a request of last month."""


# --- messages ---------------------------------------------------------------------------------------------------------


def handled_before(session: Session, consumer: str, source: str) -> datetime | None:
    """Everything that the source recorded before this has its effect at the consumer; None: it has never compared."""
    statement = sa.select(cursor.c.handled_before).where(cursor.c.consumer == consumer, cursor.c.source == source)
    return session.scalar(statement)


def safe_before(wished: datetime, passed: Mapping[str, datetime | None]) -> datetime | None:
    """The youngest instant up to which an outbox may be emptied: as wished, but never ahead of a consumer's cursor.

    None: one of the consumers has never compared, so nothing may go.
    """
    reached = [at for at in passed.values() if at is not None]
    if len(reached) < len(passed):
        return None
    return min([wished, *(at - CURSOR_MARGIN for at in reached)])


def _sent(before: datetime) -> ColumnElement[bool]:
    return sa.and_(outbox.c.recorded_at < before, outbox.c.sent_at.is_not(None))


def count_sent(session: Session, before: datetime) -> int:
    """Published messages recorded before an instant."""
    return session.scalar(sa.select(sa.func.count()).select_from(outbox).where(_sent(before))) or 0


def delete_sent(session: Session, before: datetime, limit: int) -> int:
    """Delete up to `limit` of them, the oldest first; answers how many. Ask `safe_before` for the instant."""
    chosen = (
        sa.select(outbox.c.id)
        .where(_sent(before))
        .order_by(outbox.c.recorded_at, outbox.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return len(session.execute(sa.delete(outbox).where(outbox.c.id.in_(chosen)).returning(outbox.c.id)).all())


def old_inbox_rows(session: Session, before: datetime, after: UUID | None, limit: int) -> Sequence[UUID]:
    """A page of messages handled before an instant, by id; `after` is the last id of the page before."""
    statement = sa.select(inbox.c.message_id).where(inbox.c.handled_at < before)
    if after is not None:
        statement = statement.where(inbox.c.message_id > after)
    return session.scalars(statement.order_by(inbox.c.message_id).limit(limit)).all()


def still_recorded(session: Session, message_ids: Iterable[UUID]) -> set[UUID]:
    """Which of these messages a producer's outbox still has."""
    wanted = list(message_ids)
    return (
        set(session.scalars(sa.select(outbox.c.message_id).where(outbox.c.message_id.in_(wanted)))) if wanted else set()
    )


def delete_inbox_rows(session: Session, before: datetime, message_ids: Iterable[UUID]) -> int:
    """Forget handled messages; answers how many."""
    gone: list[Any] = list(message_ids)
    if not gone:
        return 0
    statement = sa.delete(inbox).where(inbox.c.message_id.in_(gone), inbox.c.handled_at < before)
    return len(session.execute(statement.returning(inbox.c.message_id)).all())
