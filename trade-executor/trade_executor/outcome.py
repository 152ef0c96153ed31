"""What one place call proves about the order: refused for certain, accepted, or unknown (execution design 3.5).

Pure: the adapter gathers the facts of the wire into a `Reply`, this module judges them. The default is `Unknown`,
because an order wrongly taken for refused is bought twice, while an unknown one only waits for the order book. Only
what the reference (kite-connect.md 2.1-2.3, 6 and 14) proves to be a refusal is one. HTTP 400 proves nothing on its
own: `Order request timed out...` has come with it, and the order followed eight seconds later.
"""

import re
from dataclasses import dataclass

from trade_executor.brokers.base import (
    Acked,
    CancelOutcome,
    CancelRefused,
    CancelSent,
    CancelUnknown,
    Outcome,
    Refused,
    Unknown,
)

NOT_SENT = "not_sent"
RATE_LIMITED = "rate_limited"
SESSION_EXPIRED = "session_expired"
IP_NOT_ALLOWED = "ip_not_allowed"
PERMISSION_DENIED = "permission_denied"
HOLDINGS_NOT_AUTHORISED = "holdings_not_authorised"
ORDER_CAP_REACHED = "order_cap_reached"

BROKER_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
"""Ids are opaque text (15 digits, 19 digits since 2025). They become part of a URL, hence no other character."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the wire showed of one call.

    `http_status` is the true status line of the only response, None when none was read. `nothing_sent`: the connection
    was never established. `error_type` and `message` are the broker's, from its JSON body; without one `error_type` is
    empty and `message` is what the client raised. `failure` names that exception, "" when the client returned normally.
    """

    http_status: int | None = None
    nothing_sent: bool = False
    order_id: object = None
    error_type: str = ""
    message: str = ""
    failure: str = ""


_TIMED_OUT = re.compile(r"timed? ?-?out", re.IGNORECASE)
_IP_REFUSED = re.compile(r"\bIP\b.{0,80}\bnot allowed\b|\bNo IPs configured\b", re.DOTALL)
_ORDER_CAP = re.compile(r"^Maximum allowed order requests exceeded")
"""The minute's or the day's cap; seen without its status (kite-connect.md 2.2)."""

_REFUSING_TYPES = frozenset(
    {"InputException", "OrderException", "MarginException", "HoldingException", "GeneralException"}
)
"""GeneralException: the client turns Margin- and HoldingException into it."""

_REFUSAL_TEXTS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (code, re.compile(pattern, re.IGNORECASE))
    for code, pattern in (
        ("insufficient_funds", r"^Insufficient funds\b|^RMS:\s?Margin Exceeds\b"),
        ("insufficient_holdings", r"^Insufficient stock holding\b"),
        (HOLDINGS_NOT_AUTHORISED, r"needs authori[sz]ation at depository"),
        ("freeze_quantity", r"is higher than the maximum quantity of .+ allowed by the exchange"),
        ("outside_price_band", r"order price is (higher|lower) than the current .{0,80}circuit limit"),
        ("outside_price_band", r"^Price exceeds circuit limits\b"),
        ("outside_price_band", r"order price is (higher|lower) than the current limit price protection"),
        ("outside_price_band", r"^LIMIT orders that are far away from the LTP are restricted"),
        ("off_tick", r"^Tick size for this script is\b|price is not a multiple of tick size"),
        ("trigger_price_invalid", r"^Trigger price for stoploss (buy|sell) orders should be\b"),
        ("market_protection_required", r"^Market orders without market protection are not allowed"),
        ("unknown_instrument", r"^The instrument you are placing an order for has either expired or does not exist"),
        ("product_not_allowed", r"^Trading in \w+ is not allowed using \w+ product type"),
        ("market_closed", r"^MIS \(intraday\) are blocked as the markets are not open|^Markets are closed right now"),
        ("slicing_not_needed", r"^Quantity should be greater than or equal to .+ for order slicing"),
        ("invalid_request", r"^Invalid request \(failed to decode\b|^Missing or empty field `\w+`|^Invalid `\w+`"),
        (ORDER_CAP_REACHED, _ORDER_CAP.pattern),
    )
)

_RETRYABLE_TEXT_CODES = frozenset({ORDER_CAP_REACHED})


def classify(reply: Reply) -> Outcome:
    """The outcome of a place call; total: every reply gets one of the three answers."""
    if reply.http_status is None:
        if reply.nothing_sent:
            return Refused(NOT_SENT, _described(reply), retryable=True)
        return Unknown(_described(reply))
    # Before any status: the same words have come with 400, and no status outweighs "check the order book".
    if _TIMED_OUT.search(reply.message):
        return Unknown(_described(reply))
    if reply.http_status == 200:
        return _accepted(reply)
    if reply.http_status == 429:
        code = ORDER_CAP_REACHED if _ORDER_CAP.search(reply.message) else RATE_LIMITED
        return Refused(code, _described(reply), retryable=True)
    if reply.http_status == 428:
        return Refused(HOLDINGS_NOT_AUTHORISED, _described(reply))
    return _halting(reply) or _refused_by_text(reply) or Unknown(_described(reply))


def _accepted(reply: Reply) -> Outcome:
    if reply.failure or not isinstance(reply.order_id, str) or not BROKER_ORDER_ID.match(reply.order_id):
        return Unknown(_described(reply))
    return Acked(reply.order_id)


def _halting(reply: Reply) -> Refused | None:
    """Refusals that every following order would meet too."""
    status = reply.http_status or 0
    if status in (401, 403) and reply.error_type == "TokenException":
        return Refused(SESSION_EXPIRED, reply.message, halts=True)
    # The type and status of the address refusal vary between reports (kite-connect.md 5.9): the text decides.
    if status >= 400 and reply.error_type and _IP_REFUSED.search(reply.message):
        return Refused(IP_NOT_ALLOWED, reply.message, halts=True)
    if status == 403 and reply.error_type == "PermissionException":
        return Refused(PERMISSION_DENIED, reply.message, halts=True)
    return None


def _refused_by_text(reply: Reply) -> Refused | None:
    """A 400 whose type and text are both known to mean a refusal."""
    if reply.http_status != 400 or reply.error_type not in _REFUSING_TYPES:
        return None
    for code, pattern in _REFUSAL_TEXTS:
        if pattern.search(reply.message):
            return Refused(code, reply.message, retryable=code in _RETRYABLE_TEXT_CODES)
    return None


def classify_cancel(reply: Reply) -> CancelOutcome:
    """The outcome of a cancel call. None of the three says whether the order lives."""
    if reply.http_status is None:
        return CancelRefused(_described(reply)) if reply.nothing_sent else CancelUnknown(_described(reply))
    if _TIMED_OUT.search(reply.message):
        return CancelUnknown(_described(reply))
    if reply.http_status == 200 and not reply.failure:
        return CancelSent()
    if 400 <= reply.http_status < 500 and (reply.error_type or reply.http_status == 429):
        return CancelRefused(_described(reply))
    return CancelUnknown(_described(reply))


def is_session_refusal(reply: Reply) -> bool:
    """Whether the broker refused the session itself, of whatever call."""
    return reply.http_status in (401, 403) and reply.error_type == "TokenException"


def _described(reply: Reply) -> str:
    """The facts in one line, for the attempt's row and the log."""
    status = "no HTTP answer" if reply.http_status is None else f"HTTP {reply.http_status}"
    parts = [status, reply.error_type, reply.failure if reply.failure != reply.error_type else "", reply.message]
    return ": ".join(part for part in parts if part)
