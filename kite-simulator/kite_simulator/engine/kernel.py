"""What all desks of the broker share: books, journal, board, time, scheduled work."""

import heapq
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kite_simulator.engine.account import Account
from kite_simulator.engine.clock import Calendar, Clock, ist_text, load_holidays
from kite_simulator.engine.faults import OFF, FaultRates
from kite_simulator.engine.instruments import load_instruments
from kite_simulator.engine.journal import Fact, Journal
from kite_simulator.engine.orders import Order
from kite_simulator.engine.prices import BarReplay, Board, PriceSource, SeededWalk
from kite_simulator.engine.rendering import postback_body
from kite_simulator.engine.state import State
from kite_simulator.engine.streams import stream

ORDER_ID_EPOCH_MS = 1_338_000_000_000
"""Chosen so that ids have 19 digits, as Kite's since about 2025."""
UPDATES_KEPT_MAX = 10_000
ORDER_LIFE = frozenset({"order_received", "order_state", "trade", "trade_corrected"})
"""Facts that change what the book shows of one order."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Behaviour of the engine; seconds are wall seconds of the injected clock."""

    seed: int = 1
    strict: bool = True
    opening_cash_paise: int = 100_00_00_000_00
    always_open: bool = True
    tick_interval_s: float = 1.0
    partial_fill_probability: float = 0.3
    partial_fill_pieces_max: int = 4
    fill_latency_max_s: float = 1.0
    order_latency_s: float = 0.0
    freeze_quantity: int = 100_000
    replay_csv: Path | None = None
    replay_seconds_per_bar: float = 60.0
    api_key: str = "saras-dev"
    api_secret: str = "saras-dev-secret"  # noqa: S105 - development default of a simulator
    request_token_ttl_s: float = 300.0
    faults: FaultRates = OFF


@dataclass(frozen=True, slots=True, order=True)
class Work:
    """Something due later; `serial` keeps equal times in order of scheduling."""

    due: datetime
    serial: int
    name: str
    order_id: str
    number: int = 0
    round: int = 0


class Kernel:
    """Shared ground of the desks. Every change of the books goes through `record`."""

    def __init__(self, settings: EngineSettings, clock: Clock, journal: Journal | None) -> None:
        self.settings = settings
        self.clock = clock
        self.journal = journal
        self.calendar = Calendar(settings.always_open, frozenset() if settings.always_open else load_holidays())
        self.instruments = load_instruments()
        self.time = clock.now()
        self.start()

    def start(self) -> None:
        """Empty books, and prices at their beginning."""
        self.state = State(self.instruments, Account(self.settings.opening_cash_paise))
        source: PriceSource = SeededWalk(self.settings.seed)
        if self.settings.replay_csv is not None:
            source = BarReplay(self.settings.replay_csv, self.settings.replay_seconds_per_bar, source)
        self.board = Board(self.instruments, source)
        self.facts: list[Fact] = []
        self.order_facts: dict[str, list[Fact]] = {}
        self.updates: list[dict[str, Any]] = []
        self.ticked: set[str] = set()
        self.work: list[Work] = []
        self._serial = 0
        self._depth = 0
        self._batch: list[Fact] = []

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Facts recorded inside reach the journal together when the outermost batch ends, even on a refusal."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._batch:
                batch, self._batch = self._batch, []
                if self.journal is not None:
                    self.journal.append(batch)

    def record(self, kind: str, **fields: Any) -> None:
        """Apply one fact to the books and hand it to the journal."""
        fact = {"n": len(self.facts) + 1, "at": self.time.isoformat(), "kind": kind, **fields}
        self._keep(fact)
        self._batch.append(fact)
        if self._depth == 0:
            with self.batch():
                pass

    def record_order(self, order: Order, status: str, **changes: Any) -> None:
        """Move an order to a state; instants among the changes are given as datetimes."""
        plain = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in changes.items()}
        self.record("order_state", order_id=order.order_id, status=status, changes=plain)

    def record_trade(self, order: Order, quantity: int, price_paise: int) -> str:
        """Book a fill; returns the trade's id."""
        trade_id = str(50_000_000 + self.state.trades_ever + 1)
        self.record(
            "trade",
            trade_id=trade_id,
            order_id=order.order_id,
            quantity=quantity,
            price_paise=price_paise,
            at_ist=ist_text(self.time),
        )
        return trade_id

    def replay(self) -> None:
        """Rebuild the books from the journal."""
        if self.journal is None:
            return
        for batch in self.journal.read():
            for fact in batch:
                self._keep(fact)
        if self.facts:
            self.board.restore(self.state.closes, self.state.prices_set)

    def _keep(self, fact: Fact) -> None:
        self.state.apply(fact)
        self.facts.append(fact)
        if fact["kind"] in ORDER_LIFE:
            order_id = fact["order_id"] if "order_id" in fact else fact["order"]["order_id"]
            self.order_facts.setdefault(order_id, []).append(fact)

    def emit(self, order: Order, status: str) -> None:
        """Queue an order update for postbacks and WebSockets; the oldest is dropped when nobody drains."""
        self.emit_body(postback_body(order, status, ""))

    def emit_body(self, body: dict[str, Any]) -> None:
        """Queue an update that was written before."""
        if len(self.updates) >= UPDATES_KEPT_MAX:
            del self.updates[0]
        self.updates.append(body)

    def schedule(self, delay_s: float, name: str, order_id: str, number: int = 0, round_: int = 0) -> None:
        """Queue work for an order."""
        self._serial += 1
        due = self.time + timedelta(seconds=delay_s)
        heapq.heappush(self.work, Work(due, self._serial, name, order_id, number, round_))

    def market_open(self) -> bool:
        """Continuous trading at this instant, unless switched by the control endpoint."""
        state = self.state
        if state.market_override is not None:
            return state.market_override
        if state.day is None or state.session_closed:
            return False
        return self.calendar.opens_at(state.day) <= self.time < self.calendar.closes_at(state.day)

    def new_order_id(self) -> str:
        """A 19-digit id that grows with time."""
        milliseconds = int(self.time.timestamp() * 1000) - ORDER_ID_EPOCH_MS
        return str((milliseconds << 22) | (self.state.orders_ever & 0x3FFFFF))

    def new_exchange_order_id(self) -> str:
        """A 16-digit id of the exchange."""
        return str(1_100_000_000_000_001 + self.state.exchange_ids_ever)

    def receive_order(self, fields: dict[str, Any], *, counts: bool) -> Order:
        """Put a new order into the book; `counts` says whether it uses up the client's daily allowance."""
        ordinal = self.state.orders_ever + 1
        rng = stream(self.settings.seed, f"order/{ordinal}")
        order_id = self.new_order_id()
        self.record(
            "order_received",
            counts=counts,
            order={
                "order_id": order_id,
                "ordinal": ordinal,
                "shuffle_rank": rng.getrandbits(30),
                "guid": f"{ordinal}X{rng.getrandbits(64):016x}",
                **fields,
            },
        )
        return self.state.orders[order_id]
