"""Refusals of the broker, with the documented error_type, HTTP status and text."""

from decimal import Decimal


class Refused(Exception):
    """A request the broker refuses on the wire (Kite docs, exceptions and errors)."""

    def __init__(self, message: str, error_type: str = "InputException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.error_type = error_type
        self.status = status


TOKEN_INVALID = "Incorrect `api_key` or `access_token`."  # noqa: S105 - a message, not a secret
REQUEST_TOKEN_INVALID = "Token is invalid or has expired."  # noqa: S105 - a message, not a secret
TOO_MANY_REQUESTS = "Too many requests"
ORDER_TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."
"""Seen with HTTP 400, and the order followed eight seconds later (fact sheet 2.2)."""
ORDER_CAP_REACHED = "Maximum allowed order requests exceeded."
MODIFICATIONS_EXCEEDED = "Maximum allowed order modifications exceeded."
NOT_MODIFIABLE = "Order cannot be modified as it is being processed. Try later."
NOT_CANCELLABLE = "Order cannot be cancelled as it is being processed. Try later."
UNKNOWN_ORDER = "Couldn't find that `order_id`."
UNKNOWN_INSTRUMENT = "The instrument you are placing an order for has either expired or does not exist."
PROTECTION_MISSING = (
    "Market orders without market protection are not allowed via API. "
    "Please set market protection or use a Limit order."
)
MARKET_CLOSED = "Markets are closed right now. Use GTT for placing long standing orders instead or place an AMO (after market order)."
AMO_REFUSED = "AMO orders are not allowed while the market is open. Place a regular order."
HOLDINGS_SHORT = (
    "Insufficient stock holding or there are pending sell orders for this stock. Check the orderbook for open orders."
)
SELF_TRADE = "17071 : The order could have resulted in a self trade"
TTL_INVALID = "Invalid `validity_ttl`. It has to be a number of minutes between 1 and 1440."


def token_error() -> Refused:
    """The access token is unknown, dead or belongs to another key."""
    return Refused(TOKEN_INVALID, "TokenException", 403)


def unknown_order() -> Refused:
    """No such order today under that variety."""
    return Refused(UNKNOWN_ORDER, "GeneralException", 404)


def rms_margin_exceeds() -> Refused:
    """Risk management refuses before the order has an id (fact sheet 4.2, raw status messages)."""
    text = "RMS:Margin Exceeds,Required:1.00, Available:0.00 for entity account-SR0001 across exchange across segment across product "
    return Refused(text, "MarginException")


def rupees(paise: int) -> Decimal:
    """Paise as rupees with two decimals, for texts."""
    return Decimal(paise).scaleb(-2).quantize(Decimal("0.01"))


def insufficient_funds(required_paise: int, available_paise: int) -> Refused:
    """Not enough cash (kiteconnect-mocks, order rejection text)."""
    text = f"Insufficient funds. Required margin is {rupees(required_paise)} but available margin is {rupees(available_paise)}."
    return Refused(text, "MarginException")
