"""What people are told about, through which channels, and what each kind of message may do. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Channel(StrEnum):
    """A way to somebody. All but `in_app` need a provider."""

    IN_APP = "in_app"
    EMAIL = "email"
    SMS = "sms"
    PUSH = "push"
    WEB_PUSH = "web_push"
    CHAT = "chat"


OUTSIDE = (Channel.EMAIL, Channel.SMS, Channel.PUSH, Channel.WEB_PUSH, Channel.CHAT)
"""Channels through which messages leave the platform: each delivery is a row."""


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
    BASKET_DONE = "basket_done"
    BASKET_NEEDS_REPAIR = "basket_needs_repair"
    BASKET_REFUSED = "basket_refused"
    SIP_DUE = "sip_due"
    PRICE_ALERT = "price_alert"
    REPORT_READY = "report_ready"
    PASSWORD_RESET = "password_reset"  # noqa: S105  the name of a kind
    EMAIL_VERIFICATION = "email_verification"
    CONTACT_VERIFICATION = "contact_verification"
    TRADING_STATE = "trading_state"
    BREAK_SERIOUS = "break_serious"
    BREAK_OPENED = "break_opened"
    DIGEST = "digest"


Group = Literal["orders", "account", "baskets", "prices", "reports", "security", "operations"]


@dataclass(frozen=True)
class KindRule:
    """What a kind of message may do."""

    group: Group
    defaults: frozenset[Channel]
    """Channels that are on until the user says otherwise."""
    at_any_hour: bool = False
    """Neither quiet hours nor a daily summary hold it back."""
    fixed: bool = False
    """Not a matter of preferences: an answer to something the user has just asked for, or made of other messages."""


_APP = frozenset({Channel.IN_APP})
_SHOWN = _APP | {Channel.PUSH, Channel.WEB_PUSH}
_TOLD = _SHOWN | {Channel.EMAIL, Channel.CHAT}
_URGENT = _TOLD | {Channel.SMS}

RULES: dict[Kind, KindRule] = {
    Kind.ORDER_PARTLY_FILLED: KindRule("orders", _SHOWN),
    Kind.ORDER_FILLED: KindRule("orders", _TOLD),
    Kind.ORDER_CANCELLED: KindRule("orders", _SHOWN),
    Kind.ORDER_REJECTED: KindRule("orders", _URGENT),
    Kind.ORDER_EXPIRED: KindRule("orders", _TOLD),
    Kind.ORDER_FAILED: KindRule("orders", _URGENT),
    Kind.ORDER_NOT_CHANGED: KindRule("orders", _TOLD),
    Kind.KYC_PENDING: KindRule("account", _APP),
    Kind.KYC_APPROVED: KindRule("account", _TOLD),
    Kind.KYC_REJECTED: KindRule("account", _TOLD),
    Kind.CASH_ADDED: KindRule("account", _TOLD),
    Kind.CASH_WITHDRAWN: KindRule("account", _TOLD),
    Kind.BASKET_DONE: KindRule("baskets", _TOLD),
    Kind.BASKET_NEEDS_REPAIR: KindRule("baskets", _URGENT),
    Kind.BASKET_REFUSED: KindRule("baskets", _URGENT),
    Kind.SIP_DUE: KindRule("baskets", _TOLD),
    Kind.PRICE_ALERT: KindRule("prices", _URGENT),
    Kind.REPORT_READY: KindRule("reports", _TOLD - {Channel.CHAT}),
    Kind.PASSWORD_RESET: KindRule("security", frozenset({Channel.EMAIL}), at_any_hour=True, fixed=True),
    Kind.EMAIL_VERIFICATION: KindRule("security", frozenset({Channel.EMAIL}), at_any_hour=True, fixed=True),
    Kind.CONTACT_VERIFICATION: KindRule("security", frozenset(), at_any_hour=True, fixed=True),
    Kind.TRADING_STATE: KindRule("operations", _URGENT, at_any_hour=True),
    Kind.BREAK_SERIOUS: KindRule("operations", _URGENT, at_any_hour=True),
    Kind.BREAK_OPENED: KindRule("operations", _APP, at_any_hour=True),
    Kind.DIGEST: KindRule("reports", frozenset(), fixed=True),
}

TO_ANY_ADDRESS = frozenset({Kind.PASSWORD_RESET, Kind.EMAIL_VERIFICATION})
"""Kinds whose mail goes to an address that may not be verified yet; all others wait for the verification."""
CHOSEN_KINDS = tuple(kind for kind, rule in RULES.items() if not rule.fixed)
"""Kinds that users have preferences about."""
DIGEST_KINDS = tuple(kind for kind in CHOSEN_KINDS if not RULES[kind].at_any_hour)
"""Kinds that may wait for the daily summary."""
