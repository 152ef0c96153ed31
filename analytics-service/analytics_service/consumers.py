"""Facts of portfolio-service, smallcase-service and trade-executor that the read model is built from."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from analytics_service import service
from common.consumers import Handlers, Together
from common.events import BasketUpdated, CashMoved, Envelope, OrderUpdated, OrderWorking


def orders_updated(session: Session, facts: Sequence[tuple[OrderUpdated, Envelope]]) -> None:
    """Book changes of orders."""
    service.book_orders(session, [event for event, _ in facts])


def cash_moved(session: Session, event: CashMoved, _: Envelope) -> None:
    """Book money in or out."""
    service.book_cash(session, event)


def orders_working(session: Session, facts: Sequence[tuple[OrderWorking, Envelope]]) -> None:
    """Book which blocks orders went to the broker in."""
    service.book_blocks(session, [event for event, _ in facts])


def basket_updated(session: Session, event: BasketUpdated, _: Envelope) -> None:
    """Book what has become of a basket order."""
    service.book_basket(session, event)


HANDLERS: Handlers = {
    OrderUpdated: Together(orders_updated),
    CashMoved: cash_moved,
    OrderWorking: Together(orders_working),
    BasketUpdated: basket_updated,
}
