"""What a ledger row is called in transaction lists and statements, told from its cause."""

from portfolio_service.ledger import INR

_TYPE_OF_PREFIX = {
    "initial": "TOPUP",
    "topup": "TOPUP",
    "deposit": "DEPOSIT",
    "withdraw": "WITHDRAWAL",
    "hold": "HOLD",
    "close": "RELEASE",
    "house": "HOUSE",
}
_TYPE_OF_FILL_PART = {
    "cost": "BUY",
    "cost-due": "BUY",
    "shares": "BUY",
    "proceeds": "SELL",
    "charges": "CHARGES",
    "charges-due": "CHARGES",
    "repay": "DUE_REPAID",
    "void": "RELEASE",
}
_PARTICULARS = {
    "TOPUP": "Paper money added",
    "DEPOSIT": "Deposit",
    "WITHDRAWAL": "Withdrawal",
    "BUY": "Shares bought",
    "SELL": "Shares sold",
    "CHARGES": "Charges and taxes (estimate)",
    "DUE_REPAID": "Dues paid",
}


def entry_type(cause: str, asset: str) -> str:
    """TOPUP, DEPOSIT, WITHDRAWAL, BUY, SELL, CHARGES, DUE_REPAID, HOLD, RELEASE or HOUSE.

    The used part of a hold is a purchase when it was money and a sale when it was shares.
    Raises ValueError for a cause no rule of the ledger writes.
    """
    prefix, _, rest = cause.partition(":")
    part = rest.rpartition(":")[2]
    if part == "repay":
        return "DUE_REPAID"
    if prefix in _TYPE_OF_PREFIX:
        return _TYPE_OF_PREFIX[prefix]
    if prefix != "fill":
        raise ValueError(f"unknown cause of a transfer: {cause!r}")
    if part == "post":
        return "BUY" if asset == INR else "SELL"
    return _TYPE_OF_FILL_PART[part]


def particulars(kind: str, reason: str | None, instrument: str | None) -> str:
    """One line for people."""
    text = _PARTICULARS.get(kind, kind)
    if instrument:
        text = f"{text}: {instrument}"
    return f"{text} ({reason})" if reason else text
