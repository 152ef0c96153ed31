"""What the executor asks of a broker, in the executor's own words.

Answers to writes are values, never exceptions, because each of them is a fact the order's state machine must record:
a refusal is not an unknown, and an unknown is never sent again (execution design 3.5, kite-connect.md section 14).
Reads raise, because a read that failed says nothing and is simply made again later.

Money crosses this boundary as `Decimal` rupees per share (prices) or as integer paise (funds); times are aware UTC.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Protocol

from common.money import round_paise

TAG_LENGTH_MAX: Final = 20
"""A longer tag is refused by the broker, not cut (staff, 2026)."""

_TAG = re.compile(r"[A-Za-z0-9]{1,20}\Z")
_PRICED = ("LIMIT", "SL")
_TRIGGERED = ("SL", "SL-M")
_PROTECTED = ("MARKET", "SL-M")
PROTECTION_AUTOMATIC: Final = Decimal(-1)

REGULAR = "regular"
"""The variety of every order the executor sends. A released after-market order is also cancelled as `regular`."""


@dataclass(frozen=True, slots=True)
class PlaceRequest:
    """One order to be sent exactly once.

    `tag` is the attempt's own (trade_executor.tags); `price` and `trigger_price` are rupees, None where the order type
    has none; `ttl_minutes` goes with validity TTL; `market_protection` is a percentage above 0 up to 100, or -1 for the
    broker's automatic value, and is mandatory for MARKET and SL-M (exchange rule since 1 April 2026).

    A request that could not be sent can not be built: ValueError here, before any attempt exists.
    """

    tag: str
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int
    product: str
    order_type: str
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: str = "DAY"
    ttl_minutes: int | None = None
    market_protection: Decimal | None = None

    def __post_init__(self) -> None:
        if not _TAG.match(self.tag):
            raise ValueError(f"a tag has 1 to {TAG_LENGTH_MAX} letters and digits: {self.tag!r}")
        if self.side not in ("BUY", "SELL") or self.order_type not in ("MARKET", "LIMIT", "SL", "SL-M"):
            raise ValueError(f"no such order: {self.side} {self.order_type}")
        if self.quantity <= 0:
            raise ValueError("the quantity must be positive")
        _check_amount("price", self.price, needed=self.order_type in _PRICED)
        _check_amount("trigger_price", self.trigger_price, needed=self.order_type in _TRIGGERED)
        if self.market_protection != PROTECTION_AUTOMATIC or self.order_type not in _PROTECTED:
            _check_amount("market_protection", self.market_protection, needed=self.order_type in _PROTECTED)
        if (self.validity == "TTL") != (self.ttl_minutes is not None):
            raise ValueError("ttl_minutes goes with validity TTL and with no other")


def _check_amount(name: str, value: Decimal | None, *, needed: bool) -> None:
    if (value is not None) != needed:
        raise ValueError(f"{name} is {'missing' if needed else 'not meant for this order type'}")
    if value is not None and not (isinstance(value, Decimal) and value.is_finite() and value > 0):
        raise ValueError(f"{name} must be a positive Decimal: {value!r}")


@dataclass(frozen=True, slots=True)
class Acked:
    """The broker has taken the order and named it; whether it lives is told by the order book."""

    broker_order_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Certain: the order does not exist at the broker and will not.

    `code` is stable (see trade_executor.outcome), `message` is the broker's own text. `retryable`: the same intent may
    be tried again as a new attempt with a new tag. `halts`: no order will pass until somebody acts (session, address,
    permission), so the account must stop sending.
    """

    code: str
    message: str
    retryable: bool = False
    halts: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The order may or may not exist. Only the order book, searched by tag, may decide; never send again."""

    reason: str


Outcome = Acked | Refused | Unknown


@dataclass(frozen=True, slots=True)
class CancelSent:
    """The broker took the request to cancel. It says nothing about the order: read the book."""


@dataclass(frozen=True, slots=True)
class CancelRefused:
    """The broker did not take the request, which also happens to orders already filled: read the book."""

    message: str


@dataclass(frozen=True, slots=True)
class CancelUnknown:
    """No usable answer. Asking again is harmless."""

    reason: str


CancelOutcome = CancelSent | CancelRefused | CancelUnknown


@dataclass(frozen=True, slots=True)
class BookOrder:
    """One row of today's order book (not sorted by the broker). Rupees per share; `placed_at` aware UTC.

    `tags` unites the broker's `tag` and every element of `tags`, its own marks such as `mktp:2.00` included.
    `status` is the broker's word: COMPLETE, CANCELLED and REJECTED are final (match by prefix), all others are not.
    Only `filled_quantity` is trustworthy after the end of an order.
    """

    broker_order_id: str
    tags: frozenset[str]
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int
    filled_quantity: int
    status: str
    status_message: str | None
    average_price: Decimal
    order_type: str
    price: Decimal
    placed_at: datetime | None


@dataclass(frozen=True, slots=True)
class BookTrade:
    """One execution of today; the scope of `broker_trade_id` is undocumented, so never a key on its own."""

    broker_trade_id: str
    broker_order_id: str
    exchange: str
    tradingsymbol: str
    side: str
    quantity: int
    price: Decimal
    traded_at: datetime

    @property
    def amount_paise(self) -> int:
        """What the trade is worth."""
        return round_paise(self.price * self.quantity * 100)


@dataclass(frozen=True, slots=True)
class Funds:
    """The account's equity segment, in paise: `net` after what is blocked, `available_cash` before it.

    `payin` is what the owner has paid in today; it is part of `net`.
    """

    net_paise: int
    available_cash_paise: int
    payin_paise: int = 0


@dataclass(frozen=True, slots=True)
class BookPosition:
    """Net position of one instrument and product: signed units (negative when sold short), 0 when closed today."""

    exchange: str
    tradingsymbol: str
    product: str
    quantity: int
    overnight_quantity: int
    average_price: Decimal


@dataclass(frozen=True, slots=True)
class BookHolding:
    """Shares in the demat account: `quantity` settled, `t1_quantity` bought and not yet delivered.

    `used_quantity` is sold today out of `quantity`; `authorised_quantity` may be sold without a new depository
    authorisation.
    """

    exchange: str
    tradingsymbol: str
    isin: str
    quantity: int
    t1_quantity: int
    used_quantity: int
    authorised_quantity: int
    average_price: Decimal


class BrokerReadFailed(Exception):
    """A read brought nothing. The absence of an order in a book that was not read proves nothing."""


class BrokerUnavailable(BrokerReadFailed):
    """No answer, a server-side error or a rate limit: read again later."""


class BrokerSessionExpired(BrokerReadFailed):
    """The broker does not accept our session: every view of the account is blind until a new login."""


class BrokerReplyInvalid(BrokerReadFailed):
    """The answer does not have the documented form; reading it partly would invent facts."""


class Broker(Protocol):
    """One broker account. Implementations may be called from several threads."""

    def place(self, request: PlaceRequest) -> Outcome:
        """Send one order with at most one HTTP request; never raises for anything the broker or the network does."""
        ...

    def cancel(self, broker_order_id: str, variety: str = REGULAR) -> CancelOutcome:
        """Ask for cancellation with at most one HTTP request; the answer carries no information about the order."""
        ...

    def orders(self) -> list[BookOrder]:
        """Today's order book; raises BrokerReadFailed."""
        ...

    def trades(self) -> list[BookTrade]:
        """Today's executions; raises BrokerReadFailed."""
        ...

    def margins(self) -> Funds:
        """Funds of the equity segment; raises BrokerReadFailed."""
        ...

    def positions(self) -> list[BookPosition]:
        """Net positions; raises BrokerReadFailed."""
        ...

    def holdings(self) -> list[BookHolding]:
        """Demat holdings; raises BrokerReadFailed."""
        ...
