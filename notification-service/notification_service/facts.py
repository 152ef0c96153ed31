"""Facts of the platform as things to tell somebody: what kind, by which cause, with which data. Pure.

The same fact gives the same cause however often it is said, so a person is told once. Data are what the templates need:
integer paise, quantities, names; free text from outside is cut to what may be shown.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from common.events import (
    BasketUpdated,
    BreakOpened,
    CashMoved,
    EmailVerificationRequested,
    KycChanged,
    OrderUpdated,
    PasswordResetRequested,
    ReportReady,
    SipDue,
    TradingHalted,
)
from common.money import round_paise
from notification_service.kinds import Kind
from notification_service.masking import without_account_numbers


class UnknownStatus(ValueError):
    """A status that this release has no words for; the message becomes a dead letter, not silence."""


@dataclass(frozen=True)
class Fact:
    """One thing to tell one person."""

    cause: str
    kind: Kind
    data: dict[str, Any] = field(default_factory=dict)
    subject: dict[str, str] = field(default_factory=dict)
    """Ids of what it is about, so that a client can open it."""


UNTOLD_STATUSES = frozenset({"ACCEPTED", "WORKING"})
"""Steps on the way of an order that nobody wants a message about."""

_ENDS: dict[str, Kind] = {
    "CANCELLED": Kind.ORDER_CANCELLED,
    "REJECTED": Kind.ORDER_REJECTED,
    "EXPIRED": Kind.ORDER_EXPIRED,
    "FAILED": Kind.ORDER_FAILED,
}
REPLACEMENT_ENDS = frozenset({"replacement_refused", "replacement_dropped"})
"""Reason codes of an update that comes after an order's end: the new terms its owner wished did not become an order."""
SEVERITY_HALTS = 1
"""Breaks of this severity stop trading (trade_executor README)."""


def order_fact(event: OrderUpdated) -> Fact | None:
    """What to say about a change of an order, or None when it is not worth a message.

    Raises UnknownStatus for a status outside the platform's words.
    """
    if event.status in UNTOLD_STATUSES:
        return None
    if event.reason_code in REPLACEMENT_ENDS:
        return _order(event, Kind.ORDER_NOT_CHANGED, f"order:{event.order_id}:not_changed")
    if event.status == "PARTIAL":
        # The last fill may be booked before the order is closed: its end will tell it.
        if event.last_fill_quantity == 0 or event.filled_quantity >= event.quantity:
            return None
        average = _average(event.last_fill_amount_paise, event.last_fill_quantity)
        cause = f"order:{event.order_id}:{event.order_version}"
        return _order(event, Kind.ORDER_PARTLY_FILLED, cause, last_average_paise=average)
    # An order ends once: a later version that repeats the end is the same fact.
    cause = f"order:{event.order_id}:end"
    if event.status == "FILLED":
        average = _average(event.amount_paise, event.filled_quantity)
        return _order(event, Kind.ORDER_FILLED, cause, average_paise=average)
    if event.status in _ENDS:
        return _order(event, _ENDS[event.status], cause)
    raise UnknownStatus(f"no words for an order that is {event.status}")


def _average(amount_paise: int, quantity: int) -> int:
    return round_paise(Decimal(amount_paise) / quantity)


def _order(event: OrderUpdated, kind: Kind, cause: str, **more: Any) -> Fact:
    data = {
        "exchange": event.exchange,
        "tradingsymbol": event.tradingsymbol,
        "side": event.side,
        "quantity": event.quantity,
        "filled_quantity": event.filled_quantity,
        "last_fill_quantity": event.last_fill_quantity,
        "amount_paise": event.amount_paise,
        "charges_paise": event.charges_paise,
        "reason": _free(event.reason),
        **more,
    }
    return Fact(cause, kind, data, {"order_id": str(event.order_id), "portfolio_id": str(event.portfolio_id)})


def _free(text: str | None) -> str | None:
    return without_account_numbers(text) if text else None


_KYC = {"pending": Kind.KYC_PENDING, "approved": Kind.KYC_APPROVED, "rejected": Kind.KYC_REJECTED}


def kyc_fact(event: KycChanged) -> Fact | None:
    """What to say about a change of a user's KYC; nothing is said before anything was submitted."""
    kind = _KYC.get(event.status)
    if kind is None:
        return None
    # The event has no id of its own; a status may come again later, hence the instant.
    cause = f"kyc:{event.user_id}:{event.status}:{event.occurred_at.isoformat()}"
    return Fact(cause, kind, {"reason": _free(event.reason)})


def cash_fact(event: CashMoved) -> Fact:
    """What to say about money that entered or left a portfolio."""
    kind = Kind.CASH_WITHDRAWN if event.kind == "WITHDRAWAL" else Kind.CASH_ADDED
    subject = {"transfer_id": str(event.transfer_id), "portfolio_id": str(event.portfolio_id)}
    data = {"movement": event.kind, "amount_paise": event.amount_paise}
    return Fact(f"cash:{event.transfer_id}", kind, data, subject)


_BASKETS = {
    "filled": Kind.BASKET_DONE,
    "needs_repair": Kind.BASKET_NEEDS_REPAIR,
    "unfilled": Kind.BASKET_NEEDS_REPAIR,
    "refused": Kind.BASKET_REFUSED,
}


def basket_fact(event: BasketUpdated) -> Fact:
    """A basket order has ended, one way or the other."""
    data = {
        "smallcase": _free(event.smallcase_name),
        "basket": event.kind,
        "status": event.status,
        "orders": event.orders,
        "orders_filled": event.orders_filled,
        "bought_paise": event.bought_paise,
        "sold_paise": event.sold_paise,
        "charges_paise": event.charges_paise,
        "reason": _free(event.reason),
    }
    subject = {
        "basket_order_id": str(event.basket_order_id),
        "investment_id": str(event.investment_id),
        "smallcase_id": str(event.smallcase_id),
    }
    return Fact(f"basket:{event.basket_order_id}:{event.status}", _BASKETS[event.status], data, subject)


def sip_fact(event: SipDue) -> Fact:
    """An instalment of a SIP is due; one a day and SIP."""
    data = {
        "smallcase": _free(event.smallcase_name),
        "due_on": event.due_on.isoformat(),
        "amount_paise": event.amount_paise,
        "mode": event.mode,
    }
    subject = {"sip_id": str(event.sip_id), "smallcase_id": str(event.smallcase_id)}
    return Fact(f"sip:{event.sip_id}:{event.due_on.isoformat()}", Kind.SIP_DUE, data, subject)


def mail_token_fact(event: PasswordResetRequested | EmailVerificationRequested) -> Fact:
    """A mail that carries a single-use token; here is its id only, the token is fetched when the mail is written."""
    kind = Kind.PASSWORD_RESET if isinstance(event, PasswordResetRequested) else Kind.EMAIL_VERIFICATION
    data = {"mail_token_id": str(event.mail_token_id), "expires_at": event.expires_at.isoformat()}
    return Fact(f"mail_token:{event.mail_token_id}", kind, data)


def report_fact(event: ReportReady) -> Fact:
    """A report can be opened."""
    days = [day.isoformat() if day else None for day in (event.period_start, event.period_end)]
    data = {"report": event.kind, "name": _free(event.title), "period_start": days[0], "period_end": days[1]}
    return Fact(f"report:{event.report_id}", Kind.REPORT_READY, data, {"report_id": str(event.report_id)})


def trading_state_fact(event: TradingHalted) -> Fact:
    """The kill switch moved: an alarm of the operators."""
    cause = f"trading_state:{event.account}:{event.state}:{event.occurred_at.isoformat()}"
    data = {"account": event.account, "state": event.state, "actor": event.actor, "reason": _free(event.reason)}
    return Fact(cause, Kind.TRADING_STATE, data)


def break_fact(event: BreakOpened) -> Fact:
    """Two books disagree: an alarm of the operators."""
    kind = Kind.BREAK_SERIOUS if event.severity <= SEVERITY_HALTS else Kind.BREAK_OPENED
    data = {"break_kind": event.kind, "severity": event.severity, "detail": _free(event.detail)}
    return Fact(f"break:{event.break_id}", kind, data, {"break_id": str(event.break_id)})


def price_fact(
    alert_id: UUID,
    firing: int,
    *,
    exchange: str,
    tradingsymbol: str,
    direction: str,
    level_paise: int,
    price_paise: int,
) -> Fact:
    """A price has reached the level its user waits for; each firing of an alert is a fact of its own."""
    data = {
        "exchange": exchange,
        "tradingsymbol": tradingsymbol,
        "direction": direction,
        "level_paise": level_paise,
        "price_paise": price_paise,
    }
    subject = {"alert_id": str(alert_id), "exchange": exchange, "tradingsymbol": tradingsymbol}
    return Fact(f"price_alert:{alert_id}:{firing}", Kind.PRICE_ALERT, data, subject)
