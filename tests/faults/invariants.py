"""The sixteen invariants of execution.md 4.4, read from four databases and from what the simulator knows to be true.

`check(run, quiet=True)` after everything has come to rest asks for equality everywhere; in the middle of a run only what
must hold at every instant is asked. Each violation is one line that names its number.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import text

from common.db import Database
from portfolio_service import ledger_check
from trade_executor import states, tags
from trade_executor.batching import LiveBlock, can_cross

VIOLATIONS_SHOWN_MAX = 40
SENDS_PER_SECOND = 10
TERMINAL = ("FILLED", "CANCELLED", "REJECTED", "EXPIRED", "FAILED")


@dataclass
class Truth:
    """What the simulator did: orders and trades by id, as they were first."""

    orders: dict[str, Mapping[str, Any]]
    trades: dict[tuple[str, str], tuple[int, int]]
    """(order id, trade id) -> (shares, price in paise)."""

    @classmethod
    def of(cls, facts: list[dict[str, Any]]) -> "Truth":
        """From the facts of an engine or of its truth log."""
        orders, trades = {}, {}
        for fact in facts:
            if fact["kind"] == "order_received":
                orders[fact["order"]["order_id"]] = fact["order"]
            elif fact["kind"] == "trade":
                trades[fact["order_id"], fact["trade_id"]] = (fact["quantity"], fact["price_paise"])
        return cls(orders, trades)


@dataclass
class Books:
    """The rows of all rooms at one time of rest."""

    databases: Mapping[str, Database]
    truth: Truth
    tag_key: bytes
    opening_units: Mapping[str, int]

    def rows(self, package: str, statement: str, **values: Any) -> list[Any]:
        """Rows of one room."""
        with self.databases[package].session() as session:
            return list(session.execute(text(statement), values).all())

    def ours(self) -> dict[str, Mapping[str, Any]]:
        """Simulator orders that carry one of our tags, by order id."""
        return {
            order_id: order
            for order_id, order in self.truth.orders.items()
            if order["tag"] and tags.parse(order["tag"], self.tag_key) is not None
        }


def check(
    books: Books, *, requests: list[Any] = (), halts: list[tuple[datetime, datetime]] = (), quiet: bool
) -> list[str]:  # type: ignore[assignment]
    """All violations, at most VIOLATIONS_SHOWN_MAX."""
    found: list[str] = []
    for rule in _ALWAYS + (_AT_REST if quiet else ()):
        for line in rule(books):
            found.append(line)
            if len(found) >= VIOLATIONS_SHOWN_MAX:
                return found
    if quiet:
        found.extend(_one_order_per_key(books, requests))
    found.extend(_no_send_while_halted(books, halts))
    return found


# --- at every instant -----------------------------------------------------------------------------------------------


def _sent_at_most_once(books: Books) -> Iterator[str]:
    """3: one simulator order per tag, each of an attempt that was sent; a block never has more at the broker than it asked for."""
    attempts = {
        row.tag: row
        for row in books.rows("trade_executor", "SELECT tag, block_id, quantity, state, sent_at FROM broker_order")
    }
    blocks = dict(tuple(row) for row in books.rows("trade_executor", "SELECT block_id, quantity FROM block"))
    seen: Counter[str] = Counter()
    standing: Counter[Any] = Counter()
    for order_id, order in books.ours().items():
        tag = order["tag"]
        seen[tag] += 1
        attempt = attempts.get(tag)
        if attempt is None:
            yield f"3: order {order_id} carries our tag {tag}, which no attempt has"
            continue
        if attempt.sent_at is None:
            yield f"3: order {order_id} is at the broker, attempt {tag} was never claimed"
        if attempt.quantity != order["quantity"]:
            yield f"3: order {order_id} is {order['quantity']}, attempt {tag} {attempt.quantity}"
        if attempt.state not in ("GHOST", "CLOSED", *states.ATTEMPT_GIVEN_UP):
            standing[attempt.block_id] += order["quantity"]
    yield from (f"3: tag {tag} is at the broker {count} times" for tag, count in seen.items() if count > 1)
    yield from (
        f"3: block {block_id} of {blocks[block_id]} has {quantity} at the broker"
        for block_id, quantity in standing.items()
        if quantity > blocks[block_id]
    )


def _fills_are_real(books: Books) -> Iterator[str]:
    """4, one way: each fill of ours is a trade of the simulator, with its shares and price."""
    for row in books.rows(
        "trade_executor", "SELECT broker_order_id, broker_trade_id, quantity, amount_paise FROM fill"
    ):
        trade = books.truth.trades.get((row.broker_order_id, row.broker_trade_id))
        if trade is None:
            yield f"4: fill {row.broker_order_id}/{row.broker_trade_id} never happened"
        elif (row.quantity, row.amount_paise) != (trade[0], trade[0] * trade[1]):
            yield f"4: fill {row.broker_trade_id} is {tuple(row)}, the trade was {trade}"


def _fills_equal_allocations(books: Books) -> Iterator[str]:
    """5: per block and round, shares and paise handed out are those that were filled."""
    yield from (
        f"5: block {row.block_id} round {row.round_no}: filled {row.filled} for {row.paid}, allocated {row.given} for {row.cost}"
        for row in books.rows(
            "trade_executor",
            """
            WITH f AS (SELECT block_id, round_no, sum(quantity) filled, sum(amount_paise) paid FROM fill
                       WHERE round_no IS NOT NULL GROUP BY 1, 2),
                 a AS (SELECT block_id, round_no, sum(quantity) given, sum(amount_paise) cost FROM allocation GROUP BY 1, 2)
            SELECT coalesce(f.block_id, a.block_id) block_id, coalesce(f.round_no, a.round_no) round_no, filled, paid, given, cost
            FROM f FULL JOIN a ON a.block_id = f.block_id AND a.round_no = f.round_no
            WHERE filled IS DISTINCT FROM given OR paid IS DISTINCT FROM cost
            """,
        )
    )


def _children_add_up(books: Books) -> Iterator[str]:
    """5, per order: what it has is what it was given; a block is made of its orders' shares."""
    yield from (
        f"5: order {row.order_id} has {row.filled_quantity} for {row.amount_paise}, was given {row.given} for {row.cost}"
        for row in books.rows(
            "trade_executor",
            """
            SELECT c.order_id, c.filled_quantity, c.amount_paise, coalesce(a.given, 0) given, coalesce(a.cost, 0) cost
            FROM child_order c LEFT JOIN
                (SELECT order_id, sum(quantity) given, sum(amount_paise) cost FROM allocation GROUP BY 1) a USING (order_id)
            WHERE c.filled_quantity <> coalesce(a.given, 0) OR c.amount_paise <> coalesce(a.cost, 0)
            """,
        )
    )
    yield from (
        f"5: block {row.block_id} of {row.quantity} is made of {row.children}"
        for row in books.rows(
            "trade_executor",
            """
            SELECT b.block_id, b.quantity, sum(c.quantity) children FROM block b JOIN block_child c USING (block_id)
            GROUP BY 1, 2 HAVING sum(c.quantity) <> b.quantity
            """,
        )
    )


def _ledger_holds(books: Books) -> Iterator[str]:
    """7, 8, 9: sums are zero, balances are replays, nobody is negative, holds belong to live orders and end once."""
    with books.databases["portfolio_service"].transaction() as session:
        report = ledger_check.check(session)
    numbers = {"asset_sums_to_zero": 7, "balance_is_replay": 7, "user_not_negative": 8, "hold_has_live_order": 8}
    for rule, problems in report.problems.items():
        yield from (f"{numbers.get(rule, 5)}: ledger {rule}: {problem}" for problem in problems)
    yield from (
        f"9: hold {row.pending_id} was resolved {row.n} times"
        for row in books.rows(
            "portfolio_service",
            "SELECT pending_id, count(*) n FROM transfer WHERE kind IN ('post', 'void') GROUP BY 1 HAVING count(*) > 1",
        )
    )


def _no_opposite_blocks(books: Books) -> Iterator[str]:
    """11: two live blocks that could trade with each other never exist."""
    live = [
        LiveBlock(*row)
        for row in books.rows(
            "trade_executor",
            "SELECT block_id, exchange, tradingsymbol, side, price_paise FROM block WHERE state <> 'DONE'",
        )
    ]
    yield from (
        f"11: blocks {one.block_id} and {other.block_id} of {one.tradingsymbol} could trade with each other"
        for number, one in enumerate(live)
        for other in live[number + 1 :]
        if can_cross(one, other)
    )


def _rate_is_kept(books: Books) -> Iterator[str]:
    """14: no second holds more claims than the broker allows requests (what the network does to their spacing is not ours)."""
    rows = books.rows(
        "trade_executor",
        "SELECT sent_at FROM broker_order WHERE sent_at IS NOT NULL UNION ALL"
        " SELECT cancel_sent_at FROM broker_order WHERE cancel_sent_at IS NOT NULL ORDER BY 1",
    )
    instants = [row[0] for row in rows]
    for first, last in zip(instants, instants[SENDS_PER_SECOND:], strict=False):
        if (last - first).total_seconds() < 1.0:
            yield f"14: {SENDS_PER_SECOND + 1} claims between {first} and {last}"


def _ghosts_stay_with_the_house(books: Books) -> Iterator[str]:
    """16: shares of an attempt that was given up are the house's, and no round used them."""
    yield from (
        f"16: fill {row.broker_trade_id} of {row.state} attempt {row.tag} went to {row.booked_to}, round {row.round_no}"
        for row in books.rows(
            "trade_executor",
            """
            SELECT f.broker_trade_id, b.state, b.tag, f.booked_to, f.round_no FROM fill f JOIN broker_order b USING (attempt_id)
            WHERE (b.state IN ('GHOST', 'CLOSED') AND f.booked_to <> 'house') OR (f.booked_to = 'house' AND f.round_no IS NOT NULL)
            """,
        )
    )


# --- at rest --------------------------------------------------------------------------------------------------------


def _everything_ended(books: Books) -> Iterator[str]:
    """1, 12: every accepted order has come to one end, the same in both rooms, with the same shares and paise."""
    users = {
        row.order_id: row
        for row in books.rows(
            "portfolio_service", "SELECT order_id, state, filled_quantity, amount_paise, quantity FROM user_order"
        )
    }
    children = {
        row.order_id: row
        for row in books.rows(
            "trade_executor", "SELECT order_id, state, filled_quantity, amount_paise, quantity FROM child_order"
        )
    }
    for order_id, order in users.items():
        child = children.get(order_id)
        if order.state not in TERMINAL:
            yield f"1: order {order_id} is still {order.state} (executor: {child and child.state})"
        elif child is None:
            yield f"1: order {order_id} ended {order.state} without the executor"
        elif tuple(order) != tuple(child):
            yield f"1: order {order_id} is {tuple(order)[1:]} here and {tuple(child)[1:]} at the executor"
    yield from (
        f"1: the executor has order {order_id}, which nobody accepted" for order_id in children.keys() - users.keys()
    )
    yield from (
        f"12: {row.kind} {row.id} is left {row.state}"
        for row in books.rows(
            "trade_executor",
            """
            SELECT 'block' kind, block_id::text id, state FROM block WHERE state <> 'DONE'
            UNION ALL SELECT 'attempt', tag, state FROM broker_order
                WHERE state NOT IN ('SETTLED', 'REFUSED', 'VOID', 'LOST', 'CLOSED')
            """,
        )
    )


def _no_fill_was_missed(books: Books) -> Iterator[str]:
    """4, the other way: each trade of an order of ours is a fill, once."""
    known = {
        (row.broker_order_id, row.broker_trade_id)
        for row in books.rows("trade_executor", "SELECT broker_order_id, broker_trade_id FROM fill")
    }
    ours = books.ours()
    yield from (f"4: trade {key} was missed" for key in books.truth.trades if key[0] in ours and key not in known)


def _fair_shares(books: Books) -> Iterator[str]:
    """6: nobody is a share or more away from the exact part, nor more than a paisa from the round's average price."""
    filled = defaultdict(int)
    for row in books.rows("trade_executor", "SELECT block_id, sum(quantity) n FROM allocation GROUP BY 1"):
        filled[row.block_id] = int(row.n)
    rows = books.rows(
        "trade_executor",
        "SELECT c.block_id, c.order_id, c.quantity, c.allocated_quantity, b.quantity AS total FROM block_child c JOIN block b USING (block_id)",
    )
    for row in rows:
        exact = Fraction(filled[row.block_id] * row.quantity, row.total)
        if abs(row.allocated_quantity - exact) >= 1:
            yield f"6: order {row.order_id} got {row.allocated_quantity} of block {row.block_id}, exactly {float(exact):.3f}"
    yield from (
        f"6: order {row.order_id} paid {row.amount_paise} for {row.quantity} in a round at {row.cost} for {row.units}"
        for row in books.rows(
            "trade_executor",
            """
            SELECT a.order_id, a.quantity, a.amount_paise, r.units, r.cost FROM allocation a
            JOIN (SELECT block_id, round_no, sum(quantity) units, sum(amount_paise) cost FROM allocation GROUP BY 1, 2) r
              USING (block_id, round_no)
            WHERE abs(a.amount_paise - a.quantity * r.cost / r.units) > 1
            """,
        )
    )


def _units_match_the_broker(books: Books) -> Iterator[str]:
    """10: what users and the house have is what the broker's books have, share by share."""
    ledger = Counter(
        {
            row.asset: int(row.units)
            for row in books.rows(
                "portfolio_service",
                "SELECT asset, sum(posted) units FROM account WHERE asset <> 'INR' AND kind <> 'clearing' GROUP BY 1",
            )
        }
    )
    broker: Counter[str] = Counter(books.opening_units)
    for (order_id, _), (quantity, _price) in books.truth.trades.items():
        order = books.truth.orders[order_id]
        broker[f"{order['exchange']}:{order['symbol']}"] += quantity if order["side"] == "BUY" else -quantity
    for asset in sorted(set(ledger) | set(broker)):
        if ledger[asset] != broker[asset]:
            yield f"10: {asset}: {ledger[asset]} in the ledger, {broker[asset]} at the broker"


def _copies_are_equal(books: Books) -> Iterator[str]:
    """13: what other rooms were told is what is true; each fact was told to the user once."""
    source = {
        tuple(row)
        for row in books.rows(
            "portfolio_service",
            "SELECT order_id, state, filled_quantity, amount_paise, charges_paise FROM user_order WHERE version > 1",
        )
    }
    copy = {
        tuple(row)
        for row in books.rows(
            "analytics_service", "SELECT order_id, status, filled_quantity, amount_paise, charges_paise FROM order_fact"
        )
    }
    yield from (f"13: analytics does not have {row}" for row in sorted(source - copy, key=str))
    yield from (f"13: analytics has {row}, which is not true" for row in sorted(copy - source, key=str))
    booked = {
        row[0]: tuple(row[1:])
        for row in books.rows(
            "analytics_service",
            "SELECT order_id, sum(quantity), sum(amount_paise), sum(charges_paise) FROM trade GROUP BY 1",
        )
    }
    for order_id, _, filled, amount, charges in sorted(source, key=str):
        if filled and booked.get(order_id) != (filled, amount, charges):
            yield f"13: analytics booked {booked.get(order_id)} for {order_id}, which had {(filled, amount, charges)}"
    told = {
        row[0]
        for row in books.rows(
            "notification_service", "SELECT DISTINCT subject->>'order_id' FROM notification WHERE subject ? 'order_id'"
        )
    }
    yield from (
        f"13: nobody was told of order {order_id}"
        for order_id, _, filled, _, _ in sorted(source, key=str)
        if filled and str(order_id) not in told
    )


def _one_order_per_key(books: Books, requests: list[Any]) -> Iterator[str]:
    """2: what a client was answered is what exists under its key, no more and no less."""
    kept: dict[tuple[Any, str], set[Any]] = defaultdict(set)
    for row in books.rows(
        "portfolio_service", "SELECT user_id, idempotency_ref, order_id FROM user_order WHERE replaces IS NULL"
    ):
        kept[row.user_id, row.idempotency_ref].add(row.order_id)
    for request in requests:
        answered = set(request.order_ids or ())
        if kept.pop((request.user_id, request.key), set()) != answered:
            yield f"2: request {request.key} was answered with {len(answered)} orders, others exist"
    yield from (f"2: orders under key {key[1]}, which no client sent" for key in kept)


def _no_send_while_halted(books: Books, halts: list[tuple[datetime, datetime]]) -> Iterator[str]:
    """14: once a halt has been answered no claim commits."""
    for halted, resumed in halts:
        late = books.rows(
            "trade_executor", "SELECT tag, sent_at FROM broker_order WHERE sent_at > :halted AND sent_at < :resumed",
            halted=halted, resumed=resumed,
        )  # fmt: skip
        yield from (f"14: attempt {row.tag} was claimed at {row.sent_at}, halted since {halted}" for row in late)


_ALWAYS = (
    _sent_at_most_once,
    _fills_are_real,
    _fills_equal_allocations,
    _children_add_up,
    _ledger_holds,
    _no_opposite_blocks,
    _rate_is_kept,
    _ghosts_stay_with_the_house,
)
_AT_REST = (_everything_ended, _no_fill_was_missed, _fair_shares, _units_match_the_broker, _copies_are_equal)
