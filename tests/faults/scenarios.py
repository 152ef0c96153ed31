"""Short stories of an order, each with a different way through the code; a process is killed at every point of each.

A scenario runs inside an actor: it sends requests as clients do, moves the market and the broker, and returns when
nothing more has to be sent. What must hold afterwards is the same for all: the invariants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from common.errors import AppError
from kite_simulator.engine.faults import FaultKind
from tests.faults.clients import Request
from tests.faults.schedule import Killed
from tests.faults.world import ACCOUNT, World
from trade_executor import kill_switch
from trade_executor.models import ChildOrder, Control

RETRY_S = 1.0
WAIT_S = 600.0
ASHA, BINA, CHITRA = (UUID(int=number, version=4) for number in (1, 2, 3))


@dataclass
class Stage:
    """What a scenario can do."""

    world: World
    requests: list[Request]

    def buy(self, user: UUID = ASHA, symbol: str = "INFY", quantity: int = 10, **more: Any) -> UUID | None:
        """POST /orders until it is answered; None when it was refused."""
        return self._order(user, {"tradingsymbol": symbol, "side": "BUY", "quantity": quantity, **more})

    def sell(self, user: UUID = ASHA, symbol: str = "INFY", quantity: int = 10, **more: Any) -> UUID | None:
        """The same for a sale."""
        return self._order(user, {"tradingsymbol": symbol, "side": "SELL", "quantity": quantity, **more})

    def batch(self, user: UUID, bodies: list[dict[str, Any]]) -> None:
        """POST /orders/batch until it is answered."""
        request = self._request(user, len(bodies))
        request.order_ids = self.until_answered(lambda: self.world.api.place_batch(user, request.key, bodies))

    def cancel(self, user: UUID, order_id: UUID | None) -> None:
        """DELETE the order; one that has ended meanwhile is left alone."""
        if order_id is not None:
            self.until_answered(lambda: self.world.api.cancel(user, order_id), refusals=True)

    def replace(self, user: UUID, order_id: UUID | None, **change: Any) -> None:
        """PUT other terms."""
        if order_id is not None:
            self.until_answered(lambda: self.world.api.replace(user, order_id, change), refusals=True)

    def away(self, symbol: str, bps: int) -> dict[str, str]:
        """A limit so far from the last price, on the tick."""
        last = self.world.engine.kernel.board.lines[f"NSE:{symbol}"].last_paise
        price = last * (10_000 + bps) // 10_000
        price -= price % 10
        return {"order_type": "LIMIT", "price": f"{price // 100}.{price % 100:02d}"}

    def force(self, kind: FaultKind, count: int = 1) -> None:
        """The broker's next opportunities meet this fault."""
        self.world.engine.faults.force(kind, count)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.world.scheduler.sleep(seconds)

    def until(self, order_id: UUID | None, *states: str) -> None:
        """Wait until the executor has the order in one of these states; a long silence is left to the invariants."""
        if order_id is None:
            return
        until = self.world.scheduler.time.now_s + WAIT_S
        while self.world.scheduler.time.now_s < until:
            with self.world.rooms["trade-executor"].db.transaction() as session:
                state = session.scalar(sa.select(ChildOrder.state).where(ChildOrder.order_id == order_id))
            if state in states:
                return
            self.wait(0.5)

    def switch(self, state: str) -> None:
        """Halt, or resume with two people."""

        def halt() -> None:
            with self.world.operator_db.transaction() as session:
                kill_switch.stop_if_running(session, ACCOUNT, state, actor="operator-1", reason="scenario")

        def resume() -> None:
            for person in ("operator-1", "operator-2"):
                with self.world.operator_db.transaction() as session:
                    if session.scalar(sa.select(Control.trading_state)) != "ACTIVE":
                        kill_switch.request_or_approve_resume(session, ACCOUNT, actor=person, reason="scenario")

        self.until_answered(resume if state == "ACTIVE" else halt, refusals=True)

    def until_answered(self, call: Callable[[], Any], *, refusals: bool = False) -> Any:
        """As a client does: the same request again until there is an answer."""
        while True:
            try:
                return call()
            except AppError:
                if not refusals:
                    raise
                return None
            except (DBAPIError, Killed):
                if self.world.ending:
                    raise
                self.wait(RETRY_S)

    def _order(self, user: UUID, body: dict[str, Any]) -> UUID | None:
        request = self._request(user, 1)
        body = {"confirm_duplicate": True, **body}
        try:
            request.order_ids = self.until_answered(lambda: self.world.api.place(user, request.key, body))
        except AppError as refusal:
            request.refusal = refusal.code
            return None
        return request.order_ids[0]

    def _request(self, user: UUID, orders: int) -> Request:
        request = Request(f"scenario-{len(self.requests)}", user, orders)
        self.requests.append(request)
        return request


def market_buy(stage: Stage) -> None:
    """One order, alone, at once."""
    stage.until(stage.buy(), "FILLED")


def many_users_one_block(stage: Stage) -> None:
    """A burst merges into blocks."""
    for user in (ASHA, BINA, CHITRA):
        stage.batch(user, [{"tradingsymbol": symbol, "side": "BUY", "quantity": 7, "confirm_duplicate": True} for symbol in ("INFY", "TCS", "SBIN", "INFY")])  # fmt: skip


def limit_in_pieces(stage: Stage) -> None:
    """Partial fills of a marketable limit for two users: several rounds."""
    stage.force(FaultKind.PARTIAL_FILL, 2)
    stage.batch(ASHA, [{"tradingsymbol": "ITC", "side": "BUY", "quantity": 33, "confirm_duplicate": True, **stage.away("ITC", 50)}])  # fmt: skip
    stage.until(stage.buy(BINA, "ITC", 17, **stage.away("ITC", 50)), "FILLED")


def buy_then_sell(stage: Stage) -> None:
    """Shares that were bought are sold: holds on shares, lots, proceeds."""
    stage.until(stage.buy(quantity=20), "FILLED")
    stage.wait(5)
    stage.until(stage.sell(quantity=12), "FILLED")


def cancel_while_resting(stage: Stage) -> None:
    """A block of two is broken up: one gives up, the other goes back and out again."""
    stage.switch("HALTED")
    first = stage.buy(ASHA, "TCS", 5, **stage.away("TCS", -200))
    second = stage.buy(BINA, "TCS", 6, **stage.away("TCS", -200))
    stage.wait(5)
    stage.switch("ACTIVE")
    stage.until(second, "BATCHED")
    stage.wait(3)
    stage.cancel(ASHA, first)
    stage.until(first, "CANCELLED")
    stage.cancel(BINA, second)


def cancel_in_pool(stage: Stage) -> None:
    """Nothing has been sent: the cancel is immediate."""
    stage.switch("HALTED")
    order = stage.buy()
    stage.wait(3)
    stage.cancel(ASHA, order)
    stage.until(order, "CANCELLED")
    stage.switch("ACTIVE")


def cancel_races_fill(stage: Stage) -> None:
    """The broker takes the cancel and fills all the same."""
    stage.force(FaultKind.CANCEL_THEN_FILLED)
    order = stage.buy(ASHA, "LT", 4, **stage.away("LT", -150))
    stage.until(order, "BATCHED")
    stage.wait(4)
    stage.cancel(ASHA, order)


def cancel_refused(stage: Stage) -> None:
    """The broker says no although the order is open: asked again until the book shows an end."""
    stage.force(FaultKind.CANCEL_REFUSED, 2)
    order = stage.buy(ASHA, "LT", 4, **stage.away("LT", -150))
    stage.until(order, "BATCHED")
    stage.wait(4)
    stage.cancel(ASHA, order)


def refused_at_once(stage: Stage) -> None:
    """The broker's own risk management refuses; the order never reaches the book."""
    stage.force(FaultKind.REFUSED_AT_FRONT)
    stage.until(stage.buy(), "REJECTED")


def rejected_later(stage: Stage) -> None:
    """The exchange rejects an order that was acknowledged."""
    stage.world.engine.control.refuse_symbol("NSE:WIPRO", "RMS:Blocked for the day")
    stage.until(stage.buy(symbol="WIPRO"), "REJECTED", "CANCELLED")


def rate_limited(stage: Stage) -> None:
    """429: certain not to exist, tried again as a new attempt."""
    stage.force(FaultKind.TOO_MANY_REQUESTS, 2)
    stage.until(stage.buy(), "FILLED")


def answer_lost(stage: Stage) -> None:
    """The order is live, its answer never came: found by its tag."""
    stage.force(FaultKind.RESPONSE_LOST)
    stage.until(stage.buy(), "FILLED")


def request_lost(stage: Stage) -> None:
    """The order never arrived: LOST after three minutes and twenty reads, told to the user."""
    stage.force(FaultKind.REQUEST_LOST)
    stage.until(stage.buy(), "FAILED")


def ghost(stage: Stage) -> None:
    """Given up, then it appears: cancelled, its fills are the house's."""
    stage.force(FaultKind.GHOST)
    stage.until(stage.buy(**stage.away("INFY", 50)), "FAILED")
    stage.wait(600)


def timed_out_400(stage: Stage) -> None:
    """A 400 that says "timed out", and the order follows."""
    stage.force(FaultKind.TIMED_OUT_400_ACCEPTED)
    stage.until(stage.buy(), "FILLED", "FAILED")
    stage.wait(150)


def opposite_sides(stage: Stage) -> None:
    """A resting buy has to give way to a sale that could trade with it."""
    stage.until(stage.buy(ASHA, "SBIN", 10), "FILLED")
    stage.wait(5)
    resting = stage.buy(BINA, "SBIN", 5, **stage.away("SBIN", -20))
    stage.until(resting, "BATCHED")
    stage.wait(3)
    stage.sell(ASHA, "SBIN", 5, **stage.away("SBIN", -40))
    stage.wait(30)
    stage.cancel(BINA, resting)


def replaced(stage: Stage) -> None:
    """Other terms: cancelled first, then a new order."""
    order = stage.buy(ASHA, "TITAN", 4, **stage.away("TITAN", -200))
    stage.until(order, "BATCHED")
    stage.wait(2)
    stage.replace(ASHA, order, price=stage.away("TITAN", 40)["price"])
    stage.wait(30)


def session_lost(stage: Stage) -> None:
    """The token dies in the middle of a call: blind until the next login, nothing is lost."""
    first = stage.buy(ASHA, "ONGC", 3, **stage.away("ONGC", -200))
    stage.until(first, "BATCHED")
    stage.wait(2)
    stage.force(FaultKind.TOKEN_KILLED)
    stage.until(stage.buy(BINA, "NTPC", 3), "FILLED")
    stage.cancel(ASHA, first)


def halted_and_resumed(stage: Stage) -> None:
    """The switch dissolves what was not sent; the orders go out after the resume."""
    stage.switch("HALTED")
    order = stage.buy()
    stage.wait(20)
    stage.switch("ACTIVE")
    stage.until(order, "FILLED")


def day_ends(stage: Stage) -> None:
    """The market closes over a resting order: cancelled at the broker, expired for the user; the day is reported."""
    order = stage.buy(ASHA, "COALINDIA", 9, **stage.away("COALINDIA", -200))
    stage.until(order, "BATCHED")
    stage.wait(3)
    stage.world.engine.control.switch_market(False)
    stage.until(order, "EXPIRED")
    stage.wait(60)


def short_lives(stage: Stage) -> None:
    """Immediate-or-cancel, and good for a minute."""
    stage.buy(ASHA, "POWERGRID", 4, validity="IOC", **stage.away("POWERGRID", -150))
    stage.until(stage.buy(BINA, "POWERGRID", 4, validity="TTL", ttl_minutes=1, **stage.away("POWERGRID", -150)), "EXPIRED")  # fmt: skip


def purged(stage: Stage) -> None:
    """Every queue is emptied while an order is on its way, twice."""
    order = stage.buy()
    stage.world.bus.purge()
    stage.wait(1)
    stage.world.bus.purge()
    stage.until(order, "FILLED")


def stranger(stage: Stage) -> None:
    """Somebody trades in the account by hand."""
    stage.force(FaultKind.FOREIGN_ORDER)
    stage.until(stage.buy(), "FILLED", "REJECTED")
    stage.wait(60)


def corrected(stage: Stage) -> None:
    """The exchange takes back what it said of a trade."""
    stage.force(FaultKind.TRADE_CORRECTED)
    stage.until(stage.buy(), "FILLED")
    stage.wait(90)


def book_unreadable(stage: Stage) -> None:
    """The book cannot be read for a while: nobody guesses."""
    stage.force(FaultKind.READ_UNAVAILABLE, 12)
    stage.until(stage.buy(), "FILLED")


def day_value_reached(stage: Stage) -> None:
    """More than the account may trade in a day: nothing new leaves, the order can be taken back."""
    order = stage.buy(quantity=20, **stage.away("INFY", 50))
    stage.wait(20)
    stage.cancel(ASHA, order)


Scenario = Callable[[Stage], None]
SETTINGS: dict[str, dict[str, Any]] = {"day_value_reached": {"value_per_day_paise": 1_000_00}}
"""Settings of the executor that a scenario needs."""
SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        market_buy, many_users_one_block, limit_in_pieces, buy_then_sell, cancel_while_resting, cancel_in_pool,
        cancel_races_fill, cancel_refused, refused_at_once, rejected_later, rate_limited, answer_lost, request_lost, ghost,
        timed_out_400, opposite_sides, replaced, session_lost, halted_and_resumed, day_ends, short_lives, purged, stranger,
        corrected, book_unreadable, day_value_reached,
    )
}  # fmt: skip
