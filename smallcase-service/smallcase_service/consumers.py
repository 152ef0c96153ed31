"""What smallcase-service does with the facts of other rooms. Each handler is idempotent and does not mind the order."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from common.clock import Clock, SystemClock
from common.consumers import Handlers, Together, forget_loaded
from common.events import Envelope, OrderUpdated
from common.logging import bound
from smallcase_service import outcomes
from smallcase_service.portfolio_orders import OrderNews


def make_handlers(clock: Clock) -> Handlers:
    """The handlers on a given clock."""

    def orders_updated(session: Session, messages: Sequence[tuple[OrderUpdated, Envelope]]) -> None:
        # Most orders of the platform belong to no basket.
        legs = outcomes.legs_among(session, {event.order_id for event, _ in messages})
        for event, envelope in messages:
            if event.order_id in legs:
                with bound(correlation_id=envelope.correlation_id):
                    outcomes.apply_news(session, news_of(event), clock.now())
                forget_loaded(session)

    return {OrderUpdated: Together(orders_updated)}


def news_of(event: OrderUpdated) -> OrderNews:
    """What a message says of where an order stands."""
    return OrderNews(
        order_id=event.order_id,
        state=event.status,
        version=event.order_version,
        filled_quantity=event.filled_quantity,
        amount_paise=event.amount_paise,
        charges_paise=event.charges_paise,
        reason_code=event.reason_code,
        reason=event.reason,
    )


HANDLERS = make_handlers(SystemClock())
