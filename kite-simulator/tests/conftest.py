"""Fixtures: an engine in virtual time, and a simulator on a real socket with the official client logged in."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from kiteconnect import KiteConnect

from kite_simulator.config import Settings
from kite_simulator.engine import Engine, VirtualClock
from kite_simulator.engine.kernel import EngineSettings
from kite_simulator.server import SimulatorServer

MONDAY_NOON_IST = datetime(2026, 11, 16, 6, 30, tzinfo=UTC)


class Market:
    """An engine, its clock, and short words for tests. The price process is frozen unless asked otherwise."""

    def __init__(self, settings: EngineSettings, data_dir: Path | None, start: datetime, *, frozen: bool) -> None:
        self.clock = VirtualClock(start)
        self.engine = Engine(settings, self.clock, data_dir)
        if frozen:
            self.engine.control.freeze_prices(True)

    @property
    def state(self) -> Any:
        return self.engine.kernel.state

    def last(self, key: str) -> int:
        return self.engine.kernel.board.lines[key].last_paise

    def set_price(self, key: str, paise: int) -> None:
        with self.engine.command():
            self.engine.control.set_price(key, paise)

    def fields(self, **given: Any) -> dict[str, str]:
        base = {
            "exchange": "NSE",
            "tradingsymbol": "RELIANCE",
            "transaction_type": "BUY",
            "order_type": "LIMIT",
            "product": "CNC",
            "quantity": 10,
        }
        return {name: str(value) for name, value in {**base, **given}.items() if value is not None}

    def place(self, variety: str = "regular", **given: Any) -> Any:
        """Place and return the order object."""
        return self.state.orders[self.engine.place(variety, self.fields(**given))["order_id"]]

    def give(self, key: str, quantity: int) -> None:
        with self.engine.command():
            self.engine.control.give_holding(key, quantity, 100_00)

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.engine.advance()

    def statuses(self, order: Any) -> list[str]:
        return [orjson.loads(row)["status"] for row in order.history]


@pytest.fixture
def make_market() -> Callable[..., Market]:
    """Build an engine in virtual time; whole fills unless `partial_fill_probability` is given."""

    def build(
        data_dir: Path | None = None, start: datetime = MONDAY_NOON_IST, frozen: bool = True, **given: Any
    ) -> Market:
        settings = replace(EngineSettings(), **{"partial_fill_probability": 0.0, **given})
        return Market(settings, data_dir, start, frozen=frozen)

    return build


@pytest.fixture
def market(make_market: Callable[..., Market]) -> Market:
    """The usual engine: strict rules, always open, frozen prices, whole fills."""
    return make_market()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimulatorServer]]:
    """Start simulators on free ports; they stop with the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in [name for name in os.environ if name.startswith("KITE_SIM_")]:
        monkeypatch.delenv(name)
    with ExitStack() as stack:

        def start(**given: Any) -> SimulatorServer:
            return stack.enter_context(SimulatorServer(Settings(**given)))

        yield start


@pytest.fixture
def log_in() -> Callable[[SimulatorServer], KiteConnect]:
    """The official client with a fresh session, unmodified, by root=."""

    def client(server: SimulatorServer) -> KiteConnect:
        kite = KiteConnect(server.settings.api_key, root=server.url)
        answer = httpx.post(f"{server.url}/simulator/request_token", trust_env=False).json()
        session = kite.generate_session(answer["data"]["request_token"], server.settings.api_secret)
        kite.set_access_token(session["access_token"])
        return kite

    return client
