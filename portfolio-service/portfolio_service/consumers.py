"""What portfolio-service does with the facts of other rooms. Each handler is idempotent and does not mind the order."""

from sqlalchemy.orm import Session

from common.clock import Clock, SystemClock
from common.consumers import EventHandler
from common.events import Envelope, Event, HouseFilled, OrderAllocated, OrderClosed, OrderWorking, UserRegistered
from portfolio_service import fills, house
from portfolio_service.portfolios import make_default


def make_handlers(clock: Clock) -> dict[type[Event], EventHandler]:
    """The handlers on a given clock."""

    def user_registered(session: Session, event: UserRegistered, _envelope: Envelope) -> None:
        make_default(session, event.user_id, clock.now())

    def order_working(session: Session, event: OrderWorking, _envelope: Envelope) -> None:
        fills.apply_working(session, event, clock)

    def order_allocated(session: Session, event: OrderAllocated, _envelope: Envelope) -> None:
        fills.apply_allocation(session, event, clock)

    def order_closed(session: Session, event: OrderClosed, _envelope: Envelope) -> None:
        fills.apply_closed(session, event, clock)

    def house_filled(session: Session, event: HouseFilled, _envelope: Envelope) -> None:
        house.apply_house_fill(session, event, clock)

    return {
        HouseFilled: house_filled,
        UserRegistered: user_registered,
        OrderWorking: order_working,
        OrderAllocated: order_allocated,
        OrderClosed: order_closed,
    }


HANDLERS = make_handlers(SystemClock())
