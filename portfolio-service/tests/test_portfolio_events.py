"""Facts in any order and any number: the same end."""

import random
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from common.events import Event, UserRegistered
from portfolio_service import ledger, ledger_check, postings
from portfolio_service.ledger import Hold, Transfer, TransferKind

SEEDS = range(6)


def _state(room: Any) -> dict[str, Any]:
    """Everything that must not depend on the path: balances, orders, lots, disposals."""
    with room.db.session() as session:
        return {
            "accounts": session.execute(
                text("SELECT owner, kind, asset, posted, held FROM account ORDER BY 1, 2, 3")
            ).all(),
            "orders": session.execute(
                text(
                    "SELECT order_id, state, filled_quantity, amount_paise, charges_paise, hold_amount"
                    " FROM user_order ORDER BY 1"
                )
            ).all(),
            "lots": session.execute(
                text(
                    "SELECT lot_id, quantity, cost_paise, remaining_quantity, remaining_cost_paise FROM tax_lot ORDER BY 1"
                )
            ).all(),
            "sold": session.execute(
                text("SELECT lot_id, sum(quantity), sum(cost_paise) FROM lot_disposal GROUP BY 1 ORDER BY 1")
            ).all(),
        }


def _facts(room: Any, order_id: UUID, parts: list[int], prices: list[int], outcome: str) -> list[Event]:
    fills = [room.allocation(order_id, part, part * price) for part, price in zip(parts, prices, strict=True)]
    amount = sum(part * price for part, price in zip(parts, prices, strict=True))
    return [room.working(order_id), *fills, room.closed(order_id, outcome, sum(parts), amount)]


def test_repeated_and_shuffled_facts_lead_to_the_same_end(room: Any) -> None:
    """The same facts are told in order once, then to a copy of the same orders shuffled, repeated, some at a time."""
    ends = []
    facts: list[Event] = []
    for seed in [None, *SEEDS]:
        user = room.customer()
        room.give(user, "400000")
        held = room.accepted(user, quantity=20, tradingsymbol="ITC")
        room.tell(room.allocation(held, 10, 10 * 39_950))
        room.clock.advance(1)  # so that the two lots have an order
        room.tell(room.allocation(held, 10, 10 * 40_013))
        orders = {
            "buy": room.accepted(user, quantity=30),
            "cut": room.accepted(user, quantity=10, tradingsymbol="TCS"),
            "sell": room.accepted(user, quantity=17, tradingsymbol="ITC", side="SELL"),
            "gone": room.accepted(user, quantity=3),
        }
        facts = [
            *_facts(room, orders["buy"], [7, 11, 12], [149_995, 150_005, 151_000], "FILLED"),
            *_facts(room, orders["cut"], [1, 3], [300_100, 299_900], "CANCELLED"),
            *_facts(room, orders["sell"], [3, 5, 9], [40_000, 40_005, 39_995], "FILLED"),
            *_facts(room, orders["gone"], [], [], "EXPIRED"),
        ]
        if seed is not None:
            dice = random.Random(seed)  # noqa: S311
            facts = [fact for fact in facts for _ in range(dice.randint(1, 3))]
            dice.shuffle(facts)
        for start in range(0, len(facts), together := 1 if seed is None else 1 + 5 * seed):
            room.tell_together(facts[start : start + together])
        room.sound()
        # Orders have ids of their own, so the end is compared by role.
        rows = {name: room.row(order_id) for name, order_id in orders.items()}
        ends.append(
            {
                "orders": {
                    name: (row.state, row.filled_quantity, row.amount_paise, row.charges_paise, row.hold_amount)
                    for name, row in rows.items()
                },
                "funds": {key: value for key, value in room.funds(user).items() if key != "portfolio_id"},
                "holdings": [
                    (item["tradingsymbol"], item["quantity"], item["invested"])
                    for item in room.get(user, "/holdings").json()["items"]
                ],
            }
        )
    for end in ends:
        assert end == ends[0]
    assert ends[0]["orders"]["cut"][:2] == ("CANCELLED", 4)
    assert room.count("ledger_break") == 0


def test_the_same_message_twice_changes_nothing(room: Any) -> None:
    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user, quantity=5)
    message_id = uuid4()
    fact = room.allocation(order_id, 2, 300_000)
    assert room.tell(fact, message_id)
    before = _state(room)
    assert not room.tell(fact, message_id)
    assert _state(room) == before


def test_allocations_of_many_orders_in_parallel_do_not_deadlock(room: Any) -> None:
    users = [room.customer() for _ in range(5)]
    facts = []
    for user in users:
        room.give(user, "300000")
        for symbol in ("INFY", "TCS", "ITC"):
            order_id = room.accepted(user, quantity=12, tradingsymbol=symbol)
            facts += [room.allocation(order_id, 3, 3 * room.market.shares["NSE", symbol]) for _ in range(4)]
    random.Random(7).shuffle(facts)  # noqa: S311
    assert all(room.at_once(len(facts), lambda index: room.tell(facts[index]), threads=12))
    for user in users:
        assert {item["status"] for item in room.get(user, "/orders").json()["items"]} == {"FILLED"}
    room.sound()


def test_a_sale_in_the_same_batch_takes_from_what_the_batch_has_bought(room: Any) -> None:
    user = room.customer()
    room.give(user, "100000")
    old = room.accepted(user, quantity=4)
    room.tell(room.allocation(old, 4, 600_000))
    sale = room.accepted(user, quantity=4, side="SELL")
    more = room.accepted(user, quantity=3)
    room.clock.advance(1)
    bought, sold = room.allocation(more, 3, 450_300), room.allocation(sale, 3, 451_000)
    rest = room.allocation(sale, 1, 150_000)
    assert room.tell_together([bought, sold, rest, sold]) == 4
    with room.db.session() as session:
        lots = session.execute(
            text("SELECT remaining_quantity, remaining_cost_paise FROM tax_lot ORDER BY acquired_at")
        )
        assert lots.all() == [(0, 0), (3, 450_300)]
    assert (room.row(sale).state, room.row(more).state) == ("FILLED", "FILLED")
    room.sound()


def test_what_belongs_to_nobody_goes_to_the_house_and_spoils_nothing_beside_it(room: Any) -> None:
    users = [room.customer() for _ in range(3)]
    for user in users:
        room.give(user, "20000")
    orders = [room.accepted(user, quantity=5) for user in users]
    much, fine, gone = (room.allocation(order_id, 5, 750_000) for order_id in orders)
    much = much.model_copy(update={"quantity": 7, "amount_paise": 1_050_000})
    unknown = fine.model_copy(update={"order_id": uuid4(), "allocation_id": uuid4()})
    late = room.closed(orders[2], "CANCELLED", 0, 0)
    changed = fine.model_copy(update={"amount_paise": 750_001})
    assert room.tell(late)
    assert room.tell_together([much, fine, unknown, gone, changed]) == 5
    assert [room.row(order_id).filled_quantity for order_id in orders] == [5, 5, 0]
    with room.db.session() as session:
        kinds = session.scalars(text("SELECT kind FROM ledger_break ORDER BY kind")).all()
        house = session.execute(
            text("SELECT asset, posted FROM account WHERE kind = 'error' AND posted <> 0 ORDER BY asset")
        ).all()
    assert kinds == [
        "allocation_after_close", "allocation_beyond_quantity", "allocation_changed", "allocation_unknown_order",
    ]  # fmt: skip
    assert house == [("INR", -(300_000 + 750_000 + 750_000)), ("NSE:INFY", 2 + 5 + 5)]
    room.sound()


def test_statements_of_a_batch_do_not_grow_with_it(room: Any) -> None:
    """50 fills of 50 users cost as many statements as 5."""
    costs = []
    for size in (5, 50):
        users = [room.customer() for _ in range(size)]
        for user in users:
            room.give(user, "20000")
        orders = [room.accepted(user, quantity=5) for user in users]
        facts: list[Event] = [room.working(order_id) for order_id in orders]
        facts += [room.allocation(order_id, part, part * 150_000) for order_id in orders for part in (2, 3)]
        facts += [room.closed(order_id, "FILLED", 5, 750_000) for order_id in orders]
        statements: list[str] = []

        def count(_c: Any, _k: Any, statement: str, *_: Any, told: list[str] = statements) -> None:
            told.append(statement)

        sa.event.listen(room.db.engine, "before_cursor_execute", count)
        assert room.tell_together(facts) == 4 * size
        sa.event.remove(room.db.engine, "before_cursor_execute", count)
        costs.append(len(statements))
    assert costs[0] == costs[1]
    room.sound()


def test_registered_user_gets_a_default_portfolio_once(room: Any) -> None:
    user = room.customer()
    event = UserRegistered(user_id=user.user_id, email="a@example.com", full_name="A")
    assert room.tell(event)
    assert room.tell(event)
    assert room.count("portfolio") == 1
    assert room.get(user, "/portfolios").json()[0]["is_default"] is True


@pytest.mark.parametrize("statement", ["UPDATE transfer SET amount = amount + 1", "DELETE FROM transfer"])
def test_ledger_rows_can_not_be_changed(room: Any, statement: str) -> None:
    user = room.customer()
    room.give(user, "100")
    with pytest.raises(IntegrityError, match="insert-only"), room.db.transaction() as session:
        session.execute(text(statement))
    room.sound()


def test_the_owner_of_the_ledger_has_no_privilege_to_change_it(room: Any) -> None:
    with room.db.session() as session:
        acl = session.execute(text("SELECT relacl::text FROM pg_class WHERE relname = 'transfer'")).scalar_one()
    # letters of an ACL: a insert, r select; w (update) and d (delete) must be absent
    rights = acl.strip("{}").split(",")[0].split("=")[1].split("/")[0]
    assert "a" in rights
    assert not set("wd") & set(rights)


def test_a_hold_is_resolved_at_most_once(room: Any) -> None:

    user = room.customer()
    room.give(user, "20000")
    order_id = room.accepted(user)
    order = room.row(order_id)
    account = ledger.cash_account(order.portfolio_id)
    hold = Hold(order.hold_transfer_id, order.hold_amount)
    void = ledger.release(order_id, account, hold)
    again = Transfer(
        cause="test:second",
        debit=account,
        credit=void.credit,
        amount=1,
        kind=TransferKind.POST,
        pending_id=hold.transfer_id,
        released=hold.amount,
    )

    def resolve_twice() -> None:
        with room.db.transaction() as session:
            postings.open_accounts(session, [account, void.credit])
            postings.post(session, [void], room.clock.now())
            postings.post(session, [again], room.clock.now())

    with pytest.raises(IntegrityError, match="uq_transfer_resolved_once"):
        resolve_twice()
    room.sound()


def test_the_database_itself_refuses_a_negative_user_balance(room: Any) -> None:

    user = room.customer()
    room.give(user, "100")
    portfolio_id = UUID(room.funds(user)["portfolio_id"])
    theft = Transfer("test:theft", ledger.cash_account(portfolio_id), ledger.bank_account(), 10_001)

    def steal() -> None:
        with room.db.transaction() as session:
            postings.open_accounts(session, [theft.debit, theft.credit])
            postings.post(session, [theft], room.clock.now())

    with pytest.raises(IntegrityError, match="ck_account_not_negative"):
        steal()
    room.sound()


def test_ledger_check_finds_planted_faults(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 5, 150_000)
    room.accepted(user)
    faults = {
        "asset_sums_to_zero": "UPDATE account SET posted = posted + 1 WHERE kind = 'charges'",
        "balance_is_replay": "UPDATE account SET held = held + 1 WHERE kind = 'cash'",
        "hold_has_live_order": "UPDATE user_order SET state = 'CANCELLED' WHERE state = 'ACCEPTED'",
        "shares_equal_lots": "UPDATE tax_lot SET remaining_quantity = remaining_quantity - 1",
        "orders_equal_allocations": "UPDATE order_allocation SET amount_paise = amount_paise + 1",
    }
    for rule, fault in faults.items():
        with room.db.session() as session:
            session.execute(text(fault))
            report = ledger_check.check(session)
            session.rollback()
        assert not report.ok
        assert report.problems[rule], rule
    room.sound()
