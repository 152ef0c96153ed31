"""Reconciliation runs at a real database: what they find, what they leave alone, what they cure."""

import threading
from collections import Counter
from decimal import Decimal

import pytest

from common.errors import Unavailable
from trade_executor import breaks, control, reconciler
from trade_executor.brokers.base import BrokerUnavailable, PlaceRequest
from trade_executor.models import JobRun, ReconBreak, ReconRun, ReconSuspect
from trade_executor.reconciling import LedgerAsset
from trade_executor.testing import ACCOUNT, make_room, second_desk


class Ledger:
    """portfolio-service as far as it has heard: it books what the executor has told, except the latest `lag` facts."""

    def __init__(self, room):
        self.room, self.lag, self.fails = room, 0, False
        self.more = {}

    def totals(self):
        if self.fails:
            raise Unavailable("no answer")
        facts = [event for event in self.room.events() if event["type"] in ("OrderAllocated", "HouseFilled")]
        books = {}
        for event in facts[: len(facts) - self.lag]:
            key, bought = f"{event['exchange']}:{event['tradingsymbol']}", event["side"] == "BUY"
            owner = 0 if event["type"] == "OrderAllocated" else 1
            units, paise = event["quantity"], event["amount_paise"]
            for asset, amount, came in ((key, units, bought), ("INR", paise, not bought)):
                row = books.setdefault(asset, [0, 0, 0, 0])
                row[owner] += amount if came else -amount
                row[3 if came else 2] += amount
        for asset, changes in self.more.items():
            row = books.setdefault(asset, [0, 0, 0, 0])
            books[asset] = [a + b for a, b in zip(row, changes, strict=True)]
        return {asset: LedgerAsset(*row) for asset, row in books.items()}


@pytest.fixture
def room(db):
    """A room in which every instrument is still as soon as nothing of it is at the broker."""
    return make_room(db, recon_quiet_seconds=0, break_after_seconds=60)


@pytest.fixture
def ledger(room):
    return Ledger(room)


def trade(room, quantity=10, filled=None, **changes):
    order_id = room.accept(quantity=quantity, **changes)
    room.pump()
    room.broker.fill(room.broker.id_of(), quantity if filled is None else filled)
    room.observe()
    return order_id


def run(room, scope="full", ledger=None):
    return reconciler.reconcile(room.desk, ACCOUNT, scope, ledger)


def kinds(room):
    return Counter(row.kind for row in room.rows(ReconBreak) if row.closed_at is None)


def state(room):
    with room.db.session() as session:
        return control.allowance(session, ACCOUNT).trading_state


def let_pass(room, seconds=61):
    room.run("UPDATE recon_suspect SET since = since - make_interval(secs => :s)", s=seconds)


def test_healthy_books_open_nothing_and_every_run_is_a_row(room, ledger):
    trade(room, 10)
    trade(room, 5, side="SELL", price_paise=101_00)
    trade(room, 7, tradingsymbol="TCS", filled=3)
    room.broker.give("999", PlaceRequest("x", "BSE", "SBIN", "BUY", 4, "CNC", "LIMIT", price=Decimal(100)))
    room.broker.fill("999", 4, Decimal("12.35"))
    room.observe()
    assert kinds(room) == {"foreign_order": 1}
    for scope in ("quick", "full", "full"):
        outcome = run(room, scope, ledger)
        assert (outcome.good, outcome.opened, outcome.cured) == (True, 0, 0), kinds(room)
    rows = sorted(room.rows(ReconRun), key=lambda row: row.started_at)
    assert [(row.scope, row.good, row.opened) for row in rows] == [
        ("quick", True, 0), ("full", True, 0), ("full", True, 0),
    ]  # fmt: skip
    assert rows[-1].counts["trades"] == 4
    assert rows[-1].finished_at >= rows[-1].started_at
    assert room.rows(ReconSuspect) == []


TOLD_TWICE = """
INSERT INTO outbox (message_id, aggregate_id, type, version, source, payload, occurred_at, recorded_at)
SELECT gen_random_uuid(), aggregate_id, type, version, source, payload, occurred_at, recorded_at
  FROM outbox WHERE type = 'OrderAllocated'
"""
CORRUPTIONS = [
    ("UPDATE allocation SET quantity = quantity + 1", "misallocated"),
    ("UPDATE allocation SET amount_paise = amount_paise + 1", "misallocated"),
    ("UPDATE fill SET amount_paise = amount_paise - 1", "misallocated"),
    ("UPDATE fill SET round_no = 7", "misallocated"),
    ("UPDATE block_child SET allocated_quantity = allocated_quantity - 1", "misallocated"),
    ("UPDATE child_order SET amount_paise = amount_paise + 1", "misallocated"),
    ("DELETE FROM allocation", "misallocated"),
    ("DELETE FROM outbox WHERE type = 'OrderAllocated'", "untold"),
    ("UPDATE outbox SET payload = payload || '{\"quantity\": 9}' WHERE type = 'OrderAllocated'", "untold"),
    ("UPDATE outbox SET payload = payload || '{\"amount_paise\": 1}' WHERE type = 'OrderAllocated'", "untold"),
    (TOLD_TWICE, "untold"),
    ("UPDATE block SET quantity = quantity + 1", "parent_mismatch"),
    ("UPDATE broker_order SET quantity = quantity + 1", "parent_mismatch"),
]


@pytest.mark.parametrize(("corruption", "kind"), CORRUPTIONS)
def test_our_own_books_that_disagree_halt_the_account(room, corruption, kind):
    trade(room)
    room.run(corruption)
    run(room, "quick")
    assert kind in kinds(room)
    assert state(room) == "HALTED"
    before = len(room.rows(ReconBreak))
    run(room, "quick")
    assert len(room.rows(ReconBreak)) == before


def test_a_broker_that_says_more_was_filled_than_ordered_halts(room):
    trade(room, filled=3)
    room.run("UPDATE broker_order SET filled_quantity = quantity + 1")
    run(room, "quick")
    assert kinds(room) == {"overfilled": 1}
    assert state(room) == "HALTED"


def test_a_house_fill_without_its_message_halts(room):
    room.broker.give("999", PlaceRequest("x", "NSE", "SBIN", "BUY", 4, "CNC", "LIMIT", price=Decimal(100)))
    room.broker.fill("999", 4)
    room.observe()
    room.run("DELETE FROM outbox WHERE type = 'HouseFilled'")
    run(room, "quick")
    assert kinds(room)["untold"] == 1
    assert state(room) == "HALTED"


def test_what_a_person_has_looked_at_is_not_opened_again(room):
    trade(room)
    room.run("UPDATE fill SET amount_paise = amount_paise - 1")
    run(room, "quick")
    for row in room.rows(ReconBreak):
        with room.db.transaction() as session:
            breaks.close(session, row.break_id, actor="ops", reason="known")
    assert run(room, "quick").opened == 0


# --- B7 -----------------------------------------------------------------------------------------------------------


def test_a_position_that_no_fill_explains_freezes_the_instrument_until_it_is_explained(room):
    trade(room)
    room.broker.positions_off["NSE", "INFY"] = 3
    assert run(room).opened == 1
    [found] = [row for row in room.rows(ReconBreak) if row.closed_at is None]
    assert (found.kind, found.key, found.severity, found.freezes) == ("day_net_mismatch", "NSE:INFY", 2, ["NSE:INFY"])
    assert state(room) == "ACTIVE"
    waiting = room.accept()
    assert room.pump() == 0
    room.broker.positions_off.clear()
    outcome = run(room)
    assert (outcome.opened, outcome.cured, kinds(room)) == (0, 1, {})
    assert room.pump() == 1
    assert room.child(waiting).state == "BATCHED"


def test_closing_the_break_lifts_the_freeze_and_the_same_difference_is_not_told_again(room):
    room.broker.positions_off["NSE", "INFY"] = 3
    run(room)
    [found] = room.rows(ReconBreak)
    with room.db.transaction() as session:
        breaks.close(session, found.break_id, actor="ops", reason="bought by hand yesterday")
    assert run(room).opened == 0
    room.accept()
    assert room.pump() == 1
    room.broker.fill(room.broker.id_of(), 10)
    room.observe()
    room.broker.positions_off["NSE", "INFY"] = 4
    assert run(room).opened == 1, "another difference is another break"


def test_a_difference_while_something_works_waits_until_it_has_stayed_the_same(db):
    room = make_room(db, recon_quiet_seconds=10, break_after_seconds=60)
    room.accept(quantity=10)
    room.pump()
    room.broker.positions_off["NSE", "INFY"] = 3
    run(room)
    assert (kinds(room), [row.difference for row in room.rows(ReconSuspect)]) == ({}, ["3/0"])
    let_pass(room, 59)
    room.broker.positions_off["NSE", "INFY"] = 4
    run(room)
    let_pass(room, 59)
    run(room)
    assert kinds(room) == {}, "the difference was another one a moment ago"
    let_pass(room, 2)
    run(room)
    assert kinds(room) == {"day_net_mismatch": 1}


def test_positions_that_run_ahead_of_the_trades_are_no_break(room):
    room.accept(quantity=10)
    room.pump()
    room.broker.fill(room.broker.id_of(), 10)
    held_back = room.broker.executions.pop()
    room.broker.positions_off["NSE", "INFY"] = 10
    for _ in range(3):
        run(room)
        let_pass(room, 100)
    assert kinds(room)["day_net_mismatch"] == 0
    room.broker.executions.append(held_back)
    room.broker.positions_off.clear()
    run(room)
    assert kinds(room)["day_net_mismatch"] == 0


# --- B8, B9, the ledger -------------------------------------------------------------------------------------------


def test_units_that_nobody_owns_freeze_the_share_on_both_exchanges(room, ledger):
    trade(room)
    room.broker.delivered["INFY"] = 5
    assert run(room, ledger=ledger).opened == 1
    [found] = room.rows(ReconBreak)
    assert (found.kind, found.key, found.freezes) == ("units_mismatch", "INEINFY", ["BSE:INFY", "NSE:INFY"])
    ledger.more["NSE:INFY"] = (0, 5, 0, 0)
    assert run(room, ledger=ledger).cured == 1


def test_messages_on_their_way_are_no_difference_of_units(room, ledger):
    trade(room)
    ledger.lag = 1
    run(room, ledger=ledger)
    let_pass(room, 30)
    run(room, ledger=ledger)
    assert kinds(room) == {}
    ledger.lag = 0
    assert (run(room, ledger=ledger).opened, kinds(room), room.rows(ReconSuspect)) == (0, {}, [])


def test_a_ledger_that_stays_behind_is_told_and_cured(room, ledger):
    trade(room)
    ledger.lag = 1
    run(room, ledger=ledger)
    let_pass(room)
    run(room, ledger=ledger)
    assert kinds(room) == {"ledger_behind": 2}
    assert state(room) == "ACTIVE"
    ledger.lag = 0
    assert run(room, ledger=ledger).cured == 2


def test_a_ledger_that_booked_what_was_never_told_halts(room, ledger):
    trade(room)
    ledger.more["NSE:INFY"] = (1, 0, 0, 1)
    run(room, ledger=ledger)
    assert kinds(room)["ledger_mismatch"] == 1
    assert state(room) == "HALTED"


def test_money_that_trades_do_not_explain_is_told(room, ledger):
    trade(room)
    run(room, ledger=ledger)
    [start] = room.rows(JobRun)
    assert (start.job, start.result) == (
        "cash_start", {"broker_paise": 100_00_000_00 - 1_000_00, "ledger_paise": -1_000_00},
    )  # fmt: skip
    trade(room, 4, tradingsymbol="TCS")
    trade(room, 4, side="SELL", price_paise=101_00, tradingsymbol="SBIN")
    room.broker.payin_paise = 5_000_00
    room.broker.cash_off_paise = 100
    assert (run(room, ledger=ledger).opened, kinds(room)) == (0, {}), "within the tolerance of a rupee"
    room.broker.cash_off_paise = 101
    run(room, ledger=ledger)
    [found] = room.rows(ReconBreak)
    assert (found.kind, found.severity, found.freezes) == ("cash_mismatch", 2, [])
    room.broker.cash_off_paise = 0
    assert run(room, ledger=ledger).cured == 1


def test_cash_is_not_judged_while_an_order_blocks_money_or_before_the_day(room, ledger):
    run(room, ledger=ledger)
    room.broker.cash_off_paise = -500_00
    room.accept()
    room.pump()
    run(room, ledger=ledger)
    assert kinds(room) == {}
    room.broker.end(room.broker.id_of())
    room.observe()
    room.market.is_open = False
    run(room, ledger=ledger)
    assert kinds(room) == {}
    room.market.is_open = True
    run(room, ledger=ledger)
    assert kinds(room) == {"cash_mismatch": 1}


# --- runs that prove nothing --------------------------------------------------------------------------------------


def blind_orders(room, ledger):
    room.broker.readable = False


def blind_rest(room, ledger):
    def unreadable():
        raise BrokerUnavailable("HTTP 502")

    room.broker.holdings = unreadable


def no_session(room, ledger):
    room.access.session_id = None


def silent_ledger(room, ledger):
    ledger.fails = True


@pytest.mark.parametrize("fault", [blind_orders, blind_rest, no_session, silent_ledger])
def test_a_run_that_could_not_read_everything_opens_and_cures_nothing(room, ledger, fault):
    trade(room)
    room.broker.positions_off["NSE", "TCS"] = 1
    run(room, ledger=ledger)
    # B7 alone: in the units' books the same surplus is a break of its own.
    before = kinds(room)
    assert before["day_net_mismatch"] == 1
    room.broker.positions_off["NSE", "TCS"] = 0
    room.broker.positions_off["NSE", "SBIN"] = 1
    fault(room, ledger)
    outcome = run(room, ledger=ledger)
    assert (outcome.good, outcome.opened, outcome.cured, kinds(room)) == (False, 0, 0, before)
    assert outcome.detail
    assert [row.good for row in sorted(room.rows(ReconRun), key=lambda row: row.started_at)] == [True, False]


def test_our_own_books_are_checked_even_when_the_broker_cannot_be_read(room, ledger):
    trade(room)
    room.run("UPDATE fill SET amount_paise = amount_paise - 1")
    room.broker.readable = False
    assert run(room, ledger=ledger).opened >= 1
    assert state(room) == "HALTED"


# --- when ---------------------------------------------------------------------------------------------------------


def due(room):
    return reconciler.due(room.desk, ACCOUNT)


def test_a_full_run_is_due_at_the_start_and_every_few_minutes_a_quick_one_while_something_works(db):
    room = make_room(db, recon_quick_seconds=3, recon_full_seconds=300, recon_retry_seconds=30)
    assert due(room) == "full"
    run(room)
    assert (due(room), due(second_desk(room))) == (None, None)

    def later(seconds):
        room.run("UPDATE recon_run SET started_at = started_at - make_interval(secs => :s)", s=seconds)

    later(4)
    assert due(room) is None, "nothing is under way"
    room.accept()
    room.pump()
    assert due(room) == "quick"
    run(room, "quick")
    assert due(room) is None
    later(300)
    assert due(room) == "full"
    room.broker.readable = False
    run(room)
    assert due(room) != "full", "the next try waits"
    later(30)
    assert due(room) == "full"


def test_a_login_makes_a_full_run_due(db):
    room = make_room(db, recon_retry_seconds=0.001)
    run(room)
    assert due(room) is None
    room.run(
        "INSERT INTO broker_account (account, broker, api_key, api_secret_sealed) VALUES ('pool', 'kite', 'k', 's')"
    )
    room.run(
        "INSERT INTO broker_session (session_id, account, trading_date, access_token_sealed, broker_user_id, started_by,"
        " expires_at) VALUES (gen_random_uuid(), 'pool', current_date, 't', 'u', 'ops', now() + interval '1 hour')"
    )
    assert due(room) == "full"
    run(room)
    assert due(room) is None


def test_a_loop_that_starts_compares_everything_unless_it_was_just_done(db):
    room = make_room(db, recon_retry_seconds=30)
    for _ in range(2):
        reconciler.at_start(room.desk, ACCOUNT, None)
    assert [row.scope for row in room.rows(ReconRun)] == ["full"]
    room.run("UPDATE recon_run SET started_at = started_at - interval '31 seconds'")
    reconciler.at_start(second_desk(room).desk, ACCOUNT, None)
    assert len(room.rows(ReconRun)) == 2


def test_a_read_that_is_turned_down_once_is_made_again(room):
    answers = iter([BrokerUnavailable("HTTP 429"), BrokerUnavailable("HTTP 429")])
    read = room.broker.positions

    def sometimes():
        for error in answers:
            raise error
        return read()

    room.broker.positions = sometimes
    assert run(room).good


def test_the_loop_reconciles(room):
    trade(room)
    room.step()
    room.step()
    assert {row.scope for row in room.rows(ReconRun)} >= {"start_of_day"}
    assert kinds(room) == {}


def test_two_reconcilers_at_once_open_each_break_once(room, ledger):
    trade(room)
    room.broker.positions_off["NSE", "TCS"] = 1
    room.run("UPDATE fill SET amount_paise = amount_paise - 1")
    start = threading.Barrier(4)

    def work(desk):
        start.wait()
        for scope in ("full", "quick", "full"):
            reconciler.reconcile(desk.desk, ACCOUNT, scope, None)

    threads = [threading.Thread(target=work, args=(second_desk(room),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert kinds(room) == {"misallocated": 1, "day_net_mismatch": 1}
    assert len(room.events(type_name="BreakOpened")) == 2
    assert state(room) == "HALTED"
