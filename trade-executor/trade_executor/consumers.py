"""What the executor hears: accepted orders and cancels. The handlers are thin doors to `intake`."""

import threading
from typing import Any

from sqlalchemy.orm import Session

from common.bus import Bus
from common.consumers import Handlers, run_consumer
from common.db import Database
from common.events import Envelope, OrderAccepted, OrderCancelRequested
from trade_executor import intake
from trade_executor.config import SERVICE
from trade_executor.wakeup import Wakeup

CONSUMER = SERVICE


def on_order_accepted(session: Session, event: Any, envelope: Envelope) -> None:
    """An order to trade."""
    intake.accept(session, event, correlation_id=envelope.correlation_id)


def on_order_cancel_requested(session: Session, event: Any, envelope: Envelope) -> None:
    """An order its user no longer wants."""
    intake.cancel(session, event)


HANDLERS: Handlers = {OrderAccepted: on_order_accepted, OrderCancelRequested: on_order_cancel_requested}


def run(bus: Bus, db: Database, wakeup: Wakeup, account: str, stop: threading.Event) -> None:
    """Consume until told to stop; the pump is woken after each commit."""
    run_consumer(bus, db, consumer=CONSUMER, handlers=HANDLERS, stop=stop, after_commit=lambda: wakeup.pump(account))
