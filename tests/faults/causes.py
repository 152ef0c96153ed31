"""Invariant 15 of execution.md 4.4, and what else only the simulator's facts can tell: whatever went to the house and
whatever was called a break has a cause outside ourselves.

The watch over given-up tags and the house account repair our own mistakes at the house's cost, so books that agree prove
too little: a refusal wrongly believed or a block settled too early ends as a ghost or as a late fill, and no user's book
shows it. The simulator's facts tell whether the broker gave cause.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from common.clock import IST
from tests.faults.invariants import Books
from trade_executor import breaks, house

QUARANTINE = timedelta(seconds=180)
"""An order that reaches the broker's book sooner than this after its claim must be found (execution.md 3.6)."""
OUR_FAULT = (
    breaks.OURS_UNKNOWN,
    breaks.MISALLOCATED,
    breaks.UNTOLD,
    breaks.LEDGER_MISMATCH,
    breaks.LATE_FILL,
    breaks.OVERFILLED,
    breaks.PARENT_MISMATCH,
    breaks.DUPLICATE_TAG,
    breaks.TAG_MISMATCH,
)
"""Kinds that no fault of the broker, the bus or a process can cause."""


def check(books: Books, facts: list[dict[str, Any]]) -> Iterator[str]:
    """All rules; they hold at every instant."""
    yield from _breaks_have_causes(books)
    yield from _ghosts_came_late(books, facts)
    yield from _house_fills_have_causes(books)
    yield from _fills_are_dated(books, facts)
    yield from _no_self_trades(books, facts)


def _breaks_have_causes(books: Books) -> Iterator[str]:
    yield from (
        f"15: {row.kind} {row.key}, and nobody but us can have caused it: {row.detail}"
        for row in books.rows(
            "trade_executor",
            "SELECT kind, key, detail FROM recon_break WHERE kind = ANY(:kinds)",
            kinds=list(OUR_FAULT),
        )
    )


def _ghosts_came_late(books: Books, facts: list[dict[str, Any]]) -> Iterator[str]:
    """An attempt was given up although the broker had its order in time to be seen."""
    arrived = {fact["order"]["tag"]: _instant(fact) for fact in facts if fact["kind"] == "order_received"}
    for row in books.rows(
        "trade_executor",
        "SELECT tag, state, sent_at, outcome_code FROM broker_order WHERE sent_at IS NOT NULL"
        " AND state IN ('REFUSED', 'LOST', 'GHOST', 'CLOSED')",
    ):
        came = arrived.get(row.tag)
        if came is not None and came - row.sent_at < QUARANTINE:
            late_s = (came - row.sent_at).total_seconds()
            yield f"15: attempt {row.tag} was given up ({row.outcome_code}), its order came {late_s:.0f} s after the claim"


def _house_fills_have_causes(books: Books) -> Iterator[str]:
    """The house takes ghosts' and strangers' trades; anything else it takes we have settled or counted wrongly."""
    yield from (
        f"15: the house got {row.quantity} {row.tradingsymbol} as {row.why}"
        for row in books.rows(
            "trade_executor",
            "SELECT quantity, tradingsymbol, why FROM house_fill WHERE why = ANY(:whys)",
            whys=[house.LATE, house.EXCESS, house.DUPLICATE],
        )
    )


def _fills_are_dated(books: Books, facts: list[dict[str, Any]]) -> Iterator[str]:
    """4, the date: a fill belongs to the exchange's day of its trade."""
    days = {
        (fact["order_id"], fact["trade_id"]): _instant(fact).astimezone(IST).date()
        for fact in facts
        if fact["kind"] == "trade"
    }
    for row in books.rows("trade_executor", "SELECT broker_order_id, broker_trade_id, trade_date FROM fill"):
        day = days.get((row.broker_order_id, row.broker_trade_id))
        if day is not None and day != row.trade_date:
            yield f"4: fill {row.broker_trade_id} is dated {row.trade_date}, the trade was on {day}"


def _no_self_trades(books: Books, facts: list[dict[str, Any]]) -> Iterator[str]:
    """11: the exchange had no self-trade to refuse, save with an order that somebody else placed or we had given up."""
    orders = {fact["order"]["order_id"]: fact["order"] for fact in facts if fact["kind"] == "order_received"}
    unsure = {
        row.tag
        for row in books.rows("trade_executor", "SELECT tag FROM broker_order WHERE state NOT IN ('ACKED', 'SETTLED')")
    }
    excused = {order["symbol"] for order in orders.values() if order["tag"] is None or order["tag"] in unsure}
    for fact in facts:
        if fact["kind"] == "self_trade_prevented" and orders[fact["order_id"]]["symbol"] not in excused:
            yield f"11: the exchange refused order {fact['order_id']}, which would have traded with another of ours"


def _instant(fact: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(fact["at"])
