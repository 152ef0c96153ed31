"""What smallcase-service does with the facts of other rooms. Each handler is idempotent and does not mind the order."""

from sqlalchemy.orm import Session

from common.clock import Clock, SystemClock
from common.consumers import EventHandler
from common.events import Envelope, Event, OrderUpdated
from smallcase_service import outcomes
from smallcase_service.portfolio_orders import OrderNews


def make_handlers(clock: Clock) -> dict[type[Event], EventHandler]:
    """The handlers on a given clock."""

    def order_updated(session: Session, event: OrderUpdated, _envelope: Envelope) -> None:
        # Most orders of the platform belong to no basket.
        news = OrderNews(
            order_id=event.order_id,
            state=event.status,
            version=event.order_version,
            filled_quantity=event.filled_quantity,
            amount_paise=event.amount_paise,
            charges_paise=event.charges_paise,
            reason_code=event.reason_code,
            reason=event.reason,
        )
        outcomes.apply_news(session, news, clock.now())

    return {OrderUpdated: order_updated}


HANDLERS = make_handlers(SystemClock())
