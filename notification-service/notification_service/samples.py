"""Made-up data of every kind of message: what the preview of a template shows. Pure."""

from typing import Any

from notification_service.kinds import Kind

_ORDER: dict[str, Any] = {
    "exchange": "NSE",
    "tradingsymbol": "RELIANCE",
    "side": "BUY",
    "quantity": 10,
    "filled_quantity": 10,
    "last_fill_quantity": 4,
    "amount_paise": 1_23_456_50,
    "charges_paise": 15_20,
    "average_paise": 12_345_65,
    "last_average_paise": 12_345_65,
    "reason": None,
}
_UNFILLED = {**_ORDER, "filled_quantity": 0, "amount_paise": 0, "reason": "The price is outside the day's range."}
_BREAK = {"break_kind": "ghost_order", "severity": 1, "detail": "an order that nobody confirmed was traded"}
_BASKET: dict[str, Any] = {
    "smallcase": "Steady Ten",
    "basket": "INVEST",
    "status": "filled",
    "orders": 10,
    "orders_filled": 10,
    "bought_paise": 49_873_25,
    "sold_paise": 0,
    "charges_paise": 61_40,
    "reason": None,
}
_LINK_END = "2026-11-23T05:30:00+00:00"
SAMPLES: dict[Kind, dict[str, Any]] = {
    Kind.ORDER_PARTLY_FILLED: {**_ORDER, "filled_quantity": 4},
    Kind.ORDER_FILLED: _ORDER,
    Kind.ORDER_CANCELLED: {**_UNFILLED, "filled_quantity": 4, "amount_paise": 49_382_60, "reason": None},
    Kind.ORDER_REJECTED: _UNFILLED,
    Kind.ORDER_EXPIRED: {**_UNFILLED, "reason": None},
    Kind.ORDER_FAILED: _UNFILLED,
    Kind.ORDER_NOT_CHANGED: {**_UNFILLED, "reason": "Not enough cash."},
    Kind.KYC_PENDING: {"reason": None},
    Kind.KYC_APPROVED: {"reason": None},
    Kind.KYC_REJECTED: {"reason": "The name does not match the PAN."},
    Kind.CASH_ADDED: {"movement": "TOPUP", "amount_paise": 1_00_000_00},
    Kind.CASH_WITHDRAWN: {"movement": "WITHDRAWAL", "amount_paise": 25_000_00},
    Kind.BASKET_DONE: _BASKET,
    Kind.BASKET_NEEDS_REPAIR: {**_BASKET, "status": "needs_repair", "orders_filled": 7},
    Kind.BASKET_REFUSED: {**_BASKET, "status": "refused", "orders_filled": 0, "reason": "Not enough cash."},
    Kind.SIP_DUE: {"smallcase": "Steady Ten", "due_on": "2026-11-23", "amount_paise": 5_000_00, "mode": "CONFIRM"},
    Kind.PRICE_ALERT: {
        "exchange": "NSE", "tradingsymbol": "INFY", "direction": "above", "level_paise": 1_500_00,
        "price_paise": 1_501_25,
    },
    Kind.REPORT_READY: {
        "report": "monthly", "name": "October 2026", "period_start": "2026-10-01", "period_end": "2026-10-31",
    },
    Kind.PASSWORD_RESET: {"expires_at": _LINK_END},
    Kind.EMAIL_VERIFICATION: {"expires_at": _LINK_END},
    Kind.CONTACT_VERIFICATION: {"code": "123456", "minutes": 10},
    Kind.TRADING_STATE: {"account": "pool", "state": "HALTED", "actor": "reconciliation", "reason": "overfilled"},
    Kind.BREAK_SERIOUS: _BREAK,
    Kind.BREAK_OPENED: {**_BREAK, "severity": 2},
    Kind.DIGEST: {
        "day": "23 Nov 2026", "total": 3,
        "items": [
            {"title": "Bought 10 RELIANCE", "text": "Your order to buy 10 RELIANCE (NSE) is filled."},
            {"title": "₹1,00,000.00 added", "text": "₹1,00,000.00 of paper money was added to your portfolio."},
        ],
    },
}  # fmt: skip
