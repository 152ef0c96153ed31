"""What this room may delete when it is old: raw messages of the broker. Orders, fills and breaks are never deleted."""

from typing import cast

import sqlalchemy as sa

from common.retention import of_rows
from trade_executor.models import BrokerEvent

RULES = (
    of_rows(
        "evidence",
        "raw messages of the broker (postbacks)",
        days=365,
        days_min=90,
        table=cast(sa.Table, BrokerEvent.__table__),
        outdated=lambda before: BrokerEvent.received_at < before,
    ),
)
