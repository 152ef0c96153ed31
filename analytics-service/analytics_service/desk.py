"""What work in the background needs: one per process."""

from dataclasses import dataclass, field

from analytics_service.analyses import Analyses
from analytics_service.closes import CloseSource, MarketCloses
from analytics_service.config import Settings
from common.auth import ServiceIdentity
from common.clock import Clock, SystemClock
from common.db import Database
from common.http import ServiceClient

MARKET = "market-data-service"
CANDLES_TIMEOUT_S = 15.0
"""A first reading of ten years asks the broker several times."""


@dataclass(frozen=True)
class Desk:
    """Collaborators of jobs and of the loop that reads closes."""

    db: Database
    settings: Settings
    clock: Clock
    closes: CloseSource
    analyses: Analyses = field(default_factory=Analyses)


def desk_from(settings: Settings, db: Database, identity: ServiceIdentity, clock: Clock | None = None) -> Desk:
    """The desk of a process, from its settings."""
    client = ServiceClient(
        settings.market_data_service_url, audience=MARKET, identity=identity, timeout_s=CANDLES_TIMEOUT_S
    )
    return Desk(db, settings, clock or SystemClock(), MarketCloses(client))
