"""Every fault of the simulator's wire, judged by the executor: never a refusal that is an order, never a wrong order."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from requests.adapters import BaseAdapter

from kite_simulator.app import create_app
from kite_simulator.config import Settings
from kite_simulator.engine import Engine, FaultKind, VirtualClock
from kite_simulator.inprocess import InProcessAdapter
from kite_simulator.server import SimulatorServer
from kite_simulator.wire_faults import CHANGE_FAULTS, PLACE_FAULTS, READ_FAULTS
from trade_executor.brokers.base import (
    Acked,
    BrokerReadFailed,
    BrokerSessionExpired,
    CancelRefused,
    CancelSent,
    CancelUnknown,
    PlaceRequest,
    Refused,
    Unknown,
)
from trade_executor.brokers.kite import KiteBroker
from trade_executor.brokers.wire import Endpoint, Timeouts, WireSession

NOON_IST = datetime(2026, 11, 16, 6, 30, tzinfo=UTC)
REFUSING = {
    FaultKind.CONNECTION_REFUSED: ("not_sent", True),
    FaultKind.TOO_MANY_REQUESTS: ("rate_limited", True),
    FaultKind.REFUSED_AT_FRONT: ("insufficient_funds", False),
}
"""The only faults that prove something: code and whether another attempt may follow. All others are UNKNOWN."""


class Account:
    """One broker account of the executor at a simulator in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = VirtualClock(NOON_IST)
        settings = Settings(access_token="token", rate_limits=False, partial_fill_probability=0.0)
        app = create_app(settings, self.clock)
        self.engine: Engine = app.state.engine
        self.engine.control.freeze_prices(True)
        adapter = InProcessAdapter(app, sleep=self.clock.advance)

        class InProcessSession(WireSession):
            def __init__(self, endpoint: Endpoint, timeouts: Timeouts) -> None:
                super().__init__(endpoint, timeouts)
                self.mount("http://", adapter)

            def get_adapter(self, url: str) -> BaseAdapter:
                return adapter

        monkeypatch.setattr("trade_executor.brokers.wire.WireSession", InProcessSession)
        self.broker = KiteBroker(api_key="saras-dev", access_token="token", root="http://localhost", clock=self.clock)

    def place(self, tag: str = "T1", price: str = "1160") -> object:
        return place(self.broker, tag, price)

    def tags_at_broker(self) -> list[str | None]:
        self.engine.advance()
        return [order.tag for order in self.engine.kernel.state.orders.values()]


def place(broker: KiteBroker, tag: str = "T1", price: str = "1160") -> object:
    return broker.place(
        PlaceRequest(
            tag=tag, exchange="NSE", tradingsymbol="INFY", side="BUY", quantity=10, product="CNC",
            order_type="LIMIT", validity="DAY", price=Decimal(price),
        )
    )  # fmt: skip


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    account = Account(monkeypatch)
    yield account
    account.broker.close()


@pytest.mark.parametrize("kind", [*PLACE_FAULTS, FaultKind.CONNECTION_REFUSED])
def test_outcome_of_a_place_call_under_each_fault(account: Account, kind: FaultKind) -> None:
    account.engine.faults.force(kind)
    outcome = account.place()
    if kind in REFUSING:
        code, retryable = REFUSING[kind]
        assert isinstance(outcome, Refused)
        assert (outcome.code, outcome.retryable) == (code, retryable)
        account.clock.advance(1_000)
        assert account.tags_at_broker() == []
    elif kind is FaultKind.ACCEPT_DELAYED and isinstance(outcome, Acked):
        assert account.tags_at_broker() == ["T1"]
    else:
        assert isinstance(outcome, Unknown), outcome
    assert account.engine.kernel.state.faults_injected == {kind.value: 1}


def test_late_acceptance_is_either_acked_or_unknown(account: Account) -> None:
    outcomes = []
    for number in range(20):
        account.engine.faults.force(FaultKind.ACCEPT_DELAYED)
        outcomes.append(type(account.place(f"T{number}")))
    assert set(outcomes) == {Acked, Unknown}
    account.clock.advance(130)
    assert len(account.tags_at_broker()) == 20


@pytest.mark.parametrize("kind", CHANGE_FAULTS)
def test_outcome_of_a_cancel_call_under_each_fault(account: Account, kind: FaultKind) -> None:
    acked = account.place(price="1100")
    assert isinstance(acked, Acked)
    account.engine.faults.force(kind)
    outcome = account.broker.cancel(acked.broker_order_id)
    expected = CancelRefused if kind is FaultKind.TOO_MANY_REQUESTS else CancelUnknown
    assert isinstance(outcome, expected), outcome
    assert isinstance(account.broker.cancel(acked.broker_order_id), CancelSent | CancelRefused)
    assert account.engine.kernel.state.orders[acked.broker_order_id].status == "CANCELLED"


@pytest.mark.parametrize("kind", READ_FAULTS)
def test_failed_read_is_no_empty_book(account: Account, kind: FaultKind) -> None:
    account.place()
    for read in (account.broker.orders, account.broker.trades, account.broker.positions, account.broker.margins):
        account.engine.faults.force(kind)
        with pytest.raises(BrokerReadFailed) as failure:
            read()
        assert not isinstance(failure.value, BrokerSessionExpired)
    assert [list(order.tags) for order in account.broker.orders()] == [["T1"]]


def test_killed_token_halts_and_is_no_unknown(account: Account) -> None:
    account.engine.faults.force(FaultKind.TOKEN_KILLED)
    outcome = account.place()
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.halts) == ("session_expired", True)
    with pytest.raises(BrokerSessionExpired):
        account.broker.orders()


@pytest.mark.parametrize("kind", sorted(set(PLACE_FAULTS) - {FaultKind.ACCEPT_DELAYED}))
def test_outcome_over_a_real_socket_is_the_same(kind: FaultKind) -> None:
    with SimulatorServer(Settings(access_token="token", rate_limits=False)) as server:
        server.call(lambda engine: engine.faults.force(kind))
        broker = KiteBroker(
            api_key="saras-dev", access_token="token", root=server.url, timeouts=Timeouts(connect_s=1.0, read_s=0.3)
        )
        outcome = place(broker)
        broker.close()
        counted = server.call(lambda engine: dict(engine.kernel.state.faults_injected))
    assert isinstance(outcome, Refused if kind in REFUSING else Unknown), outcome
    assert counted == {kind.value: 1}
