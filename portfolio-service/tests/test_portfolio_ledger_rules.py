"""The ledger's rules without a database, and then with one against a model of plain dictionaries."""

import random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service import ledger
from portfolio_service.entries import entry_type, particulars
from portfolio_service.ledger import (
    AccountKey,
    Balance,
    Fill,
    Hold,
    LedgerRuleBroken,
    Transfer,
    TransferKind,
)
from portfolio_service.orders import (
    LIVE_STATES,
    TERMINAL_STATES,
    TRANSITIONS,
    IllegalTransition,
    OrderFact,
    OrderState,
    next_state,
    states_for,
)

PORTFOLIO = UUID("11111111-1111-4111-8111-111111111111")
ASSET = "NSE:INFY"


class Books:
    """Balances as plain numbers; refuses what the database would refuse."""

    def __init__(self) -> None:
        self.balances: dict[AccountKey, Balance] = {}
        self.seen: dict[UUID, Transfer] = {}

    def of(self, key: AccountKey) -> Balance:
        return self.balances.setdefault(key, Balance())

    def write(self, transfers: list[Transfer]) -> None:
        new = [transfer for transfer in transfers if transfer.id not in self.seen]
        for transfer in new:
            self.seen[transfer.id] = transfer
        for key, change in ledger.effects(new).items():
            balance = self.of(key)
            balance.posted += change.posted
            balance.held += change.held
            assert balance.held >= 0
            assert key.allow_negative or (balance.free >= 0 and balance.posted >= 0), key
        totals: dict[str, int] = {}
        for key, balance in self.balances.items():
            totals[key.asset] = totals.get(key.asset, 0) + balance.posted
        assert set(totals.values()) <= {0}


def fill(quantity: int, amount: int, charges: int = 0) -> Fill:
    return Fill(uuid4(), uuid4(), PORTFOLIO, ASSET, "CNC", quantity, amount, charges)


@given(
    start=st.integers(0, 10**6),
    hold=st.integers(0, 10**6),
    cost=st.integers(0, 2 * 10**6),
    charge=st.integers(0, 10**4),
    next_hold=st.integers(0, 10**6),
)
def test_any_bought_fill_is_paid_exactly_and_cash_never_goes_negative(
    start: int, hold: int, cost: int, charge: int, next_hold: int
) -> None:
    books, bought = Books(), fill(3, cost, charge)
    cash = ledger.cash_account(PORTFOLIO)
    if start:
        books.write([Transfer("deposit:x:1", ledger.bank_account(), cash, start)])
    held = None
    if 0 < hold <= start:
        pending = ledger.hold_cash(bought.order_id, PORTFOLIO, hold)
        books.write([pending])
        held = Hold(pending.id, hold)
    transfers = ledger.settle_buy(bought, held, books.of(cash), next_hold_paise=next_hold)
    books.write(transfers)
    owed = -books.of(ledger.due_account(PORTFOLIO)).posted
    assert books.of(ledger.clearing_account("INR")).posted == cost
    assert books.of(ledger.charges_account()).posted == charge
    assert books.of(cash).posted - owed == start - cost - charge
    assert owed == 0 or books.of(cash).free == 0
    assert books.of(cash).held == min(next_hold, books.of(cash).posted)
    assert books.of(ledger.shares_account(PORTFOLIO, ASSET, "CNC")).posted == 3
    books.write(transfers)  # the same causes again: nothing
    assert books.of(cash).posted - owed == start - cost - charge


@given(
    units=st.integers(1, 50),
    sold=st.integers(1, 50),
    proceeds=st.integers(0, 10**6),
    charge=st.integers(0, 10**4),
    cash_paise=st.integers(0, 10**4),
    owed=st.integers(0, 10**4),
)
def test_any_sold_fill_delivers_its_units_and_pays_charges_and_dues_first(
    units: int, sold: int, proceeds: int, charge: int, cash_paise: int, owed: int
) -> None:
    books, sale = Books(), fill(sold, proceeds, charge)
    cash, due = ledger.cash_account(PORTFOLIO), ledger.due_account(PORTFOLIO)
    shares = ledger.shares_account(PORTFOLIO, ASSET, "CNC")
    books.write([Transfer("seed:1", ledger.clearing_account(ASSET), shares, units)])
    if cash_paise:
        books.write([Transfer("seed:2", ledger.bank_account(), cash, cash_paise)])
    if owed:
        books.write([Transfer("seed:3", due, ledger.charges_account(), owed)])
    pending = ledger.hold_shares(sale.order_id, shares, units)
    books.write([pending])
    hold = Hold(pending.id, units)
    if sold > units:
        with pytest.raises(LedgerRuleBroken, match="fewer units"):
            ledger.settle_sell(sale, hold, books.of(cash), books.of(due), next_hold_units=0)
        return
    books.write(ledger.settle_sell(sale, hold, books.of(cash), books.of(due), next_hold_units=units - sold))
    owed_after = -books.of(due).posted
    assert books.of(shares).posted == books.of(shares).held == units - sold
    assert books.of(cash).posted - owed_after == cash_paise - owed + proceeds - charge
    assert owed_after == 0 or books.of(cash).free == 0


@given(side=st.sampled_from(["BUY", "SELL"]), quantity=st.integers(1, 100), amount=st.integers(0, 10**6))
def test_house_takes_both_sides_of_a_stray_fact(side: str, quantity: int, amount: int) -> None:
    books = Books()
    books.write(ledger.book_to_house(uuid4(), None, side, ASSET, quantity, amount))
    sign = 1 if side == "BUY" else -1
    assert books.of(ledger.error_account(ASSET)).posted == sign * quantity
    assert books.of(ledger.error_account("INR")).posted == -sign * amount


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": 0},
        {"amount": -1},
        {"credit": ledger.clearing_account(ASSET)},
        {"credit": ledger.cash_account(PORTFOLIO)},
        {"kind": TransferKind.POST},
        {"pending_id": PORTFOLIO},
        {"kind": TransferKind.POST, "pending_id": PORTFOLIO, "released": 5, "amount": 6},
    ],
)
def test_impossible_transfers_can_not_be_written_down(wrong: dict[str, Any]) -> None:
    right = {"cause": "x:y", "debit": ledger.cash_account(PORTFOLIO), "credit": ledger.bank_account(), "amount": 1}
    Transfer(**right)
    with pytest.raises(LedgerRuleBroken):
        Transfer(**{**right, **wrong})


def test_ids_come_from_causes_and_never_change() -> None:
    hold = ledger.hold_cash(UUID(int=1), UUID(int=2), 5)
    assert hold.cause == "hold:00000000-0000-0000-0000-000000000001:0"
    assert str(hold.id) == "c86639f0-ed67-5bfa-94e7-40815fff1e67"
    assert str(ledger.cash_account(UUID(int=2)).id) == "c8234932-03dc-5797-9d5c-debfa7cb83b5"


def test_every_pair_of_state_and_fact_is_decided() -> None:
    for state in OrderState:
        for fact in OrderFact:
            if (state, fact) in TRANSITIONS:
                assert next_state(state, fact) == TRANSITIONS[state, fact]
                continue
            with pytest.raises(IllegalTransition, match=state):
                next_state(state, fact)
    for state in TERMINAL_STATES:
        assert {fact for fact in OrderFact if (state, fact) in TRANSITIONS} == {OrderFact.WORKING}
        assert next_state(state, OrderFact.WORKING) == state
    assert next_state(OrderState.PARTIAL, OrderFact.WORKING) == OrderState.PARTIAL


@pytest.mark.parametrize(
    ("word", "states"),
    [
        ("pending", {OrderState.ACCEPTED, OrderState.WORKING}),
        ("EXECUTED", {OrderState.FILLED}),
        ("Complete", {OrderState.FILLED}),
        ("OPEN", {OrderState.WORKING, OrderState.PARTIAL}),
        ("live", set(LIVE_STATES)),
        ("CANCELLED", {OrderState.CANCELLED}),
    ],
)
def test_words_of_other_desks_name_our_states(word: str, states: set[OrderState]) -> None:
    assert states_for(word) == states


def test_entry_types_follow_from_causes() -> None:
    order, allocation = uuid4(), uuid4()
    assert entry_type(f"hold:{order}:0", "INR") == "HOLD"
    assert entry_type(f"fill:{allocation}:post", "INR") == "BUY"
    assert entry_type(f"fill:{allocation}:post", ASSET) == "SELL"
    assert entry_type(f"fill:{allocation}:charges-due", "INR") == "CHARGES"
    assert entry_type("deposit:a:b:repay", "INR") == "DUE_REPAID"
    assert entry_type("topup:a:key:with:colons", "INR") == "TOPUP"
    with pytest.raises(ValueError, match="unknown cause"):
        entry_type("magic:1", "INR")
    assert particulars("BUY", None, ASSET) == "Shares bought: NSE:INFY"
    assert particulars("DEPOSIT", "cheque 12", None) == "Deposit (cheque 12)"


class Model:
    """What one user should have, told only by what happened: the oracle of the random life below."""

    def __init__(self, paise: int) -> None:
        self.cash = paise
        self.units: dict[str, int] = {}
        self.open: dict[UUID, dict[str, Any]] = {}


@pytest.mark.parametrize("seed", range(3))
def test_random_lives_of_orders_agree_with_a_model_after_every_step(room: Any, seed: int) -> None:
    """hold -> partial allocations -> close, many orders at once, against dictionaries; the ledger proves itself too."""
    dice = random.Random(seed)  # noqa: S311
    user = room.customer()
    room.give(user, "300000")
    model = Model(30_000_000)
    for _ in range(30):
        if not model.open or dice.random() < 0.4:
            _accept(room, user, model, dice)
        else:
            _fact(room, model, dice)
        funds = room.funds(user)
        assert funds["cash"] == f"{model.cash / 100:.2f}"
        held = sum(row.hold_amount for row in map(room.row, model.open) if row.side == "BUY")
        assert funds["blocked"] == f"{held / 100:.2f}"
    holdings = {item["tradingsymbol"]: item["quantity"] for item in room.get(user, "/holdings").json()["items"]}
    assert holdings == {symbol: units for symbol, units in model.units.items() if units}
    room.sound()


def _accept(room: Any, user: Any, model: Model, dice: random.Random) -> None:
    symbol, side, quantity = dice.choice(["INFY", "ITC"]), dice.choice(["BUY", "SELL"]), dice.randint(1, 20)
    answer = room.order(user, tradingsymbol=symbol, side=side, quantity=quantity)
    promised = sum(
        order["left"] for order in model.open.values() if (order["symbol"], order["side"]) == (symbol, "SELL")
    )
    if side == "SELL" and model.units.get(symbol, 0) - promised < quantity:
        assert answer.json()["code"] == "insufficient_shares"
        return
    if answer.status_code == 422:
        assert answer.json()["code"] == "insufficient_funds"
        return
    model.open[UUID(answer.json()["order_id"])] = {
        "symbol": symbol,
        "side": side,
        "left": quantity,
        "paid": 0,
        "got": 0,
    }


def _fact(room: Any, model: Model, dice: random.Random) -> None:
    order_id = dice.choice(list(model.open))
    order = model.open[order_id]
    if dice.random() < 0.3:
        room.tell(room.closed(order_id, dice.choice(["CANCELLED", "EXPIRED"]), order["got"], order["paid"]))
        del model.open[order_id]
        return
    quantity = dice.randint(1, order["left"])
    amount = quantity * room.market.shares["NSE", order["symbol"]] * dice.randint(98, 103) // 100
    charged_before = room.row(order_id).charges_paise
    room.tell(room.allocation(order_id, quantity, amount))
    charge = room.row(order_id).charges_paise - charged_before
    sign = 1 if order["side"] == "BUY" else -1
    model.cash -= sign * amount + charge
    model.units[order["symbol"]] = model.units.get(order["symbol"], 0) + sign * quantity
    order["left"] -= quantity
    order["got"] += quantity
    order["paid"] += amount
    if order["left"] == 0:
        del model.open[order_id]
