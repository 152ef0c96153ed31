"""Reading orders and trades: lists by time with filters, one order with its fills and history."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.clock import IST
from common.errors import NotFound, Unprocessable
from portfolio_service.models import OrderAllocation, OrderHistory, TaxLot, UserOrder
from portfolio_service.orders import OrderState, states_for
from portfolio_service.paging import read_time_cursor, time_cursor


class StatusUnknown(Unprocessable):
    """Nobody uses this word for a status."""


class TradeNotFound(NotFound):
    """No such fill of this user, or it bought nothing."""


@dataclass(frozen=True)
class OrderFilter:
    """What a list of orders or trades is narrowed to; days are IST calendar days, both included."""

    user_id: UUID | None = None
    portfolio_id: UUID | None = None
    status: str | None = None
    tradingsymbol: str | None = None
    side: str | None = None
    first_day: date | None = None
    last_day: date | None = None


def day_start(day: date) -> datetime:
    """The first instant of an Indian calendar day."""
    return datetime.combine(day, time.min, IST)


def list_orders(
    session: Session, wanted: OrderFilter, *, limit: int, cursor: str | None
) -> tuple[Sequence[UserOrder], str | None]:
    """A page of orders, newest first, and the cursor of the next; raises StatusUnknown, CursorInvalid."""
    query = _narrow(sa.select(UserOrder), UserOrder, UserOrder.accepted_at, wanted)
    if wanted.status is not None:
        query = query.where(UserOrder.state.in_(sorted(_states(wanted.status))))
    if cursor is not None:
        query = query.where(sa.tuple_(UserOrder.accepted_at, UserOrder.order_id) < sa.tuple_(*read_time_cursor(cursor)))
    query = query.order_by(UserOrder.accepted_at.desc(), UserOrder.order_id.desc()).limit(limit + 1)
    rows = session.scalars(query).all()
    more = len(rows) > limit
    page = rows[:limit]
    return page, time_cursor(page[-1].accepted_at, page[-1].order_id) if more else None


def list_trades(
    session: Session, wanted: OrderFilter, *, order_id: UUID | None, limit: int, cursor: str | None
) -> tuple[Sequence[OrderAllocation], str | None]:
    """A page of fills given to the user, newest first, and the cursor of the next; raises CursorInvalid."""
    row = OrderAllocation
    query = _narrow(sa.select(row), row, row.executed_at, wanted)
    query = query.where(row.quantity > row.house_quantity)
    if order_id is not None:
        query = query.where(row.order_id == order_id)
    if cursor is not None:
        query = query.where(sa.tuple_(row.executed_at, row.allocation_id) < sa.tuple_(*read_time_cursor(cursor)))
    rows = session.scalars(query.order_by(row.executed_at.desc(), row.allocation_id.desc()).limit(limit + 1)).all()
    more = len(rows) > limit
    page = rows[:limit]
    return page, time_cursor(page[-1].executed_at, page[-1].allocation_id) if more else None


def lot_of(session: Session, user_id: UUID, trade_id: UUID) -> TaxLot:
    """The shares a fill of the user has bought and what is left of them; raises TradeNotFound."""
    lot = session.scalars(
        sa.select(TaxLot)
        .join(OrderAllocation, OrderAllocation.allocation_id == TaxLot.lot_id)
        .where(TaxLot.lot_id == trade_id, OrderAllocation.user_id == user_id)
    ).one_or_none()
    if lot is None:
        raise TradeNotFound("There is no such purchase among your trades.")
    return lot


def allocations_of(session: Session, order_id: UUID) -> Sequence[OrderAllocation]:
    """The fills of one order in the order of execution."""
    query = sa.select(OrderAllocation).where(OrderAllocation.order_id == order_id)
    return session.scalars(query.order_by(OrderAllocation.executed_at, OrderAllocation.allocation_id)).all()


def history_of(session: Session, order_id: UUID) -> Sequence[OrderHistory]:
    """What happened to an order after its acceptance, oldest first."""
    query = sa.select(OrderHistory).where(OrderHistory.order_id == order_id)
    return session.scalars(query.order_by(OrderHistory.version)).all()


def count_by_state(session: Session, *, since: datetime) -> dict[str, int]:
    """Orders accepted since an instant, by state; every state has a figure."""
    rows = session.execute(
        sa.select(UserOrder.state, sa.func.count().label("orders"))
        .where(UserOrder.accepted_at >= since)
        .group_by(UserOrder.state)
    )
    return {state.value: 0 for state in OrderState} | {row.state: row.orders for row in rows}


def _states(word: str) -> frozenset[OrderState]:
    try:
        return states_for(word)
    except KeyError:
        raise StatusUnknown(
            f"{word!r} is no order status; use one of {', '.join(OrderState)}.", allowed=list(OrderState)
        ) from None


def _narrow(query: Any, table: Any, instant: Any, wanted: OrderFilter) -> Any:
    if wanted.user_id is not None:
        query = query.where(table.user_id == wanted.user_id)
    if wanted.portfolio_id is not None:
        query = query.where(table.portfolio_id == wanted.portfolio_id)
    if wanted.tradingsymbol is not None:
        query = query.where(table.tradingsymbol == wanted.tradingsymbol)
    if wanted.side is not None:
        query = query.where(table.side == wanted.side)
    if wanted.first_day is not None:
        query = query.where(instant >= day_start(wanted.first_day))
    if wanted.last_day is not None:
        query = query.where(instant < day_start(wanted.last_day + timedelta(days=1)))
    return query
