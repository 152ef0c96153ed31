"""How much is under way, as metrics: the alarm of this room is a row that stays, not a queue that is long."""

import sqlalchemy as sa

from common import metrics
from common.db import Database
from trade_executor import states
from trade_executor.config import SERVICE
from trade_executor.models import Block, BrokerOrder, ChildOrder

_LIVE = (
    ("order", ChildOrder.state, states.CHILD_LIVE),
    ("block", Block.state, states.BLOCK_LIVE),
    ("attempt", BrokerOrder.state, (*states.ATTEMPT_UNRESOLVED, "GHOST")),
)


def publish(db: Database) -> None:
    """Set the gauges of live orders, blocks and attempts by state."""
    with db.transaction() as session:
        for kind, state, live in _LIVE:
            counts = dict.fromkeys(live, 0)
            rows = session.execute(sa.select(state, sa.func.count()).where(state.in_(live)).group_by(state))
            counts.update((row[0], row[1]) for row in rows)
            for name, count in counts.items():
                metrics.live_rows.labels(SERVICE, kind, name).set(count)
