"""Reading the broker: one poller an account, repeated wake-ups share a read, every read is followed by its allocation."""

import time
from datetime import datetime

import sqlalchemy as sa

from common.db import Database
from common.logging import get_logger
from trade_executor import allocating, breaks, observing, states
from trade_executor.brokers.base import BrokerReadFailed, BrokerSessionExpired
from trade_executor.desk import Desk
from trade_executor.locks import advisory_lock
from trade_executor.models import BrokerOrder, Control
from trade_executor.sessions import LiveSession

log = get_logger(__name__)

_now = sa.func.clock_timestamp()


def observe(desk: Desk, account: str) -> bool:
    """Read book and trades, write down what they prove, allocate and settle; False when nothing could be read.

    A caller that had to wait for another poller's read which began after its own wish is served by that read.
    """
    wanted_at = desk.database_now()
    with advisory_lock(desk.db, f"observe:{account}", wait=True) as held:
        if not held:
            return False
        _keep_pace(desk, account)
        with desk.db.transaction() as session:
            started_at, observed_at = session.execute(
                sa.select(_now, Control.observed_at).where(Control.account == account)
            ).one()
        if (observed_at is None or observed_at < wanted_at) and not _read(desk, account, started_at):
            return False
    advance(desk.db, account)
    return True


def _keep_pace(desk: Desk, account: str) -> None:
    """Wait out the pause after the last read: a burst of wake-ups must not use up the broker's ten reads a second.

    Whoever waits here is joined by all who come meanwhile, so one read serves them together.
    """
    last = sa.func.greatest(Control.observed_at, Control.observe_failed_at)
    with desk.db.transaction() as session:
        since_s = session.scalar(sa.select(sa.func.extract("epoch", _now - last)).where(Control.account == account))
    if since_s is not None:
        time.sleep(max(0.0, desk.settings.read_pause_seconds - max(0.0, float(since_s))))


def advance(db: Database, account: str) -> None:
    """Allocate and settle every block that has news."""
    with db.transaction() as session:
        block_ids = allocating.blocks_to_advance(session, account)
    for block_id in block_ids:
        allocating.advance_block(db, block_id)


def _read(desk: Desk, account: str, started_at: datetime) -> bool:
    live: LiveSession | None = None
    try:
        live = desk.access.current(account)
        # Book before trades: a trade may be newer than its order's row, never an order's fills newer than the trades.
        orders, trades = live.broker.orders(), live.broker.trades()
    except BrokerReadFailed as error:
        if live is not None and isinstance(error, BrokerSessionExpired):
            desk.access.end(live.session_id, "the broker no longer accepts it")
        _note_failure(desk, account, error)
        return False
    observing.record_read(
        desk.db,
        account,
        orders,
        trades,
        started_at=started_at,
        settings=desk.settings,
        seen=desk.seen,
    )
    return True


def _note_failure(desk: Desk, account: str, error: BrokerReadFailed) -> None:
    """A failed read is no evidence; working orders that nobody can see for a while are a break."""
    log.warning("broker.read_failed", account=account, error=type(error).__name__, detail=str(error))
    with desk.db.transaction() as session:
        blind = session.execute(
            sa.update(Control)
            .where(Control.account == account)
            .values(observe_failed_at=_now)
            .returning(
                sa.func.coalesce(
                    sa.func.extract("epoch", _now - Control.observed_at) > desk.settings.blind_after_seconds, sa.true()
                )
            )
        ).scalar_one()
        working = session.scalar(
            sa.select(BrokerOrder.attempt_id)
            .where(BrokerOrder.account == account, BrokerOrder.state.in_(states.ATTEMPT_AT_BROKER))
            .where(
                BrokerOrder.sent_at < _now - sa.func.make_interval(0, 0, 0, 0, 0, 0, desk.settings.blind_after_seconds)
            )
            .limit(1)
        )
        if blind and working is not None:
            detail = f"orders are working and the book cannot be read: {type(error).__name__}"
            breaks.open_break(session, account, breaks.BLIND, account, detail)


def is_due(desk: Desk, account: str) -> bool:
    """Whether the book should be read now: something of ours may be in it, or it has not been read for a while."""
    alive = (
        sa.select(BrokerOrder.attempt_id)
        .where(BrokerOrder.account == account)
        .where(BrokerOrder.state.in_((*states.ATTEMPT_AT_BROKER, "GHOST")))
        .exists()
    )
    stale = sa.func.coalesce(
        sa.func.extract("epoch", _now - Control.observed_at) > desk.settings.idle_read_seconds, sa.true()
    )
    with desk.db.transaction() as session:
        row = session.execute(sa.select(alive, stale).where(Control.account == account)).one_or_none()
    return row is not None and (row[0] or row[1])
