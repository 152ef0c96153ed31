"""T11: orders whose day is over. Orders accepted while the market is closed wait for the session they are meant for."""

from datetime import date, datetime, timedelta

import sqlalchemy as sa

from common.clock import trading_date
from common.db import Database
from common.market_data import SessionInfo
from trade_executor import cancelling, closing
from trade_executor.models import Block, BrokerOrder, ChildOrder

ROWS_PER_SWEEP = 1_000
EXPIRED = closing.Close("EXPIRED", "session_ended", "The trading session ended before the order was filled.")


def next_tradable_day(session_info: SessionInfo) -> date:
    """The first day on which an order that waits now can trade: today while the market is open, else the next one."""
    if session_info.is_open:
        return session_info.trading_date
    if session_info.next_open_at is not None:
        return trading_date(session_info.next_open_at)
    return session_info.next_trading_date or session_info.trading_date


def expire(db: Database, account: str, session_info: SessionInfo, *, is_open: bool) -> None:
    """Close pooled orders that can no longer trade, and take blocks off the market once it is not open to us."""
    first_day = next_tradable_day(session_info)
    with db.transaction() as session:
        stale = session.scalars(
            sa.select(ChildOrder.order_id)
            .where(ChildOrder.account == account, ChildOrder.state == "ACCEPTED", ChildOrder.trading_date < first_day)
            .order_by(ChildOrder.seq)
            .limit(ROWS_PER_SWEEP)
            .with_for_update(skip_locked=True)
        ).all()
        closing.close_orders(session, stale, EXPIRED)
    if not is_open:
        # In the last seconds of a session, before its end, today's blocks are already over.
        last_day = session_info.trading_date if session_info.is_open else first_day - timedelta(days=1)
        _cancel_blocks(db, account, last_day)


def _cancel_blocks(db: Database, account: str, last_day: date) -> None:
    with db.transaction() as session:
        block_ids = session.scalars(
            sa.select(Block.block_id)
            .join(BrokerOrder, BrokerOrder.block_id == Block.block_id)
            .join(ChildOrder, ChildOrder.block_id == Block.block_id)
            .where(Block.account == account, Block.state.in_(("SEALED", "WORKING")))
            .where(BrokerOrder.state.in_(("INTENT", "ACKED")), BrokerOrder.cancel_state == "NONE")
            .where(ChildOrder.trading_date <= last_day)
            .distinct()
            .limit(ROWS_PER_SWEEP)
        ).all()
    for block_id in block_ids:
        cancelling.take_off_market(db, block_id, cancelling.EXPIRY)


def market_open(session_info: SessionInfo, now: datetime, *, lead_seconds: float = 0.0) -> bool:
    """Whether blocks may be sent: the session is open and does not close within `lead_seconds`.

    An answer that outlived its own closing time counts as closed.
    """
    if session_info.closes_at is None:
        return session_info.is_open
    return session_info.is_open and now < session_info.closes_at - timedelta(seconds=lead_seconds)
