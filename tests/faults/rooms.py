"""What the processes of a run find around them: the market, other rooms, the way to the broker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from common.clock import SystemClock
from common.db import Database
from common.events import REGISTRY, Envelope
from common.market_data import Instrument, Key, Price, SessionInfo
from common.outbox_reading import PAGE_MAX, Page, Position, read_bodies, read_page
from kite_simulator.inprocess import InProcessAdapter
from portfolio_service import totals
from tests.faults.points import AFTER, BEFORE, Points
from trade_executor.reconciling import LedgerAsset


class SimulatedMarket:
    """MarketData read from the simulator itself."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def instruments(self, keys: Iterable[Key]) -> Mapping[Key, Instrument]:
        """Known shares among the keys."""
        lines = self._engine.kernel.board.lines
        return {
            key: Instrument(
                exchange=key[0],
                tradingsymbol=key[1],
                name=key[1],
                instrument_token=line.instrument.token,
                tick_paise=line.instrument.tick_paise,
                lot_size=1,
                segment=key[0],
                isin=line.instrument.isin,
                lower_band_paise=line.lower_paise,
                upper_band_paise=line.upper_paise,
            )
            for key in keys
            if (line := lines.get(f"{key[0]}:{key[1]}")) is not None
        }

    def prices(self, keys: Iterable[Key]) -> Mapping[Key, Price]:
        """Last prices, as old as this moment."""
        lines, now = self._engine.kernel.board.lines, SystemClock().now()
        return {
            key: Price(lines[f"{key[0]}:{key[1]}"].last_paise, now) for key in keys if f"{key[0]}:{key[1]}" in lines
        }

    def session(self) -> SessionInfo:
        """Open or closed as the simulator is; the day ends at its midnight."""
        kernel = self._engine.kernel
        day = kernel.state.day
        return SessionInfo(
            is_open=kernel.market_open(),
            phase="CONTINUOUS" if kernel.market_open() else "CLOSED",
            trading_date=day,
            closes_at=kernel.calendar.closes_at(day),
            next_trading_date=day + timedelta(days=1),
        )


@dataclass
class OtherRoom:
    """What rooms ask each other over HTTP, answered from the other room's database: outboxes and the ledger's totals."""

    db: Database

    def page(self, types: Sequence[str], after: Position, *, grace_s: float, limit: int = PAGE_MAX) -> Page:
        """`common.outbox_reading.OutboxSource`."""
        with self.db.transaction() as session:
            return read_page(session, types, after, grace_s=grace_s, limit=limit)

    def bodies(self, message_ids: Sequence[UUID]) -> list[Envelope]:
        """`common.outbox_reading.OutboxSource`."""
        with self.db.transaction() as session:
            return read_bodies(session, list(REGISTRY), message_ids)

    def totals(self) -> Mapping[str, LedgerAsset]:
        """`trade_executor.ledger_books.LedgerBooks`."""
        with self.db.transaction() as session:
            return {
                row.asset: LedgerAsset(row.users, row.house, row.to_market, row.from_market)
                for row in totals.totals(session)
            }


class Wire(InProcessAdapter):
    """The way to the simulator with points before the first byte and after the last."""

    def __init__(self, simulator: Any, points: Points, sleep: Callable[[float], None]) -> None:
        super().__init__(simulator, sleep=sleep)
        self._points = points

    def send(self, request: Any, **kwargs: Any) -> Any:
        operation = _operation(request.method, request.path_url)
        if operation is None:
            return super().send(request, **kwargs)
        self._points.reach("broker", operation, BEFORE)
        try:
            return super().send(request, **kwargs)
        finally:
            self._points.reach("broker", operation, AFTER)


def _operation(method: str, path: str) -> str | None:
    if method == "POST" and path.startswith("/orders/"):
        return "place"
    if method == "DELETE" and path.startswith("/orders/"):
        return "cancel"
    return {"/orders": "orders", "/trades": "trades"}.get(path.partition("?")[0]) if method == "GET" else None
