"""Orders and cancels as they come from portfolio-service: any message may be lost, doubled or reordered."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from common import outbox
from common.bulk import array_of, given, recordset
from common.db import Database, run_in_transaction
from common.events import OrderAccepted, OrderCancelRequested
from common.logging import bound, get_logger
from trade_executor import cancelling, closing
from trade_executor.models import ChildOrder, EarlyCancel

log = get_logger(__name__)

OVERTAKEN_PER_SWEEP = 500

_orders: Any = sa.inspect(ChildOrder).local_table
_FIELDS = (
    "order_id",
    "user_id",
    "portfolio_id",
    "account",
    "exchange",
    "tradingsymbol",
    "side",
    "product",
    "order_type",
    "quantity",
    "price_paise",
    "trigger_price_paise",
    "validity",
    "ttl_minutes",
    "accepted_at",
    "trading_date",
)


_WRITTEN = (*_FIELDS, "correlation_id")
_ORDINAL = "ordinal"
_UNWANTED = "EXISTS (SELECT 1 FROM early_cancel WHERE early_cancel.order_id = child_order.order_id)"

Taken = tuple[OrderAccepted, str | None]
"""An order and its correlation id."""


def _taking() -> ReturningInsert[Any]:
    """One insert for any number of orders, given as `given` gives them; answers the new ones and whether one is unwanted.

    The server numbers the rows of INSERT … SELECT … ORDER BY in that order: so `seq` follows the place in the list.
    """
    columns = [_orders.c[name] for name in _WRITTEN]
    places: sa.ColumnClause[int] = sa.column(_ORDINAL, sa.Integer)
    rows = recordset(_orders, _WRITTEN, places)
    return (
        insert(_orders)
        .from_select(columns, sa.select(*(rows.c[name] for name in _WRITTEN)).order_by(rows.c[_ORDINAL]))
        .on_conflict_do_nothing(index_elements=[_orders.c.order_id])
        .returning(_orders.c.order_id, sa.literal_column(_UNWANTED, sa.Boolean).label("unwanted"))
    )


# Built once: every accepted order passes here.
_TAKE = _taking()


def accept(session: Session, orders: Sequence[Taken]) -> set[UUID]:
    """Take orders into the pool, aged as they stand in the list; answers which are new.

    portfolio-service repeats an order it got no answer for; the answers may be what was lost. So everything said about a
    known one is sent again. An order that is twice in the list is taken where it comes first and known where it comes
    again.
    """
    rows = [_row(event, correlation_id, place) for place, (event, correlation_id) in enumerate(orders)]
    taken = {row.order_id: row.unwanted for row in session.execute(_TAKE, given(rows))}
    new, repeated = _parted(orders, taken)
    again = outbox.republish(session, {event.order_id for event, _ in repeated})
    for event, correlation_id in new:
        with bound(correlation_id=correlation_id):
            log.info(
                "order.taken",
                order_id=str(event.order_id),
                tradingsymbol=event.tradingsymbol,
                side=event.side,
                quantity=event.quantity,
            )
    for event, correlation_id in repeated:
        with bound(correlation_id=correlation_id):
            log.info("order.repeated", order_id=str(event.order_id), messages_again=again[str(event.order_id)])
    _drop(session, [order_id for order_id, unwanted in taken.items() if unwanted])
    return set(taken)


def _row(event: OrderAccepted, correlation_id: str | None, place: int) -> dict[str, Any]:
    return {**{name: getattr(event, name) for name in _FIELDS}, "correlation_id": correlation_id, _ORDINAL: place}


def _parted(orders: Iterable[Taken], taken: Collection[UUID]) -> tuple[list[Taken], list[Taken]]:
    """The orders that were taken, each where it comes first, and the repeats."""
    first: dict[UUID, Taken] = {}
    repeated = []
    for one in orders:
        order_id = one[0].order_id
        if order_id in taken and order_id not in first:
            first[order_id] = one
        else:
            repeated.append(one)
    return list(first.values()), repeated


def _drop(session: Session, order_ids: Sequence[UUID]) -> None:
    """Close new orders whose cancels came before them."""
    if order_ids:
        session.execute(sa.delete(EarlyCancel).where(EarlyCancel.order_id == sa.any_(array_of(order_ids))))
        closing.close_orders(session, order_ids, closing.CANCELLED_BY_USER)


def cancel(session: Session, event: OrderCancelRequested) -> None:
    """A user's cancel: at once while the order is in the pool, through its block's cancel otherwise.

    An order that is closed gets its answers sent again; one that is not here yet is remembered as unwanted.
    """
    if session.scalar(sa.select(ChildOrder.seq).where(ChildOrder.order_id == event.order_id)) is None:
        # Order and cancel may both be under way in transactions that do not see each other; `overtaken` finds those.
        statement = insert(EarlyCancel).values(order_id=event.order_id, requested_at=event.requested_at)
        session.execute(statement.on_conflict_do_nothing())
        log.info("order.cancel_before_order", order_id=str(event.order_id))
        return
    cancelling.cancel_order(session, event.order_id, event.requested_at)


def overtaken(db: Database) -> None:
    """Apply cancels that came before, or at the same moment as, their orders."""
    with db.transaction() as session:
        found = session.execute(
            sa.select(EarlyCancel.order_id, EarlyCancel.requested_at)
            .join(ChildOrder, ChildOrder.order_id == EarlyCancel.order_id)
            .limit(OVERTAKEN_PER_SWEEP)
        ).all()
    for row in found:

        def work(session: Session, order_id: UUID = row.order_id, requested_at: datetime = row.requested_at) -> None:
            cancelling.cancel_order(session, order_id, requested_at)
            session.execute(sa.delete(EarlyCancel).where(EarlyCancel.order_id == order_id))

        run_in_transaction(db, work)
