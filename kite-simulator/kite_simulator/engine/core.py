"""The engine: one synchronous object that tests drive in virtual time and the wire drives in real time."""

import heapq
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kite_simulator.engine.aftermath import Aftermath
from kite_simulator.engine.books import Books
from kite_simulator.engine.candles import Candles
from kite_simulator.engine.clock import Clock, SystemClock
from kite_simulator.engine.control import Control
from kite_simulator.engine.day import DayCycle
from kite_simulator.engine.desk import Desk
from kite_simulator.engine.dice import FaultDice
from kite_simulator.engine.exchange import Exchange
from kite_simulator.engine.gtt import GttDesk
from kite_simulator.engine.journal import Journal
from kite_simulator.engine.kernel import EngineSettings, Kernel
from kite_simulator.engine.portfolio import Portfolio
from kite_simulator.engine.sessions import Sessions

TICKS_CAUGHT_UP_MAX = 600
"""After a long pause prices make at most this many steps at once; the rest of the pause passes without ticks."""
EVENTS_PER_ADVANCE_MAX = 1_000_000


class Engine:
    """Broker and exchange. Everything happens inside `command()` or `advance()`, at the instant of the clock."""

    def __init__(
        self, settings: EngineSettings | None = None, clock: Clock | None = None, data_dir: Path | None = None
    ) -> None:
        self.settings = settings or EngineSettings()
        self.journal = Journal(data_dir) if data_dir is not None else None
        self.kernel = Kernel(self.settings, clock or SystemClock(), self.journal)
        self._assemble()

    def _assemble(self) -> None:
        kernel = self.kernel
        kernel.replay()
        kernel.time = kernel.clock.now()
        self.faults = FaultDice(kernel)
        self.exchange = Exchange(kernel, self.faults)
        self.desk = Desk(kernel, self.exchange, self.faults)
        self.aftermath = Aftermath(kernel, self.exchange, self.desk, self.faults)
        self.books = Books(kernel, self.faults)
        self.gtts = GttDesk(kernel, self.desk)
        self.sessions = Sessions(kernel, self.faults)
        self.days = DayCycle(kernel, self.exchange)
        self.control = Control(kernel, self.exchange, self.days, self.gtts)
        self.portfolio = Portfolio(kernel)
        self.candles = Candles(kernel)
        self._next_tick = kernel.time + timedelta(seconds=self.settings.tick_interval_s)
        if kernel.state.day is None:
            self.days.begin()
        with kernel.batch():
            self.exchange.resume()
            self.aftermath.resume()

    @contextmanager
    def command(self) -> Iterator[None]:
        """Catch up with the clock, then run one client command as one journal batch."""
        self.advance()
        with self.kernel.batch():
            yield

    def place(self, variety: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Place an order now; see Desk.place."""
        with self.command():
            return self.desk.place(variety, fields)

    def modify(self, variety: str, order_id: str, fields: Mapping[str, str]) -> dict[str, Any]:
        """Modify an order now; see Desk.modify."""
        with self.command():
            return self.desk.modify(variety, order_id, fields)

    def cancel(self, variety: str, order_id: str) -> dict[str, Any]:
        """Cancel an order now; see Desk.cancel."""
        with self.command():
            return self.desk.cancel(variety, order_id)

    def advance(self) -> None:
        """Process everything due up to the present, in order of time."""
        kernel = self.kernel
        now = kernel.clock.now()
        interval = timedelta(seconds=self.settings.tick_interval_s)
        if now - self._next_tick > TICKS_CAUGHT_UP_MAX * interval:
            self._next_tick = now - (TICKS_CAUGHT_UP_MAX // 10) * interval
        for _ in range(EVENTS_PER_ADVANCE_MAX):
            due = self._next_due()
            if due > now:
                break
            kernel.time = max(kernel.time, due)
            with kernel.batch():
                self._process(due)
        kernel.time = max(kernel.time, now)

    def drain_updates(self) -> list[dict[str, Any]]:
        """Order updates since the last call, in order."""
        updates, self.kernel.updates = self.kernel.updates, []
        return updates

    def drain_ticked(self) -> set[str]:
        """Keys whose price moved since the last call."""
        ticked, self.kernel.ticked = self.kernel.ticked, set()
        return ticked

    def reset(self) -> None:
        """Forget everything, the journal included."""
        if self.journal is not None:
            self.journal.clear()
        self.kernel.start()
        self._assemble()

    def close(self) -> None:
        """Release the journal."""
        if self.journal is not None:
            self.journal.close()

    def _next_due(self) -> datetime:
        kernel = self.kernel
        due = min(self._next_tick, self._boundary())
        return min(due, kernel.work[0].due) if kernel.work else due

    def _boundary(self) -> datetime:
        state, calendar = self.kernel.state, self.kernel.calendar
        if state.day is None:
            raise RuntimeError("the engine begins a day before it advances")
        return calendar.rolls_at(state.day) if state.session_closed else calendar.closes_at(state.day)

    def _process(self, due: datetime) -> None:
        kernel = self.kernel
        if self._boundary() <= due:
            if kernel.state.session_closed:
                self.days.roll()
            else:
                self.days.close()
        elif kernel.work and kernel.work[0].due <= due:
            self._do_work()
        else:
            self._next_tick += timedelta(seconds=self.settings.tick_interval_s)
            self._tick()

    def _do_work(self) -> None:
        work = heapq.heappop(self.kernel.work)
        if work.name == "fault":
            self.aftermath.keep(work.number)
            return
        order = self.kernel.state.orders.get(work.order_id)
        if order is None or order.is_terminal:
            return
        if work.name == "piece":
            self.exchange.fill_piece(order, work.number, work.round)
        elif work.name == "accept":
            self.exchange.accept(order)
        elif work.name == "expire":
            self.exchange.expire(order)
        else:
            raise ValueError(f"unknown work {work.name}")

    def _tick(self) -> None:
        kernel = self.kernel
        if not kernel.market_open():
            return
        for order in self.days.release_amos():
            self.desk.release_amo(order)
        if not kernel.state.frozen:
            kernel.ticked.update(kernel.board.tick(kernel.time))
        for key in [key for key, orders in kernel.state.live.items() if orders]:
            self.exchange.match_key(key)
        self.gtts.watch()
