"""What users read: facts of the platform in short plain words and Indian notation. Pure.

Amounts come in as integer paise and leave as text such as `₹1,23,456.50`. Every notice names its cause; the same fact
gives the same cause however often it is told, so a user reads it once.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from common.events import CashMoved, KycChanged, OrderUpdated
from common.money import format_rupees, round_paise


class Kind(StrEnum):
    """What a notification is about; clients choose icons and filters by it."""

    ORDER_PARTLY_FILLED = "order_partly_filled"
    ORDER_FILLED = "order_filled"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_REJECTED = "order_rejected"
    ORDER_EXPIRED = "order_expired"
    ORDER_FAILED = "order_failed"
    ORDER_NOT_CHANGED = "order_not_changed"
    KYC_PENDING = "kyc_pending"
    KYC_APPROVED = "kyc_approved"
    KYC_REJECTED = "kyc_rejected"
    CASH_ADDED = "cash_added"
    CASH_WITHDRAWN = "cash_withdrawn"


class UnknownStatus(ValueError):
    """An order status that this release has no words for; the message becomes a dead letter, not silence."""


@dataclass(frozen=True)
class Notice:
    """One thing to tell one user."""

    cause: str
    kind: Kind
    title: str
    text: str


UNTOLD_STATUSES = frozenset({"ACCEPTED", "WORKING"})
"""Steps on the way of an order that nobody wants a message about."""

_ENDS: dict[str, tuple[Kind, str, str]] = {
    "CANCELLED": (Kind.ORDER_CANCELLED, "Order cancelled", "was cancelled"),
    "REJECTED": (Kind.ORDER_REJECTED, "Order rejected", "was rejected"),
    "EXPIRED": (Kind.ORDER_EXPIRED, "Order expired", "expired"),
    "FAILED": (Kind.ORDER_FAILED, "Order failed", "could not be carried out"),
}
REPLACEMENT_ENDS = frozenset({"replacement_refused", "replacement_dropped"})
"""Reason codes of an update that comes after an order's end: the new terms its owner wished did not become an order."""

_VERBS = {"BUY": ("buy", "Bought", "bought"), "SELL": ("sell", "Sold", "sold")}


def indian_number(number: int) -> str:
    """A whole number grouped the Indian way, three digits and then twos: `1234567` -> `12,34,567`."""
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    head, groups = digits[:-3], [digits[-3:]]
    while head:
        groups.insert(0, head[-2:])
        head = head[:-2]
    return sign + ",".join(groups)


def indian_rupees(paise: int) -> str:
    """Paise as rupees for people: `12345650` -> `₹1,23,456.50`."""
    rupees, _, rest = format_rupees(abs(paise)).partition(".")
    return f"{'-' if paise < 0 else ''}₹{indian_number(int(rupees))}.{rest}"


def order_notice(event: OrderUpdated) -> Notice | None:
    """What to say about a change of an order, or None when it is not worth a message.

    Raises UnknownStatus for a status outside the platform's words.
    """
    if event.status in UNTOLD_STATUSES:
        return None
    if event.reason_code in REPLACEMENT_ENDS:
        return _not_changed(event)
    if event.status == "PARTIAL":
        # The last fill may be booked before the order is closed: its end will tell it.
        if event.last_fill_quantity == 0 or event.filled_quantity >= event.quantity:
            return None
        return _partly_filled(event)
    if event.status == "FILLED":
        return _filled(event)
    if event.status in _ENDS:
        return _ended(event)
    raise UnknownStatus(f"no words for an order that is {event.status}")


def _order(event: OrderUpdated) -> str:
    verb = _VERBS[event.side][0]
    return f"Your order to {verb} {indian_number(event.quantity)} {event.tradingsymbol} ({event.exchange})"


def _average(amount_paise: int, quantity: int) -> str:
    return indian_rupees(round_paise(Decimal(amount_paise) / quantity))


def _partly_filled(event: OrderUpdated) -> Notice:
    _, done, done_inside = _VERBS[event.side]
    filled, quantity = indian_number(event.filled_quantity), indian_number(event.quantity)
    return Notice(
        cause=f"order:{event.order_id}:{event.order_version}",
        kind=Kind.ORDER_PARTLY_FILLED,
        title=f"{done} {filled} of {quantity} {event.tradingsymbol}",
        text=(
            f"{_order(event)} is partly filled: {indian_number(event.last_fill_quantity)} {done_inside} at an average of "
            f"{_average(event.last_fill_amount_paise, event.last_fill_quantity)}, {filled} of {quantity} so far."
        ),
    )


def _filled(event: OrderUpdated) -> Notice:
    return Notice(
        cause=_end_cause(event),
        kind=Kind.ORDER_FILLED,
        title=f"{_VERBS[event.side][1]} {indian_number(event.filled_quantity)} {event.tradingsymbol}",
        text=(
            f"{_order(event)} is filled: average price {_average(event.amount_paise, event.filled_quantity)}, "
            f"value {indian_rupees(event.amount_paise)}, charges {indian_rupees(event.charges_paise)}."
        ),
    )


def _ended(event: OrderUpdated) -> Notice:
    kind, title, happened = _ENDS[event.status]
    if event.filled_quantity:
        traded = (
            f"{indian_number(event.filled_quantity)} of {indian_number(event.quantity)} had been "
            f"{_VERBS[event.side][2]} for {indian_rupees(event.amount_paise)}"
        )
    else:
        traded = "nothing was traded"
    reason = f" Reason: {event.reason}" if event.reason else ""
    return Notice(
        cause=_end_cause(event),
        kind=kind,
        title=f"{title}: {_VERBS[event.side][0]} {indian_number(event.quantity)} {event.tradingsymbol}",
        text=f"{_order(event)} {happened}; {traded}.{reason}",
    )


def _not_changed(event: OrderUpdated) -> Notice:
    reason = f" Reason: {event.reason}" if event.reason else ""
    return Notice(
        cause=f"order:{event.order_id}:not_changed",
        kind=Kind.ORDER_NOT_CHANGED,
        title=f"Order not changed: {_VERBS[event.side][0]} {indian_number(event.quantity)} {event.tradingsymbol}",
        text=f"{_order(event)} could not be replaced by the changed one.{reason}",
    )


def _end_cause(event: OrderUpdated) -> str:
    # An order ends once: a later version that repeats the end is the same fact.
    return f"order:{event.order_id}:end"


def kyc_notice(event: KycChanged) -> Notice | None:
    """What to say about a change of a user's KYC; nothing is said before anything was submitted."""
    reason = f" Reason: {event.reason}" if event.reason else ""
    words = {
        "pending": (Kind.KYC_PENDING, "KYC received", "We have received your KYC details and are checking them."),
        "approved": (Kind.KYC_APPROVED, "KYC approved", "Your KYC is approved; you can trade now."),
        "rejected": (
            Kind.KYC_REJECTED,
            "KYC not accepted",
            f"Your KYC was not accepted.{reason} Correct the details and submit them again.",
        ),
    }
    if event.status not in words:
        return None
    kind, title, text = words[event.status]
    # The event has no id of its own; a status may come again later, hence the instant.
    return Notice(f"kyc:{event.user_id}:{event.status}:{event.occurred_at.isoformat()}", kind, title, text)


def cash_notice(event: CashMoved) -> Notice:
    """What to say about money that entered or left a portfolio."""
    amount = indian_rupees(event.amount_paise)
    kind, title, text = {
        "TOPUP": (Kind.CASH_ADDED, f"{amount} added", f"{amount} of paper money was added to your portfolio."),
        "DEPOSIT": (Kind.CASH_ADDED, f"{amount} deposited", f"{amount} was deposited to your portfolio."),
        "WITHDRAWAL": (Kind.CASH_WITHDRAWN, f"{amount} withdrawn", f"{amount} was withdrawn from your portfolio."),
    }[event.kind]
    return Notice(f"cash:{event.transfer_id}", kind, title, text)
