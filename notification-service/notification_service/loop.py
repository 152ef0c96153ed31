"""The loops that make everything certain: whatever a wake-up missed is found here within a second.

Every channel has a thread of its own, so one whose provider is slow keeps nobody waiting. All steps are safe beside other
loops and workers; a step that fails is made again with the next round.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from common import metrics
from common.errors import AppError
from common.logging import bound, get_logger
from notification_service import alarms, deliveries, digests
from notification_service.config import NAME
from notification_service.delivering import deliver
from notification_service.delivery_states import IllegalMove, Status
from notification_service.desk import Desk
from notification_service.kinds import OUTSIDE, Channel
from notification_service.models import Delivery
from notification_service.price_alerts import Round

log = get_logger(__name__)

Loop = Callable[[threading.Event], None]
Step = Callable[[], object]
GAUGE_PAUSE = timedelta(seconds=15)
_NEVER = threading.Event()


def loops(desk: Desk) -> Sequence[Loop]:
    """Everything that runs by itself: the channels, the rows that time decides over, the price alerts."""
    settings = desk.settings
    channels = [
        _every(settings.loop_seconds, partial(deliver_channel, desk, channel), f"deliver-{channel}")
        for channel in OUTSIDE
    ]
    sweep = _every(settings.loop_seconds, lambda _: partial(sweep_rows, desk), "sweep")
    rounds = Round(desk)
    prices = _every(settings.price_poll_seconds, lambda _: rounds.run, "price-alerts")
    gauges = _every(GAUGE_PAUSE.total_seconds(), lambda _: partial(publish, desk), "gauges")
    return [*channels, sweep, prices, gauges]


def deliver_channel(desk: Desk, channel: Channel, stop: threading.Event = _NEVER) -> Step:
    """The step that sends what is due through a channel."""
    return partial(deliver, desk, channel, stop=stop)


def sweep_rows(desk: Desk) -> None:
    """Everything that time decides: leases that are over, alarms that are not told, summaries that are due."""
    with desk.db.transaction() as session:
        deliveries.expire_leases(session, desk.settings, desk.clock.now())
    guarded(partial(alarms.tell_due, desk))
    digests.send_due(desk.db, desk.clock.now())


def publish(desk: Desk) -> None:
    """Show how many deliveries are under way."""
    live = (Status.QUEUED, Status.SENDING)
    statement = sa.select(Delivery.channel, Delivery.status, sa.func.count()).where(Delivery.status.in_(live))
    with desk.db.transaction() as session:
        rows = session.execute(statement.group_by(Delivery.channel, Delivery.status)).all()
    counts = {(row[0], row[1]): row[2] for row in rows}
    for channel in OUTSIDE:
        for status in live:
            value = counts.get((channel.value, status.value), 0)
            metrics.live_rows.labels(NAME, f"delivery_{channel}", status.value).set(value)


def guarded(step: Step) -> None:
    """Run a step; one that cannot go on must not keep the others from running, and is made again next time."""
    try:
        step()
    except (SQLAlchemyError, AppError, IllegalMove, LookupError, ValueError, OSError) as error:
        name = getattr(getattr(step, "func", step), "__name__", "step")
        log.exception("loop.step_failed", step=name, error=type(error).__name__)


def _every(seconds: float, step_of: Callable[[threading.Event], Step], name: str) -> Loop:
    def run(stop: threading.Event) -> None:
        with bound(service=NAME):
            while not stop.is_set():
                started = time.monotonic()
                guarded(step_of(stop))
                stop.wait(max(0.0, seconds - (time.monotonic() - started)))

    run.__name__ = name
    return run
