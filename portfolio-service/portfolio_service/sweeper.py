"""The sweep: says orders again that the executor has not answered for, and finishes replacements. Nothing else.

Every message may be lost; an order that is live here is said to the executor again with growing pauses until it is
closed. The executor keeps one row per order and answers a repeat with all it has said so far.
"""

import threading
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from common import catching_up, outbox
from common.clock import Clock
from common.db import Database
from common.errors import Unavailable
from common.events import Event
from common.logging import bound, get_logger
from common.market_data import MarketData
from portfolio_service.changes import WAITING, cancel_event, finish_replacement, stored_request
from portfolio_service.config import NAME, Settings
from portfolio_service.fills import sweep_delay_s
from portfolio_service.market_view import observe
from portfolio_service.models import UserOrder
from portfolio_service.orders import LIVE_STATES
from portfolio_service.submissions import accepted_event_of

log = get_logger(__name__)

EXECUTOR = "trade-executor"
BEHIND = timedelta(seconds=60)
SWEEP_BATCH = 500
REPLACEMENT_BATCH = 50
ERROR_PAUSE_S = 5.0


def sweep_orders(db: Database, clock: Clock) -> int:
    """Record OrderAccepted (and a pending cancel) again for one batch of silent orders; answers how many.

    Nothing is said while much of what the executor has said is not handled here yet: silence means nothing then, and every repeat
    would be answered with all of it again.
    """
    with db.transaction() as session:
        now = clock.now()
        handled_before = catching_up.handled_before(session, NAME, EXECUTOR)
        if handled_before is not None and handled_before < now - BEHIND:
            return 0
        orders = session.scalars(
            sa.select(UserOrder)
            .where(UserOrder.state.in_(LIVE_STATES), UserOrder.next_sweep_at <= now)
            .order_by(UserOrder.next_sweep_at)
            .limit(SWEEP_BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        messages: list[tuple[Event, object, str | None]] = []
        for order in orders:
            messages.append((accepted_event_of(order), order.order_id, order.correlation_id))
            if order.cancel_requested_at is not None:
                messages.append((cancel_event(order), order.order_id, order.correlation_id))
            order.sweep_count += 1
            order.next_sweep_at = now + timedelta(seconds=sweep_delay_s(order.sweep_count))
        outbox.record_many(session, messages, source=NAME)
    if orders:
        log.info("order.swept", orders=len(orders))
    return len(orders)


def finish_replacements(db: Database, market: MarketData, clock: Clock, settings: Settings) -> int:
    """Accept replacements whose old orders have closed; answers how many came to an end."""
    with db.transaction() as session:
        waiting = session.scalars(
            sa.select(UserOrder)
            .where(UserOrder.replacement_state == WAITING, UserOrder.replacement.is_not(None))
            .where(UserOrder.state.notin_(LIVE_STATES))
            .order_by(UserOrder.closed_at)
            .limit(REPLACEMENT_BATCH)
        ).all()
        wanted: list[UUID] = [order.order_id for order in waiting]
        requests = [stored_request(order) for order in waiting]
    if not wanted:
        return 0
    view = observe(market, requests)
    ended = 0
    for order_id in wanted:
        with db.transaction() as session:
            state = finish_replacement(session, order_id, view=view, limits=settings.limits(), clock=clock)
        ended += state is not None
    return ended


def run(db: Database, market: MarketData, clock: Clock, settings: Settings, stop: threading.Event) -> None:
    """Sweep until told to stop; a database or market that is away only delays it."""
    with bound(service=NAME):
        while not stop.is_set():
            pause = settings.sweep_interval_s
            try:
                while sweep_orders(db, clock) == SWEEP_BATCH and not stop.is_set():
                    pass
                finish_replacements(db, market, clock, settings)
            except (DBAPIError, Unavailable) as error:
                log.warning("sweep.paused", error=type(error).__name__, detail=str(error))
                pause = ERROR_PAUSE_S
            stop.wait(pause)
