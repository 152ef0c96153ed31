"""What portfolio-service does with the facts of other rooms. Each handler is idempotent and does not mind the order."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from common.clock import Clock, SystemClock
from common.consumers import Handlers, Together
from common.events import Envelope, HouseFilled, OrderAllocated, OrderClosed, OrderWorking, UserRegistered
from portfolio_service import fills, house
from portfolio_service.portfolios import make_default


def make_handlers(clock: Clock) -> Handlers:
    """The handlers on a given clock."""

    def user_registered(session: Session, event: UserRegistered, _envelope: Envelope) -> None:
        make_default(session, event.user_id, clock.now())

    def order_working(session: Session, messages: Sequence[tuple[OrderWorking, Envelope]]) -> None:
        fills.apply_working(session, messages, clock)

    def order_allocated(session: Session, messages: Sequence[tuple[OrderAllocated, Envelope]]) -> None:
        fills.apply_allocations(session, messages, clock)

    def order_closed(session: Session, messages: Sequence[tuple[OrderClosed, Envelope]]) -> None:
        fills.apply_closed(session, messages, clock)

    def house_filled(session: Session, event: HouseFilled, _envelope: Envelope) -> None:
        house.apply_house_fill(session, event, clock)

    return {
        HouseFilled: house_filled,
        UserRegistered: user_registered,
        OrderWorking: Together(order_working),
        OrderAllocated: Together(order_allocated),
        OrderClosed: Together(order_closed),
    }


HANDLERS = make_handlers(SystemClock())
