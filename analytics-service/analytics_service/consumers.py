"""Facts of portfolio-service, smallcase-service and trade-executor that the read model is built from."""

from sqlalchemy.orm import Session

from analytics_service import service
from common.consumers import Handlers
from common.events import BasketUpdated, CashMoved, Envelope, OrderUpdated, OrderWorking


def order_updated(session: Session, event: OrderUpdated, _: Envelope) -> None:
    """Book a change of an order."""
    service.book_order(session, event)


def cash_moved(session: Session, event: CashMoved, _: Envelope) -> None:
    """Book money in or out."""
    service.book_cash(session, event)


def order_working(session: Session, event: OrderWorking, _: Envelope) -> None:
    """Book which block an order went to the broker in."""
    service.book_block(session, event)


def basket_updated(session: Session, event: BasketUpdated, _: Envelope) -> None:
    """Book what has become of a basket order."""
    service.book_basket(session, event)


HANDLERS: Handlers = {
    OrderUpdated: order_updated,
    CashMoved: cash_moved,
    OrderWorking: order_working,
    BasketUpdated: basket_updated,
}
