"""How much is under way, as metrics: the alarm of this room is a row that stays, not a queue that is long."""

import sqlalchemy as sa
from prometheus_client import Gauge
from sqlalchemy.orm import Session

from common import metrics
from common.db import Database
from trade_executor import breaks, control, states
from trade_executor.config import SERVICE
from trade_executor.models import Block, BrokerOrder, ChildOrder, ReconBreak, ReconRun

open_breaks = Gauge("saras_open_breaks", "Breaks that nobody has closed.", ["service", "kind", "severity"])
oldest_break = Gauge("saras_oldest_open_break_seconds", "Age of the oldest open break; 0 without one.", ["service"])
last_good_run = Gauge(
    "saras_reconciliation_age_seconds",
    "Time since the last run of the reconciliation that could read everything; -1 before the first.",
    ["service", "scope"],
)
sends_left = Gauge(
    "saras_sends_left", "Sends left of the broker's rate limits, by window.", ["service", "account", "window"]
)
trading_state = Gauge(
    "saras_trading_state", "1 for the state of the account's kill switch.", ["service", "account", "state"]
)
_now = sa.func.clock_timestamp()

_LIVE = (
    ("order", ChildOrder.state, states.CHILD_LIVE),
    ("block", Block.state, states.BLOCK_LIVE),
    ("attempt", BrokerOrder.state, (*states.ATTEMPT_UNRESOLVED, "GHOST")),
)


def publish(db: Database, account: str) -> None:
    """Set the gauges of live rows by state, of open breaks, of the reconciliation and of the account's send budget."""
    with db.transaction() as session:
        _publish_account(session, account)
        _publish_breaks(session)
        _publish_runs(session)
        for kind, state, live in _LIVE:
            counts = dict.fromkeys(live, 0)
            rows = session.execute(sa.select(state, sa.func.count()).where(state.in_(live)).group_by(state))
            counts.update((row[0], row[1]) for row in rows)
            for name, count in counts.items():
                metrics.live_rows.labels(SERVICE, kind, name).set(count)


def _publish_account(session: Session, account: str) -> None:
    left = control.budget(session, account)
    if left is not None:
        for window in ("second", "minute", "day"):
            sends_left.labels(SERVICE, account, window).set(getattr(left, window))
    for name in states.TRADING.states:
        trading_state.labels(SERVICE, account, name).set(left is not None and name == left.trading_state)


def _publish_breaks(session: Session) -> None:
    counts = dict.fromkeys(breaks.SEVERITY, 0)
    rows = session.execute(
        sa.select(ReconBreak.kind, sa.func.count(), sa.func.max(sa.func.extract("epoch", _now - ReconBreak.opened_at)))
        .where(ReconBreak.closed_at.is_(None))
        .group_by(ReconBreak.kind)
    ).all()
    counts.update((row[0], row[1]) for row in rows)
    for kind, count in counts.items():
        open_breaks.labels(SERVICE, kind, str(breaks.SEVERITY[kind])).set(count)
    oldest_break.labels(SERVICE).set(max((float(row[2]) for row in rows), default=0.0))


def _publish_runs(session: Session) -> None:
    since = sa.func.extract("epoch", _now - sa.func.max(ReconRun.started_at))
    for scope, condition in (("quick", sa.true()), ("full", ReconRun.scope != "quick")):
        age_s = session.scalar(sa.select(since).where(ReconRun.good, condition))
        last_good_run.labels(SERVICE, scope).set(-1 if age_s is None else float(age_s))
