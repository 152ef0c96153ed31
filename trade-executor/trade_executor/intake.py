"""Orders and cancels as they come from portfolio-service: any message may be lost, doubled or reordered."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.db import Database, run_in_transaction
from common.events import OrderAccepted, OrderCancelRequested
from common.logging import current_correlation_id, get_logger
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


_UNWANTED = "EXISTS (SELECT 1 FROM early_cancel WHERE early_cancel.order_id = child_order.order_id)"
# Built once: every accepted order passes here.
_TAKE = (
    insert(_orders)
    .on_conflict_do_nothing(index_elements=[_orders.c.order_id])
    .returning(sa.literal_column(_UNWANTED, sa.Boolean).label("unwanted"))
)


def accept(session: Session, event: OrderAccepted, *, correlation_id: str | None = None) -> bool:
    """Take an order into the pool; False when it is known, in which case everything said about it is sent again.

    portfolio-service repeats an order it got no answer for; the answers may be what was lost.
    """
    values = {name: getattr(event, name) for name in _FIELDS}
    values["correlation_id"] = correlation_id or current_correlation_id()
    taken = session.execute(_TAKE, values).one_or_none()
    if taken is None:
        again = outbox.republish(session, event.order_id)
        log.info("order.repeated", order_id=str(event.order_id), messages_again=again)
        return False
    log.info(
        "order.taken",
        order_id=str(event.order_id),
        tradingsymbol=event.tradingsymbol,
        side=event.side,
        quantity=event.quantity,
    )
    if taken.unwanted:
        session.execute(sa.delete(EarlyCancel).where(EarlyCancel.order_id == event.order_id))
        closing.close_orders(session, [event.order_id], closing.CANCELLED_BY_USER)
    return True


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
