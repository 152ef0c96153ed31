"""What operators see: reads over the executor's tables, no rule and no change."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

from common.errors import NotFound
from trade_executor.config import Settings
from trade_executor.models import (
    Allocation,
    Block,
    BlockChild,
    BrokerAccount,
    BrokerOrder,
    BrokerSession,
    ChildOrder,
    Fill,
    ReconBreak,
)

ROWS_PER_DETAIL_MAX = 5_000


class BlockNotFound(NotFound):
    """No block has this id."""


class OrderNotFound(NotFound):
    """The executor was never given this order."""


def accounts(session: Session, settings: Settings, now: datetime) -> list[dict[str, Any]]:
    """Accounts with the session in use."""
    answer = []
    for row in session.scalars(sa.select(BrokerAccount).order_by(BrokerAccount.account)):
        live = session.scalars(
            sa.select(BrokerSession)
            .where(BrokerSession.account == row.account, BrokerSession.ended_at.is_(None))
            .where(BrokerSession.expires_at > now)
            .order_by(BrokerSession.started_at.desc())
            .limit(1)
        ).one_or_none()
        answer.append(
            {
                "account": row.account,
                "broker": row.broker,
                "root_url": row.root_url,
                "paper": settings.is_paper,
                "live_attested_at": row.live_attested_at,
                "live_attested_by": row.live_attested_by,
                "session": live,
            }
        )
    return answer


def blocks(
    session: Session, *, state: str | None, tradingsymbol: str | None, limit: int, offset: int
) -> Sequence[Block]:
    """Blocks, newest first."""
    statement = sa.select(Block).order_by(Block.created_at.desc(), Block.block_id)
    if state is not None:
        statement = statement.where(Block.state == state)
    if tradingsymbol is not None:
        statement = statement.where(Block.tradingsymbol == tradingsymbol)
    return session.scalars(statement.limit(limit).offset(offset)).all()


def block_detail(session: Session, block_id: UUID) -> dict[str, Any]:
    """A block with its orders, attempts, fills and allocations; raises BlockNotFound."""
    block = session.get(Block, block_id)
    if block is None:
        raise BlockNotFound(f"There is no block {block_id}.")
    children = sa.select(BlockChild).where(BlockChild.block_id == block_id).order_by(BlockChild.order_id)
    return {
        "block": block,
        "children": session.scalars(children.limit(ROWS_PER_DETAIL_MAX)).all(),
        **_of_blocks(session, [block_id]),
        "allocations": session.scalars(
            sa.select(Allocation)
            .where(Allocation.block_id == block_id)
            .order_by(Allocation.round_no, Allocation.order_id)
            .limit(ROWS_PER_DETAIL_MAX)
        ).all(),
    }


def order_detail(session: Session, order_id: UUID) -> dict[str, Any]:
    """An order with everything that happened to it; raises OrderNotFound."""
    child = session.get(ChildOrder, order_id)
    if child is None:
        raise OrderNotFound(f"The executor does not know an order {order_id}.")
    of_order = session.scalars(
        sa.select(Block)
        .join(BlockChild, BlockChild.block_id == Block.block_id)
        .where(BlockChild.order_id == order_id)
        .order_by(Block.created_at)
        .limit(ROWS_PER_DETAIL_MAX)
    ).all()
    return {
        "order": child,
        "blocks": of_order,
        **_of_blocks(session, [block.block_id for block in of_order]),
        "allocations": session.scalars(
            sa.select(Allocation)
            .where(Allocation.order_id == order_id)
            .order_by(Allocation.recorded_at)
            .limit(ROWS_PER_DETAIL_MAX)
        ).all(),
    }


def _of_blocks(session: Session, block_ids: Sequence[UUID]) -> dict[str, Any]:
    attempts = sa.select(BrokerOrder).where(BrokerOrder.block_id.in_(block_ids)).order_by(BrokerOrder.created_at)
    fills = sa.select(Fill).where(Fill.block_id.in_(block_ids)).order_by(Fill.fill_id)
    return {
        "attempts": session.scalars(attempts.limit(ROWS_PER_DETAIL_MAX)).all(),
        "fills": session.scalars(fills.limit(ROWS_PER_DETAIL_MAX)).all(),
    }


def attempts(session: Session, *, state: str | None, limit: int, offset: int) -> Sequence[BrokerOrder]:
    """Attempts, newest first."""
    statement = sa.select(BrokerOrder).order_by(BrokerOrder.created_at.desc(), BrokerOrder.attempt_id)
    if state is not None:
        statement = statement.where(BrokerOrder.state == state)
    return session.scalars(statement.limit(limit).offset(offset)).all()


def fills(session: Session, *, tradingsymbol: str | None, limit: int, offset: int) -> Sequence[Fill]:
    """Fills, newest first."""
    statement = sa.select(Fill).order_by(Fill.fill_id.desc())
    if tradingsymbol is not None:
        statement = statement.where(Fill.tradingsymbol == tradingsymbol)
    return session.scalars(statement.limit(limit).offset(offset)).all()


def recon_breaks(session: Session, *, open_only: bool, limit: int, offset: int) -> Sequence[ReconBreak]:
    """Breaks, newest first."""
    statement = sa.select(ReconBreak).order_by(ReconBreak.opened_at.desc(), ReconBreak.break_id)
    if open_only:
        statement = statement.where(ReconBreak.closed_at.is_(None))
    return session.scalars(statement.limit(limit).offset(offset)).all()


def summary(session: Session, since: datetime | None) -> dict[str, Any]:
    """Counts and totals since an instant (None: ever)."""

    def after(column: InstrumentedAttribute[datetime]) -> sa.ColumnElement[bool]:
        return column >= since if since is not None else sa.true()

    def by_state(state: Any, key: InstrumentedAttribute[datetime]) -> dict[str, int]:
        rows = session.execute(sa.select(state, sa.func.count()).where(after(key)).group_by(state))
        return {str(row[0]): int(row[1]) for row in rows}

    def totals(*columns: Any, key: InstrumentedAttribute[datetime]) -> list[int]:
        parts = (sa.func.coalesce(sa.func.sum(column), 0) for column in columns)
        return [int(value) for value in session.execute(sa.select(sa.func.count(), *parts).where(after(key))).one()]

    orders = by_state(ChildOrder.state, ChildOrder.received_at)
    attempt_states = by_state(BrokerOrder.state, BrokerOrder.created_at)
    user_orders, ordered = totals(ChildOrder.quantity, key=ChildOrder.received_at)
    house = sa.case((Fill.booked_to == "house", Fill.quantity), else_=0)
    fill_count, filled, filled_paise, to_house = totals(Fill.quantity, Fill.amount_paise, house, key=Fill.recorded_at)
    allocations, allocated, allocated_paise = totals(
        Allocation.quantity, Allocation.amount_paise, key=Allocation.recorded_at
    )
    sent = session.scalar(
        sa.select(sa.func.count()).where(BrokerOrder.sent_at.is_not(None), after(BrokerOrder.created_at))
    )
    blocks_by_state = by_state(Block.state, Block.created_at)
    return {
        "since": since,
        "user_orders": user_orders,
        "blocks": sum(blocks_by_state.values()),
        "broker_orders": sent or 0,
        "fills": fill_count,
        "allocations": allocations,
        "orders_per_broker_order": round(user_orders / sent, 2) if sent else None,
        "shares_ordered": ordered,
        "shares_filled": filled,
        "shares_allocated": allocated,
        "shares_to_house": to_house,
        "amount_filled": filled_paise,
        "amount_allocated": allocated_paise,
        "orders_by_state": orders,
        "blocks_by_state": blocks_by_state,
        "attempts_by_state": attempt_states,
        "unknowns": attempt_states.get("UNKNOWN", 0),
        "open_breaks": session.scalar(sa.select(sa.func.count()).where(ReconBreak.closed_at.is_(None))) or 0,
    }
