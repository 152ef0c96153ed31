"""Facts of portfolio-service that the read model is built from."""

from sqlalchemy.orm import Session

from analytics_service import service
from common.consumers import Handlers
from common.events import CashMoved, Envelope, OrderUpdated


def order_updated(session: Session, event: OrderUpdated, _: Envelope) -> None:
    """Book a change of an order."""
    service.book_order(session, event)


def cash_moved(session: Session, event: CashMoved, _: Envelope) -> None:
    """Book money in or out."""
    service.book_cash(session, event)


HANDLERS: Handlers = {OrderUpdated: order_updated, CashMoved: cash_moved}
