"""The house account: trades of the broker account that belong to no user.

A trade lands here when its order was given up (a ghost), had been settled already, was placed by somebody else, or filled
more than its block asked for. It is kept in a journal and told to the ledger in the same transaction, so that the units of
users and house together stay what the broker holds (execution.md 4.4 item 10). Nothing here trades.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.clock import trading_date
from common.events import Event, HouseFilled
from common.logging import get_logger
from common.money import split_by_largest_remainder
from trade_executor.brokers.base import BookTrade
from trade_executor.config import SERVICE
from trade_executor.models import Block, BrokerOrder, Fill, HouseFill

log = get_logger(__name__)

NAMESPACE = UUID("3b6f0f6c-51a5-5d0b-8a39-6f5f1f0f9c41")
ROWS_PER_CALL = 1_000

GHOST = "ghost"
LATE = "late"
EXCESS = "excess"
FOREIGN = "foreign"
DUPLICATE = "duplicate"

_COPIED = (
    "account", "exchange", "tradingsymbol", "side", "trade_date", "broker_order_id", "broker_trade_id", "traded_at",
)  # fmt: skip


def house_fill_id(row: Mapping[str, Any]) -> UUID:
    """The name of a trade in the house's books, from everything that could be part of a trade's identity."""
    parts = (row["exchange"], row["trade_date"].isoformat(), row["broker_order_id"], row["broker_trade_id"])
    return uuid5(NAMESPACE, ":".join(parts))


def book_own(session: Session, account: str) -> int:
    """Book every fill of our orders that is the house's and not in its journal yet; answers how many."""
    journal = sa.select(HouseFill.house_fill_id).where(HouseFill.fill_id == Fill.fill_id)
    rows = session.execute(
        sa.select(Fill, BrokerOrder.state)
        .join(BrokerOrder, BrokerOrder.attempt_id == Fill.attempt_id)
        .where(Fill.account == account, Fill.booked_to == "house", ~journal.exists())
        .order_by(Fill.fill_id)
        .limit(ROWS_PER_CALL)
    ).all()
    return _book(
        session,
        [
            {
                **{name: getattr(fill, name) for name in _COPIED},
                "fill_id": fill.fill_id,
                "quantity": fill.quantity,
                "amount_paise": fill.amount_paise,
                "why": LATE if state == "SETTLED" else GHOST,
            }
            for fill, state in rows
        ],
    )


def book_strangers(session: Session, account: str, trades: Sequence[tuple[BookTrade, str]]) -> int:
    """Book trades of orders that are not our attempts, each with the reason; answers how many were new."""
    return _book(session, [{**stranger_values(account, trade), "why": why} for trade, why in trades])


def stranger_values(account: str, trade: BookTrade) -> dict[str, Any]:
    """A trade of the book as a row of the journal."""
    return {
        "account": account,
        "fill_id": None,
        "exchange": trade.exchange,
        "tradingsymbol": trade.tradingsymbol,
        "side": trade.side,
        "trade_date": trading_date(trade.traded_at),
        "broker_order_id": trade.broker_order_id,
        "broker_trade_id": trade.broker_trade_id,
        "quantity": trade.quantity,
        "amount_paise": trade.amount_paise,
        "traded_at": trade.traded_at,
    }


def book_excess(session: Session, block: Block, fills: Sequence[Fill], excess: int) -> dict[int, tuple[int, int]]:
    """Give the house what a locked block's unallocated fills have too much, newest first.

    Answers the shares and paise taken by fill. Raises ValueError when the fills do not hold that much.
    """
    taken: dict[int, tuple[int, int]] = {}
    rows = []
    for fill in reversed(fills):
        quantity = min(excess, fill.quantity)
        if quantity == 0:
            break
        amount, _ = split_by_largest_remainder(
            fill.amount_paise, [quantity, fill.quantity - quantity], ["house", "users"]
        )
        taken[fill.fill_id] = (quantity, amount)
        excess -= quantity
        rows.append(
            {
                **{name: getattr(fill, name) for name in _COPIED},
                "fill_id": fill.fill_id,
                "quantity": quantity,
                "amount_paise": amount,
                "why": EXCESS,
            }
        )
    if excess:
        raise ValueError(f"block {block.block_id} was filled {excess} shares beyond what its open fills hold")
    _book(session, rows)
    return taken


def _book(session: Session, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows that are not in the journal and tell the ledger of each."""
    if not rows:
        return 0
    named = {house_fill_id(row): row for row in rows}
    statement = insert(HouseFill).values([{"house_fill_id": key, **row} for key, row in named.items()])
    new = session.scalars(statement.on_conflict_do_nothing().returning(HouseFill.house_fill_id)).all()
    told: list[tuple[Event, object, str | None]] = []
    for key in new:
        row = named[key]
        event = HouseFilled.model_validate(
            {
                **row,
                "house_fill_id": key,
                "executed_at": row["traded_at"],
                "trading_date": row["trade_date"],
            }
        )
        told.append((event, key, None))
        log.error(
            "house.filled",
            house_fill_id=str(key),
            why=row["why"],
            side=row["side"],
            quantity=row["quantity"],
            tradingsymbol=row["tradingsymbol"],
            broker_order_id=row["broker_order_id"],
        )
    outbox.record_many(session, told, source=SERVICE)
    return len(new)
