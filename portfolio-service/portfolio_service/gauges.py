"""The state of orders and of the ledger as metrics: live orders by state often, the proof of the ledger now and then."""

import threading
import time

import sqlalchemy as sa
from prometheus_client import Gauge
from sqlalchemy.exc import DBAPIError

from common import metrics
from common.db import Database
from common.logging import bound, get_logger
from portfolio_service import ledger_check
from portfolio_service.config import NAME, Settings
from portfolio_service.models import UserOrder
from portfolio_service.orders import LIVE_STATES

log = get_logger(__name__)

COUNT_EVERY_S = 10.0

ledger_problems = Gauge(
    "saras_ledger_problems", "Rows that break a rule of the ledger, as the last check found them.", ["service", "rule"]
)
ledger_checked = Gauge(
    "saras_ledger_checked_timestamp_seconds", "When the last check of the ledger ended.", ["service"]
)
oldest_live = Gauge(
    "saras_oldest_unanswered_order_seconds", "Age of the oldest order that the executor has not answered.", ["service"]
)


def count_orders(db: Database) -> None:
    """Set the gauges of live orders by state and of the oldest one without an answer."""
    with db.transaction() as session:
        rows = session.execute(
            sa.select(
                UserOrder.state,
                sa.func.count(),
                sa.func.extract("epoch", sa.func.clock_timestamp() - sa.func.min(UserOrder.accepted_at)),
            )
            .where(UserOrder.state.in_(LIVE_STATES))
            .group_by(UserOrder.state)
        ).all()
    counts = dict.fromkeys(LIVE_STATES, 0) | {row[0]: row[1] for row in rows}
    for state, count in counts.items():
        metrics.live_rows.labels(NAME, "order", state).set(count)
    oldest_live.labels(NAME).set(max((float(row[2]) for row in rows if row[0] == "ACCEPTED"), default=0.0))


def prove_ledger(db: Database) -> ledger_check.LedgerReport:
    """Run the ledger's checks once and set the gauges of what they found."""
    with db.transaction() as session:
        report = ledger_check.check(session)
    for rule, rows in report.problems.items():
        ledger_problems.labels(NAME, rule).set(len(rows))
    ledger_checked.labels(NAME).set_to_current_time()
    if not report.ok:
        log.error("ledger.check_failed", rules=[rule for rule, rows in report.problems.items() if rows])
    return report


def run(db: Database, settings: Settings, stop: threading.Event) -> None:
    """Count until told to stop; a database that is away only delays it."""
    next_proof = time.monotonic()
    with bound(service=NAME):
        while not stop.is_set():
            try:
                count_orders(db)
                if time.monotonic() >= next_proof:
                    prove_ledger(db)
                    next_proof = time.monotonic() + settings.ledger_check_interval_s
            except DBAPIError as error:
                log.warning("gauges.paused", error=type(error).__name__, detail=str(error))
            stop.wait(COUNT_EVERY_S)
