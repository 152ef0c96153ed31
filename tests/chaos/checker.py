"""The verdict over a run: users' records, the books of all rooms and the exchange's truth, compared without mercy.

Every function compares two independent sources and answers what it found, one line each; nothing found is an empty
list. Invariants after execution.md 4.4.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from common.events import CashMoved, OrderUpdated
from common.money import parse_rupees
from notification_service import facts as told_facts
from portfolio_service import ledger_check
from tests.chaos.books import Books
from tests.chaos.load import Asked
from tests.chaos.operators import OUR_FAULT
from tests.chaos.truth import Truth
from trade_executor import breaks

TERMINAL = frozenset({"FILLED", "CANCELLED", "REJECTED", "EXPIRED", "FAILED"})
NEVER_AT_BROKER = frozenset({"INTENT", "VOID"})
GIVEN_UP = frozenset({"REFUSED", "VOID", "LOST"})
POSITIONS_DIFFER = frozenset({breaks.DAY_NET, breaks.UNITS, breaks.CASH})
ENDED = frozenset({"SETTLED", "CLOSED", "REFUSED", "VOID", "LOST"})


@dataclass(frozen=True)
class Evidence:
    """All that the checks read."""

    asks: list[Asked]
    books: Books
    truth: Truth
    ledger: ledger_check.LedgerReport
    halts: list[tuple[float, float]]


Check = Callable[[Evidence], list[str]]


def accepted_orders_exist_once(evidence: Evidence) -> list[str]:
    """1, 2: an answered acceptance is exactly that order; one key is at most one request; nothing appears from nowhere."""
    found = []
    by_key: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in evidence.books.orders:
        by_key[str(row["user_id"]), row["idempotency_ref"]].append(row)
    for ask in evidence.asks:
        if ask.kind == "topup":
            continue
        rows = by_key.pop((ask.user_id, ask.key), [])
        ids = sorted(str(row["order_id"]) for row in rows)
        if ask.status == 202 and ids != sorted(ask.order_ids):
            found.append(f"key {ask.key}: answered {ask.order_ids}, in the book {ids}")
        if ask.status is not None and ask.status >= 400 and ask.sent == 1 and ids:
            found.append(f"key {ask.key}: refused with {ask.status} {ask.answer}, yet {ids} exist")
        if len({row["submission_id"] for row in rows}) > 1:
            found.append(f"key {ask.key}: more than one submission: {ids}")
        most = len(ask.body["orders"]) if ask.kind == "batch" else 1
        if len(ids) > most:
            found.append(f"key {ask.key}: {len(ids)} orders from a request for {most}")
    for (_, key), rows in by_key.items():
        if not key.startswith("replace:") or len(rows) > 1:
            found.append(f"nobody asked for {[str(row['order_id']) for row in rows]} (key {key})")
    return found


def answers_never_contradict(evidence: Evidence) -> list[str]:
    """2: the same key always gets the same answer."""
    return [f"key {ask.key}: {line}" for ask in evidence.asks for line in ask.contradictions]


def topups_are_booked_once(evidence: Evidence) -> list[str]:
    """2: an answered top-up is one transfer of that amount; an unanswered one is one or none."""
    found = []
    booked = {row["cause"]: row["amount"] for row in evidence.books.topups}
    for ask in evidence.asks:
        if ask.kind != "topup":
            continue
        amount = booked.pop(f"topup:{ask.user_id}:{ask.key}", None)
        wanted = parse_rupees(ask.body["amount"])
        if ask.status is not None and ask.status < 300 and amount != wanted:
            found.append(f"top-up {ask.key} was answered {ask.status} for {wanted} paise, booked is {amount}")
        elif amount is not None and amount != wanted:
            found.append(f"top-up {ask.key} asked for {wanted} paise, booked are {amount}")
    return found + [f"nobody asked for the transfer {cause}" for cause in booked]


def every_order_has_ended(evidence: Evidence) -> list[str]:
    """1: no accepted order is lost on the way: all are terminal in both rooms, with the same end."""
    found = []
    children = {row["order_id"]: row for row in evidence.books.children}
    for order in evidence.books.orders:
        child = children.pop(order["order_id"], None)
        if order["state"] not in TERMINAL:
            found.append(f"order {order['order_id']} is {order['state']}; the executor has it {_state(child)}")
        elif child is None:
            found.append(f"order {order['order_id']} is {order['state']} and the executor never heard of it")
        else:
            ours = order["state"], order["filled_quantity"], order["amount_paise"]
            theirs = child["state"], child["filled_quantity"], child["amount_paise"]
            if ours != theirs:
                found.append(f"order {order['order_id']}: portfolio-service has {ours}, trade-executor {theirs}")
    return found + [f"the executor trades an order nobody accepted: {order_id}" for order_id in children]


def _state(child: dict[str, Any] | None) -> str:
    return "not at all" if child is None else f"{child['state']} ({child['reason_code']}, block {child['block_id']})"


def attempts_match_the_exchange(evidence: Evidence) -> list[str]:
    """3: at the exchange is what was sent, each tag once; nothing given up is there unless as a known ghost."""
    found = []
    by_tag: dict[str, list[Any]] = defaultdict(list)
    attempts = {row["tag"]: row for row in evidence.books.attempts}
    marks = {tag[:2] for tag in attempts}
    for order in evidence.truth.orders.values():
        if order.tag in attempts or (order.tag and len(order.tag) == 19 and order.tag[:2] in marks):
            by_tag[str(order.tag)].append(order)
    for tag, orders in by_tag.items():
        attempt = attempts.get(tag)
        if len(orders) > 1:
            found.append(f"tag {tag} was sent {len(orders)} times: {[order.order_id for order in orders]}")
        if attempt is None:
            found.append(f"the exchange has {orders[0]} with a tag of ours that no attempt has")
        elif attempt["sent_at"] is None or attempt["state"] in NEVER_AT_BROKER:
            found.append(f"attempt {tag} is {attempt['state']}, never sent, and yet at the exchange: {orders[0]}")
        elif attempt["state"] in GIVEN_UP:
            found.append(f"attempt {tag} is {attempt['state']} and yet at the exchange: {orders[0]}")
        elif (attempt["broker_order_id"], attempt["quantity"]) != (orders[0].order_id, orders[0].quantity):
            found.append(f"attempt {tag} is {attempt['broker_order_id']} for {attempt['quantity']}, truth: {orders[0]}")
    for tag, attempt in attempts.items():
        if attempt["broker_order_id"] is not None and tag not in by_tag:
            found.append(f"attempt {tag} names {attempt['broker_order_id']}, which the exchange never had")
        if attempt["state"] not in ENDED:
            found.append(f"attempt {tag} is still {attempt['state']}")
    return found


def fills_are_the_exchanges_trades(evidence: Evidence) -> list[str]:
    """4: our fills are the trades of our orders, each once, share and paisa."""
    found = []
    ours = {row["broker_order_id"] for row in evidence.books.attempts if row["broker_order_id"]}
    true = {trade.trade_id: trade for trade in evidence.truth.trades.values() if trade.order_id in ours}
    booked = Counter(row["broker_trade_id"] for row in evidence.books.fills)
    found += [f"trade {trade_id} is booked {count} times" for trade_id, count in booked.items() if count > 1]
    for row in evidence.books.fills:
        trade = true.pop(row["broker_trade_id"], None)
        if trade is None:
            if booked[row["broker_trade_id"]] == 1:
                found.append(f"fill {row['broker_trade_id']} of {row['broker_order_id']} never happened")
            continue
        versions = {(trade.quantity, trade.quantity * trade.price_paise)}
        if trade.was is not None:
            versions.add((trade.was[0], trade.was[0] * trade.was[1]))
        if (row["quantity"], row["amount_paise"]) not in versions or row["broker_order_id"] != trade.order_id:
            found.append(f"fill {row['broker_trade_id']}: {row['quantity']} for {row['amount_paise']}, truth: {trade}")
    return found + [f"a trade of ours is in no book: {trade}" for trade in true.values()]


def fills_are_given_out_exactly(evidence: Evidence) -> list[str]:
    """5: per block and round, what was filled was allocated, share and paisa; per order what was allocated is kept."""
    rounds: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    orders: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    found = []
    for row in evidence.books.fills:
        if row["booked_to"] == "block":
            if row["round_no"] is None:
                found.append(f"fill {row['broker_trade_id']} of block {row['block_id']} was never given out")
            entry = rounds[row["block_id"], row["round_no"]]
            entry[0] += row["quantity"]
            entry[1] += row["amount_paise"]
    for row in evidence.books.allocations:
        entry = rounds[row["block_id"], row["round_no"]]
        entry[2] += row["quantity"]
        entry[3] += row["amount_paise"]
        orders[row["order_id"]][0] += row["quantity"]
        orders[row["order_id"]][1] += row["amount_paise"]
    found += [
        f"block {block} round {number}: filled {entry[:2]}, given out {entry[2:]} (shares, paise)"
        for (block, number), entry in rounds.items()
        if entry[:2] != entry[2:]
    ]
    for child in evidence.books.children:
        kept = [child["filled_quantity"], child["amount_paise"]]
        if kept != orders[child["order_id"]]:
            found.append(f"order {child['order_id']} has {kept}, its allocations are {orders[child['order_id']]}")
    filled: Counter[Any] = Counter()
    for row in evidence.books.fills:
        filled[row["block_id"]] += row["quantity"] if row["booked_to"] == "block" else 0
    found += [
        f"block {row['block_id']} of {row['quantity']} shares was filled {filled[row['block_id']]}"
        for row in evidence.books.blocks
        if filled[row["block_id"]] > row["quantity"]
    ]
    return found


def the_ledger_has_every_allocation(evidence: Evidence) -> list[str]:
    """5, 13: portfolio-service has booked each allocation once, as it was told, to its user and not to the house."""
    told = {row["allocation_id"]: row for row in evidence.books.allocations}
    found = []
    for row in evidence.books.given:
        source = told.pop(row["allocation_id"], None)
        if source is None:
            found.append(f"portfolio-service booked {row['allocation_id']}, which the executor does not have")
        elif any(source[name] != row[name] for name in ("order_id", "quantity", "amount_paise")):
            found.append(f"allocation {row['allocation_id']}: told {_money(source)}, booked {_money(row)}")
        if row["house_quantity"]:
            found.append(
                f"allocation {row['allocation_id']}: {row['house_quantity']} shares of a user went to the house"
            )
    return found + [f"allocation {key} of order {row['order_id']} was never booked" for key, row in told.items()]


def _money(row: dict[str, Any]) -> str:
    return f"{row['quantity']} for {row['amount_paise']} of order {row['order_id']}"


def the_ledger_holds(evidence: Evidence) -> list[str]:
    """7, 8, 9: sums are zero, balances are the replay, nobody is negative, no hold is left over."""
    found = [f"{rule}: {row}" for rule, rows in evidence.ledger.problems.items() for row in rows]
    found += [f"money or shares are still held: {row}" for row in evidence.books.accounts if row["held"]]
    return found + [f"ledger break: {row}" for row in evidence.books.ledger_breaks if row["closed_at"] is None]


def units_are_what_the_exchange_delivered(evidence: Evidence) -> list[str]:
    """10: users' and house's units together are the net of all trades of the account."""
    held, true = evidence.books.units_held(), evidence.truth.net_units()
    for trade in evidence.truth.trades.values():
        # The exchange took a trade back in part: a person books the difference (execution.md 3.10, B5).
        if trade.was is not None:
            order = evidence.truth.orders[trade.order_id]
            version = _booked_quantity(evidence, trade.trade_id)
            difference = version - trade.quantity if version is not None else 0
            true[f"{order.exchange}:{order.symbol}"] += difference if order.side == "BUY" else -difference
    return [
        f"{asset}: users and house have {held[asset]}, the exchange delivered {true[asset]}"
        for asset in sorted(set(held) | set(true))
        if held[asset] != true[asset]
    ]


def _booked_quantity(evidence: Evidence, trade_id: str) -> int | None:
    return next((row["quantity"] for row in evidence.books.fills if row["broker_trade_id"] == trade_id), None)


def no_self_trade(evidence: Evidence) -> list[str]:
    """11: two orders of ours never met at the exchange. A ghost or a stranger in the same share may have met one."""
    orders = evidence.truth.orders
    ours = {row["broker_order_id"] for row in evidence.books.attempts if row["state"] not in ("GHOST", "CLOSED")}
    excused = {(order.exchange, order.symbol) for order in orders.values() if order.order_id not in ours}
    return [
        f"self-trade prevented: {orders[fact['order_id']]}"
        for fact in evidence.truth.self_trades
        if fact["order_id"] in ours
        and (orders[fact["order_id"]].exchange, orders[fact["order_id"]].symbol) not in excused
    ]


def copies_are_equal(evidence: Evidence) -> list[str]:
    """13: every message was handled, and what notification and analytics have is what portfolio-service said."""
    found = [f"{room} has not handled {row}" for room, rows in evidence.books.unhandled.items() for row in rows]
    facts = {row["order_id"]: row for row in evidence.books.order_facts}
    updates = [OrderUpdated.model_validate(row["payload"]) for row in evidence.books.updates if _is(row, OrderUpdated)]
    flows = [CashMoved.model_validate(row["payload"]) for row in evidence.books.updates if _is(row, CashMoved)]
    last: dict[Any, OrderUpdated] = {}
    for update in sorted(updates, key=lambda one: one.order_version):
        last[update.order_id] = update
    for order_id, update in last.items():
        fact = facts.pop(order_id, None)
        names = ("status", "order_version", "filled_quantity", "amount_paise", "charges_paise")
        if fact is None or any(fact[name] != getattr(update, name) for name in names):
            found.append(f"analytics has {fact}, told was {update}")
    found += [f"analytics has an order nobody told: {order_id}" for order_id in facts]
    found += _sums_of_trades(evidence)
    found += _differences("cash flow", (flow.transfer_id for flow in flows), evidence.books.cash_flows, "transfer_id")
    due = [told_facts.order_fact(update) for update in updates] + [told_facts.cash_fact(flow) for flow in flows]
    causes = {fact.cause for fact in due if fact is not None}
    told = [row for row in evidence.books.notifications if row["cause"].startswith(("order:", "cash:"))]
    return found + _differences("notification", causes, told, "cause")


def _is(row: dict[str, Any], event: type) -> bool:
    return bool(row["type"] == event.__name__)


def _sums_of_trades(evidence: Evidence) -> list[str]:
    sums: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in evidence.books.trades:
        for index, name in enumerate(("quantity", "amount_paise", "charges_paise")):
            sums[row["order_id"]][index] += row[name]
    return [
        f"analytics sums order {order['order_id']} to {sums[order['order_id']]}, it is {kept}"
        for order in evidence.books.orders
        if (kept := [order["filled_quantity"], order["amount_paise"], order["charges_paise"]])
        != sums[order["order_id"]]
    ]


def _differences(what: str, wanted: Iterable[Any], rows: list[dict[str, Any]], name: str) -> list[str]:
    expected, have = Counter(wanted), Counter(row[name] for row in rows)
    return [
        f"{what} {key}: expected {expected[key]}, found {have[key]}"
        for key in set(expected) | set(have)
        if expected[key] != have[key]
    ]


def nothing_is_sent_while_halted(evidence: Evidence) -> list[str]:
    """14: between the answer to a halt and the resume nothing is claimed for sending."""
    return [
        f"attempt {row['tag']} was sent at {row['sent_at']}, {row['sent_at'].timestamp() - since:.2f} s into a halt"
        for row in evidence.books.attempts
        for since, until in evidence.halts
        if row["sent_at"] is not None and since < row["sent_at"].timestamp() < until
    ]


def breaks_have_causes(evidence: Evidence) -> list[str]:
    """15, 16: no break that nothing injected; a ghost was noticed; ghosts touch no user."""
    books = evidence.books
    found = [_words(row) for row in books.breaks if row["kind"] in OUR_FAULT]
    corrected = {trade.trade_id for trade in evidence.truth.trades.values() if trade.was is not None}
    ours = {row["broker_order_id"] for row in books.attempts}
    if not corrected and all(order_id in ours for order_id in evidence.truth.orders):
        # Neither a changed trade nor a stranger's: then positions and money had no reason to differ.
        found += [f"false alarm: {_words(row)}" for row in books.breaks if row["kind"] in POSITIONS_DIFFER]
    ghosts = {row["attempt_id"] for row in books.attempts if row["state"] in ("GHOST", "CLOSED")}
    found += [
        f"a fill of a ghost went to a user: {row['broker_trade_id']}"
        for row in books.fills
        if row["attempt_id"] in ghosts and row["booked_to"] != "house"
    ]
    noticed = {row["key"] for row in books.breaks if row["kind"] == breaks.GHOST_ORDER}
    return found + [
        f"ghost {row['tag']} opened no break"
        for row in books.attempts
        if row["attempt_id"] in ghosts and row["tag"] not in noticed
    ]


def _words(row: dict[str, Any]) -> str:
    return f"break {row['kind']} {row['key']}: {row['detail']}"


CHECKS: dict[str, Check] = {
    "orders accepted exist exactly once": accepted_orders_exist_once,
    "one key, one answer": answers_never_contradict,
    "top-ups are booked once": topups_are_booked_once,
    "every order has ended, equally in both rooms": every_order_has_ended,
    "attempts are the exchange's orders": attempts_match_the_exchange,
    "fills are the exchange's trades": fills_are_the_exchanges_trades,
    "fills are given out to the paisa": fills_are_given_out_exactly,
    "the ledger has every allocation": the_ledger_has_every_allocation,
    "the ledger holds": the_ledger_holds,
    "units are what the exchange delivered": units_are_what_the_exchange_delivered,
    "no self-trade": no_self_trade,
    "copies of other rooms are equal": copies_are_equal,
    "nothing is sent while halted": nothing_is_sent_while_halted,
    "breaks have causes": breaks_have_causes,
}


def verdict(evidence: Evidence) -> dict[str, list[str]]:
    """Every check with what it found."""
    return {name: check(evidence) for name, check in CHECKS.items()}
