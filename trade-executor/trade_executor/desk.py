"""The collaborators of one executor process, and what they know together."""

import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from common.clock import Clock
from common.db import Database
from common.errors import AppError
from common.logging import get_logger
from common.market_data import SessionInfo
from trade_executor.config import Settings
from trade_executor.expiry import market_open
from trade_executor.observing import Seen
from trade_executor.sessions import BrokerAccess

log = get_logger(__name__)

SESSION_INFO_AGE_MAX_S = 300.0
"""How long the last known market session counts while market-data-service does not answer."""


class MarketSessions(Protocol):
    """Where the state of the market comes from (common.market_data.MarketData fits)."""

    def session(self) -> SessionInfo:
        """The session now; raises AppError when nobody knows."""
        ...


@dataclass
class Desk:
    """What pump, poller and sweeper work with. One per process; safe to share between its threads."""

    db: Database
    settings: Settings
    market: MarketSessions
    access: BrokerAccess
    clock: Clock
    seen: Seen = field(default_factory=Seen)
    _known: tuple[float, SessionInfo] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def session_info(self) -> SessionInfo | None:
        """The market's session, None when it is not known: then nothing new is sent and nothing expires."""
        try:
            info = self.market.session()
        except AppError as error:
            with self._lock:
                known = self._known
            log.warning("market.session_unknown", error=type(error).__name__, detail=str(error))
            if known is None or time.monotonic() - known[0] > SESSION_INFO_AGE_MAX_S:
                return None
            return known[1]
        with self._lock:
            self._known = (time.monotonic(), info)
        return info

    def market_is_open(self) -> bool:
        """Whether blocks may be sent now."""
        info = self.session_info()
        return info is not None and self.is_open(info)

    def is_open(self, info: SessionInfo) -> bool:
        """Whether a session is open to us now."""
        return market_open(info, self.clock.now(), lead_seconds=self.settings.close_lead_seconds)

    def database_now(self) -> datetime:
        """The database's clock: the one that ages are measured with."""
        with self.db.transaction() as session:
            now: datetime = session.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return now
