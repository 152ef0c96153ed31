"""What the executor hears: accepted orders and cancels. The handlers are thin doors to `intake`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from common.consumers import Handlers, Together
from common.events import Envelope, OrderAccepted, OrderCancelRequested
from trade_executor import intake
from trade_executor.config import SERVICE

CONSUMER = SERVICE


def on_orders_accepted(session: Session, messages: Sequence[tuple[Any, Envelope]]) -> None:
    """Orders to trade, oldest first."""
    intake.accept(session, [(event, envelope.correlation_id) for event, envelope in messages])


def on_order_cancel_requested(session: Session, event: Any, envelope: Envelope) -> None:
    """An order its user no longer wants."""
    intake.cancel(session, event)


HANDLERS: Handlers = {OrderAccepted: Together(on_orders_accepted), OrderCancelRequested: on_order_cancel_requested}
