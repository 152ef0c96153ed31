"""A trading day in figures: what the report after the close says. Reads only; quantities in shares, amounts in paise."""

from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from trade_executor import states
from trade_executor.models import Allocation, Block, BrokerOrder, ChildOrder, Fill, HouseFill, ReconBreak


def _ist(column: Any) -> Any:
    return sa.func.timezone("Asia/Kolkata", column).cast(sa.Date)


def has_sent(session: Session, account: str, day: date) -> bool:
    """Whether any order has gone out on that day."""
    sent = sa.select(BrokerOrder.attempt_id).where(BrokerOrder.account == account, _ist(BrokerOrder.sent_at) == day)
    return session.execute(sent.limit(1)).first() is not None


def undecided(session: Session, account: str) -> int:
    """Attempts that the broker's books have not ended yet; a frozen block waits for a person, not for the broker."""
    waiting = (
        sa.select(sa.func.count())
        .select_from(BrokerOrder)
        .join(Block, Block.block_id == BrokerOrder.block_id)
        .where(BrokerOrder.account == account, Block.state != "FROZEN")
        .where(BrokerOrder.state.in_((*states.ATTEMPT_UNRESOLVED, "GHOST")))
    )
    return session.scalar(waiting) or 0


def figures(session: Session, account: str, day: date) -> dict[str, Any]:
    """Counts and sums of one day (IST)."""
    fills = _sums(session, Fill, Fill.account == account, Fill.trade_date == day)
    house = _sums(session, HouseFill, HouseFill.account == account, HouseFill.trade_date == day)
    allocated = _sums(
        session,
        Allocation,
        Allocation.block_id.in_(sa.select(Block.block_id).where(Block.account == account)),
        _ist(Allocation.executed_at) == day,
    )
    mine = ReconBreak.account == account
    return {
        "day": day.isoformat(),
        "orders": _by(session, ChildOrder.state, ChildOrder.account == account, _ist(ChildOrder.closed_at) == day),
        "orders_waiting": session.scalar(
            sa.select(sa.func.count()).where(ChildOrder.account == account, ChildOrder.state.in_(states.CHILD_LIVE))
        ),
        "attempts": _by(session, BrokerOrder.state, BrokerOrder.account == account, _ist(BrokerOrder.sent_at) == day),
        "blocks": _by(session, Block.state, Block.account == account, _ist(Block.created_at) == day),
        "fills": fills,
        "allocations": allocated,
        "house_fills": house,
        "breaks_open": _by(session, ReconBreak.kind, mine, ReconBreak.closed_at.is_(None)),
        "breaks_opened": _by(session, ReconBreak.kind, mine, _ist(ReconBreak.opened_at) == day),
    }


def _sums(session: Session, table: Any, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    count, units, paise = session.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(table.quantity), 0),
            sa.func.coalesce(sa.func.sum(table.amount_paise), 0),
        ).where(*conditions)
    ).one()
    return {"count": int(count), "units": int(units), "paise": int(paise)}


def _by(session: Session, column: Any, *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    rows = session.execute(sa.select(column, sa.func.count()).where(*conditions).group_by(column).order_by(column))
    return {str(row[0]): int(row[1]) for row in rows}
