"""The driver: finishes whatever was interrupted, and does what has become due. One loop; several may run.

Each order that is due is leased for a while, then worked on without any lock: asked for again under the same submission
id, given its second step, or asked about when its legs have been silent. News wake the loop (PostgreSQL's NOTIFY), a
sweep makes it certain.
"""

import select
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg2
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from common.errors import AppError
from common.logging import bound, get_logger
from common.standing import Standings
from smallcase_service import auto_rebalancing, instalments, outcomes, second_step
from smallcase_service.config import NAME
from smallcase_service.desk import Desk
from smallcase_service.models import BasketLeg, BasketOrder
from smallcase_service.orders import ENDED_STAGES, LIVE_LEGS, Stage

log = get_logger(__name__)

BATCH = 50
SWEEP_S = 1.0
ERROR_PAUSE_S = 5.0
LEASE = timedelta(seconds=20)
PAUSE_FIRST = timedelta(seconds=5)
PAUSE_MAX = timedelta(minutes=5)


def pause_after(drives: int) -> timedelta:
    """How long an order without progress is left alone after having been looked at so often."""
    return min(PAUSE_MAX, PAUSE_FIRST * 2 ** min(drives, 10))


def drive_due(desk: Desk) -> int:
    """Work on one batch of basket orders that are due; answers how many there were."""
    now = desk.clock.now()
    with desk.db.transaction() as session:
        due = session.scalars(
            sa.select(BasketOrder.basket_order_id)
            .where(BasketOrder.stage.notin_(ENDED_STAGES), BasketOrder.due_at <= now)
            .order_by(BasketOrder.due_at)
            .limit(BATCH)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        leased = session.execute(
            sa.update(BasketOrder)
            .where(BasketOrder.basket_order_id.in_(due))
            .values(due_at=now + LEASE, drives=BasketOrder.drives + 1)
            .returning(BasketOrder.basket_order_id, BasketOrder.stage, BasketOrder.drives, BasketOrder.correlation_id)
            .execution_options(synchronize_session=False)
        ).all()
    for order_id, stage, drives, correlation_id in leased:
        with bound(correlation_id=correlation_id):
            _drive(desk, order_id, Stage(stage), drives)
    return len(leased)


def _drive(desk: Desk, order_id: UUID, stage: Stage, drives: int) -> None:
    again: datetime | None = None
    try:
        if stage is Stage.INTENT:
            desk.submit(order_id)
        elif stage is Stage.SOLD:
            again = second_step.take(desk, order_id)
        else:
            ask_about(desk, order_id)
    except AppError as error:
        log.warning("basket.drive_failed", basket_order_id=str(order_id), stage=stage, code=error.code)
        again = desk.clock.now() + pause_after(drives)
    if again is None and stage is Stage.WORKING:
        again = desk.clock.now() + max(outcomes.NEWS_PAUSE, pause_after(drives))
    if again is not None:
        with desk.db.transaction() as session:
            # Only while it still is where it was: progress has set its own time.
            session.execute(
                sa.update(BasketOrder)
                .where(BasketOrder.basket_order_id == order_id, BasketOrder.stage == stage)
                .values(due_at=again)
            )


def ask_about(desk: Desk, order_id: UUID) -> int:
    """Read where the live legs of an order stand and apply it; answers how many were read."""
    with desk.db.transaction() as session:
        order_ids = session.scalars(
            sa.select(BasketLeg.order_id).where(BasketLeg.basket_order_id == order_id, BasketLeg.state.in_(LIVE_LEGS))
        ).all()
    news = desk.portfolio.news(order_ids) if order_ids else []
    for one in news:
        with desk.db.transaction() as session:
            outcomes.apply_news(session, one, desk.clock.now())
    return len(news)


def run(desk: Desk, standings: Standings, stop: threading.Event) -> None:
    """Drive until told to stop: at once when woken, at least every SWEEP_S."""
    with bound(service=NAME):
        listener: Any = None
        while not stop.is_set():
            try:
                if listener is None:
                    listener = _listen(desk)
                _empty(stop, lambda: drive_due(desk))
                _empty(stop, lambda: instalments.drive_due(desk, standings))
                # One batch a round: a version with many holders must not keep their own orders waiting.
                auto_rebalancing.drive_due(desk, standings)
                select.select([listener], [], [], SWEEP_S)
                listener.poll()
                listener.notifies.clear()
            except (SQLAlchemyError, psycopg2.Error, AppError, OSError) as error:
                log.warning("basket.driver_paused", error=type(error).__name__, detail=str(error))
                if listener is not None:
                    listener.close()
                listener = None
                stop.wait(ERROR_PAUSE_S)
        if listener is not None:
            listener.close()


def _empty(stop: threading.Event, batch: Callable[[], int]) -> None:
    while batch() == BATCH and not stop.is_set():
        pass


def _listen(desk: Desk) -> Any:
    # A connection of its own: LISTEN belongs to a session, and a pool would hand it to somebody else.
    connection = psycopg2.connect(desk.db.url.replace("+psycopg2", "", 1), connect_timeout=5)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {outcomes.CHANNEL}")
    return connection
