"""Orders: fields, states, and the one table of legal transitions (Kite docs, orders: order status)."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """States seen in the order book and in an order's history."""

    RECEIVED = "PUT ORDER REQ RECEIVED"
    VALIDATION_PENDING = "VALIDATION PENDING"
    OPEN_PENDING = "OPEN PENDING"
    AMO_RECEIVED = "AMO REQ RECEIVED"
    TRIGGER_PENDING = "TRIGGER PENDING"
    OPEN = "OPEN"
    MODIFY_VALIDATION_PENDING = "MODIFY VALIDATION PENDING"
    MODIFY_PENDING = "MODIFY PENDING"
    MODIFIED = "MODIFIED"
    CANCEL_PENDING = "CANCEL PENDING"
    COMPLETE = "COMPLETE"
    CANCELLED = "CANCELLED"
    CANCELLED_AMO = "CANCELLED AMO"
    REJECTED = "REJECTED"


TERMINAL = frozenset({Status.COMPLETE, Status.CANCELLED, Status.CANCELLED_AMO, Status.REJECTED})
RESTING = frozenset({Status.OPEN, Status.TRIGGER_PENDING, Status.AMO_RECEIVED})
ARRIVING = frozenset({Status.RECEIVED, Status.VALIDATION_PENDING, Status.OPEN_PENDING})

S = Status
TRANSITIONS: dict[Status, frozenset[Status]] = {
    S.RECEIVED: frozenset({S.VALIDATION_PENDING, S.AMO_RECEIVED, S.REJECTED}),
    S.AMO_RECEIVED: frozenset({S.VALIDATION_PENDING, S.MODIFY_VALIDATION_PENDING, S.CANCELLED_AMO, S.REJECTED}),
    S.VALIDATION_PENDING: frozenset({S.OPEN_PENDING, S.REJECTED}),
    S.OPEN_PENDING: frozenset({S.OPEN, S.TRIGGER_PENDING, S.REJECTED}),
    S.TRIGGER_PENDING: frozenset({S.OPEN, S.MODIFY_VALIDATION_PENDING, S.CANCEL_PENDING, S.CANCELLED}),
    S.OPEN: frozenset({S.OPEN, S.COMPLETE, S.MODIFY_VALIDATION_PENDING, S.CANCEL_PENDING, S.CANCELLED}),
    S.MODIFY_VALIDATION_PENDING: frozenset({S.MODIFY_PENDING}),
    S.MODIFY_PENDING: frozenset({S.MODIFIED, S.OPEN, S.TRIGGER_PENDING}),
    S.MODIFIED: frozenset({S.OPEN, S.TRIGGER_PENDING, S.AMO_RECEIVED}),
    S.CANCEL_PENDING: frozenset({S.CANCELLED, S.OPEN}),
    S.COMPLETE: frozenset(),
    S.CANCELLED: frozenset(),
    S.CANCELLED_AMO: frozenset(),
    S.REJECTED: frozenset(),
}


class IllegalTransition(Exception):
    """A state change the table does not hold: a defect of the engine, never of a client."""


@dataclass(slots=True)
class Trade:
    """One execution as it stands now; a correction changes it under the same id."""

    trade_id: str
    order_id: str
    quantity: int
    price_paise: int
    at_ist: str
    row: bytes


@dataclass(slots=True)
class Order:
    """One order of the account. Prices and values in paise, instants in UTC."""

    order_id: str
    variety: str
    exchange: str
    symbol: str
    token: int
    side: str
    order_type: str
    product: str
    validity: str
    validity_ttl: int
    quantity: int
    disclosed_quantity: int
    price_paise: int
    trigger_paise: int
    protection_bps: int
    tag: str | None
    tags: list[str]
    meta: dict[str, Any]
    parent_order_id: str | None
    placed_by: str
    guid: str
    ordinal: int
    shuffle_rank: int
    placed_at: datetime
    order_at: datetime
    status: Status = Status.RECEIVED
    status_message: str | None = None
    status_message_raw: str | None = None
    exchange_order_id: str | None = None
    exchange_at: datetime | None = None
    exchange_update_at: datetime | None = None
    filled_quantity: int = 0
    filled_value_paise: int = 0
    cancelled_quantity: int = 0
    modifications: int = 0
    blocked_paise: int = 0
    auction_number: str | None = None
    history: list[bytes] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    row: bytes | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """Key of the instrument."""
        return f"{self.exchange}:{self.symbol}"

    @property
    def is_terminal(self) -> bool:
        """No further change is possible."""
        return self.status in TERMINAL

    @property
    def pending_quantity(self) -> int:
        """Neither filled nor cancelled."""
        return self.quantity - self.filled_quantity - self.cancelled_quantity

    @property
    def exposed_quantity(self) -> int:
        """Pending here plus what further iceberg legs will bring."""
        iceberg = self.meta.get("iceberg")
        return self.pending_quantity + (iceberg["remaining_quantity"] if iceberg else 0)

    @property
    def is_buy(self) -> bool:
        """Side as a flag."""
        return self.side == "BUY"

    @property
    def needs_trigger(self) -> bool:
        """Waits for its trigger price first; a cover order's first leg does not, its second does."""
        return self.order_type in ("SL", "SL-M")

    @property
    def is_live(self) -> bool:
        """Stands in the exchange's book and could trade."""
        return self.status is Status.OPEN

    def move_to(self, status: Status) -> None:
        """Change the state; raises IllegalTransition for a pair the table does not hold."""
        if status not in TRANSITIONS[self.status]:
            raise IllegalTransition(f"{self.order_id}: {self.status} -> {status}")
        self.status = status
