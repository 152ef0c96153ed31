"""Orders and cancels as they come from portfolio-service: any message may be lost, doubled or reordered."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.events import OrderAccepted, OrderCancelRequested
from common.logging import current_correlation_id, get_logger
from trade_executor import cancelling, closing
from trade_executor.models import ChildOrder, EarlyCancel

log = get_logger(__name__)

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


def accept(session: Session, event: OrderAccepted, *, correlation_id: str | None = None) -> bool:
    """Take an order into the pool; False when it is known, in which case everything said about it is sent again.

    portfolio-service repeats an order it got no answer for; the answers may be what was lost.
    """
    values = {name: getattr(event, name) for name in _FIELDS}
    values["correlation_id"] = correlation_id or current_correlation_id()
    statement = insert(ChildOrder).values(**values).on_conflict_do_nothing(index_elements=[ChildOrder.order_id])
    if session.execute(statement.returning(ChildOrder.order_id)).first() is None:
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
    early = sa.delete(EarlyCancel).where(EarlyCancel.order_id == event.order_id).returning(EarlyCancel.order_id)
    if session.execute(early).first() is not None:
        closing.close_orders(session, [event.order_id], closing.CANCELLED_BY_USER)
    return True


def cancel(session: Session, event: OrderCancelRequested) -> None:
    """A user's cancel: at once while the order is in the pool, through its block's cancel otherwise.

    An order that is closed gets its answers sent again; one that is not here yet is remembered as unwanted.
    """
    state = session.scalar(sa.select(ChildOrder.state).where(ChildOrder.order_id == event.order_id))
    if state is None:
        statement = insert(EarlyCancel).values(order_id=event.order_id, requested_at=event.requested_at)
        session.execute(statement.on_conflict_do_nothing())
        # The order may have committed between the two statements; then its row is visible now.
        if session.get(ChildOrder, event.order_id) is None:
            log.info("order.cancel_before_order", order_id=str(event.order_id))
            return
        session.execute(sa.delete(EarlyCancel).where(EarlyCancel.order_id == event.order_id))
    cancelling.cancel_order(session, event.order_id, event.requested_at)
