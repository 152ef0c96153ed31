"""The books of all rooms after a run, read in plain SQL, and the wait until nothing moves in them any more."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import analytics_service.consumers
import notification_service.consumers
import portfolio_service.consumers
import smallcase_service.consumers
import trade_executor.consumers
from tests.chaos.platform import Platform
from tests.chaos.servers import query

Rows = list[dict[str, Any]]
PORTFOLIO, EXECUTOR, USER = "portfolio-service", "trade-executor", "user-service"
NOTIFICATION, ANALYTICS, SMALLCASE = "notification-service", "analytics-service", "smallcase-service"
CONSUMERS = {
    PORTFOLIO: portfolio_service.consumers.HANDLERS,
    EXECUTOR: trade_executor.consumers.HANDLERS,
    SMALLCASE: smallcase_service.consumers.HANDLERS,
    NOTIFICATION: notification_service.consumers.HANDLERS,
    ANALYTICS: analytics_service.consumers.HANDLERS,
}
PRODUCERS = (PORTFOLIO, EXECUTOR, USER, SMALLCASE)

_LIVE_ORDERS = "SELECT count(*) AS n FROM user_order WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL')"
_BUSY: dict[str, tuple[str, str]] = {
    "live user orders": (PORTFOLIO, _LIVE_ORDERS),
    "replacements waiting": (
        PORTFOLIO,
        "SELECT count(*) AS n FROM user_order WHERE replacement_state = 'WAITING'",
    ),
    "live orders in the executor": (
        EXECUTOR,
        "SELECT count(*) AS n FROM child_order WHERE state IN ('ACCEPTED', 'BATCHED', 'PARTIAL')",
    ),
    "live blocks": (EXECUTOR, "SELECT count(*) AS n FROM block WHERE state <> 'DONE'"),
    "undecided attempts": (
        EXECUTOR,
        "SELECT count(*) AS n FROM broker_order WHERE state NOT IN ('SETTLED', 'CLOSED', 'REFUSED', 'VOID', 'LOST')",
    ),
    **{f"unsent messages of {room}": (room, "SELECT count(*) AS n FROM outbox WHERE sent_at IS NULL") for room in PRODUCERS},
}  # fmt: skip


def live_orders(platform: Platform) -> int:
    """How many orders of users have not ended."""
    return int(_rows(platform, PORTFOLIO, _LIVE_ORDERS)[0]["n"])


def busy(platform: Platform) -> dict[str, int]:
    """What is still under way, by name; empty when the platform is quiet."""
    counts = {name: int(_rows(platform, room, statement)[0]["n"]) for name, (room, statement) in _BUSY.items()}
    counts |= {f"messages {room} has not handled": len(missed) for room, missed in unhandled(platform).items()}
    return {name: count for name, count in counts.items() if count}


def unhandled(platform: Platform) -> dict[str, Rows]:
    """Per consuming room: messages of its types in any outbox that are not in its inbox."""
    told = {room: _rows(platform, room, "SELECT message_id, type, aggregate_id FROM outbox") for room in PRODUCERS}
    missed: dict[str, Rows] = {}
    for consumer, handlers in CONSUMERS.items():
        known = {row["message_id"] for row in _rows(platform, consumer, "SELECT message_id FROM inbox")}
        types = {event.type_name() for event in handlers}
        missed[consumer] = [
            {"from": room, **row}
            for room, rows in told.items()
            for row in rows
            if row["type"] in types and row["message_id"] not in known
        ]
    return missed


def _rows(platform: Platform, room: str, statement: str) -> Rows:
    return query(platform.database(room), statement)


@dataclass(frozen=True)
class Books:
    """Everything the checker reads, as of one moment after the platform fell quiet."""

    orders: Rows
    keys: Rows
    given: Rows
    """portfolio-service's copy of the allocations."""
    accounts: Rows
    topups: Rows
    updates: Rows
    """Every OrderUpdated and CashMoved that portfolio-service told, with its payload."""
    children: Rows
    attempts: Rows
    blocks: Rows
    fills: Rows
    allocations: Rows
    breaks: Rows
    ledger_breaks: Rows
    notifications: Rows
    order_facts: Rows
    trades: Rows
    cash_flows: Rows
    unhandled: dict[str, Rows]

    @classmethod
    def read(cls, platform: Platform) -> "Books":
        """Read all tables."""

        def of(room: str) -> Callable[[str], Rows]:
            return lambda statement: _rows(platform, room, statement)

        portfolio, executor, told, counted = of(PORTFOLIO), of(EXECUTOR), of(NOTIFICATION), of(ANALYTICS)
        return cls(
            orders=portfolio("SELECT * FROM user_order"),
            keys=portfolio("SELECT owner_id, key, status, body FROM idempotency_key"),
            given=portfolio("SELECT * FROM order_allocation"),
            accounts=portfolio("SELECT * FROM account"),
            topups=portfolio("SELECT * FROM transfer WHERE cause LIKE 'topup:%%'"),
            updates=portfolio(
                "SELECT message_id, type, payload FROM outbox WHERE type IN ('OrderUpdated', 'CashMoved')"
            ),
            children=executor("SELECT * FROM child_order"),
            attempts=executor("SELECT * FROM broker_order"),
            blocks=executor("SELECT * FROM block"),
            fills=executor("SELECT * FROM fill"),
            allocations=executor("SELECT * FROM allocation"),
            breaks=executor("SELECT * FROM recon_break"),
            ledger_breaks=portfolio("SELECT * FROM ledger_break"),
            notifications=told("SELECT * FROM notification"),
            order_facts=counted("SELECT * FROM order_fact"),
            trades=counted("SELECT * FROM trade"),
            cash_flows=counted("SELECT * FROM cash_flow"),
            unhandled=unhandled(platform),
        )

    def units_held(self) -> Counter[str]:
        """Shares of users and of the house, by instrument."""
        units: Counter[str] = Counter()
        for row in self.accounts:
            if row["asset"] != "INR" and row["kind"] in ("shares", "intraday", "error"):
                units[row["asset"]] += row["posted"]
        return units
