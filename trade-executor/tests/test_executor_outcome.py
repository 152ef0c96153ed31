"""The table of execution design 3.5: every known answer of the broker and what it proves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trade_executor.brokers.base import Acked, CancelRefused, CancelSent, CancelUnknown, Refused, Unknown
from trade_executor.outcome import Reply, classify, classify_cancel

TIMED_OUT = "Order request timed out. Please check the order book and confirm before placing again."
FUNDS = "Insufficient funds. Required margin is 228365.92 but available margin is 228358.50."
HOLDINGS = "Insufficient stock holding or there are pending sell orders for this stock. Check the orderbook..."
IP_REFUSED = (
    "IP (203.0.113.7) is not allowed to place orders for this app. Update allowed IPs on the Kite developer console."
)
IP_EMPTY = "No IPs configured for this app. Add allowed IPs on the Kite developer console."
PROTECTION = (
    "Market orders without market protection are not allowed via API. "
    "Please set market protection or use a Limit order."
)
FREEZE = (
    "The order quantity 1000 (40 lots) is higher than the maximum quantity of 900 (36 lots) allowed by the exchanges. "
    "Please reduce the order quantity or use iceberg orders. [Read more.](https://example.invalid)"
)
BAND = (
    "Your order price is higher than the current [upper circuit limit](https://example.invalid) of 503.35. "
    "You can place an order within the range or [use GTT](https://example.invalid)"
)
BAND_LOW = (
    "Your order price is lower than the current lower circuit limit of 70.65. Place an order within the daily range."
)
LPP = "Your order price is higher than the current limit price protection of 64.30. Please place an order below 64.30."
FAR = "LIMIT orders that are far away from the LTP are restricted as per exchange guidelines. Please use [GTT](url)..."
TICK = "Tick size for this script is 0.05. Kindly enter price in the multiple of tick size for this script"
MIS_CLOSED = "MIS (intraday) are blocked as the markets are not open for trading today. Try placing an AMO order."
SLICING = "Quantity should be greater than or equal to 1801 for order slicing."


def error(status: int, error_type: str, message: str, failure: str = "") -> Reply:
    return Reply(http_status=status, error_type=error_type, message=message, failure=failure or error_type)


REFUSED_FOR_GOOD = [
    (error(400, "MarginException", FUNDS, "GeneralException"), "insufficient_funds"),
    (error(400, "GeneralException", FUNDS), "insufficient_funds"),
    (error(400, "InputException", "RMS:Margin Exceeds,Required:10, Available:1"), "insufficient_funds"),
    (error(400, "HoldingException", HOLDINGS, "GeneralException"), "insufficient_holdings"),
    (error(400, "GeneralException", HOLDINGS), "insufficient_holdings"),
    (error(400, "InputException", FREEZE), "freeze_quantity"),
    (error(400, "InputException", BAND), "outside_price_band"),
    (error(400, "InputException", BAND_LOW), "outside_price_band"),
    (error(400, "InputException", LPP), "outside_price_band"),
    (error(400, "InputException", FAR), "outside_price_band"),
    (error(400, "OrderException", "Price exceeds circuit limits for the instrument."), "outside_price_band"),
    (error(400, "InputException", TICK), "off_tick"),
    (error(400, "InputException", TICK.replace("enter price", "enter trigger price")), "off_tick"),
    (error(400, "OrderException", "16316 : The trigger price is not a multiple of tick size"), "off_tick"),
    (error(400, "InputException", PROTECTION), "market_protection_required"),
    (
        error(400, "InputException", "Invalid request (failed to decode market_protection, got: True)"),
        "invalid_request",
    ),
    (error(400, "InputException", "Missing or empty field `quantity`"), "invalid_request"),
    (error(400, "InputException", "Trading in NSE is not allowed using NRML product type."), "product_not_allowed"),
    (error(400, "InputException", MIS_CLOSED), "market_closed"),
    (error(400, "InputException", SLICING), "slicing_not_needed"),
    (error(428, "OrderException", "10 quantity needs authorisation at depository."), "holdings_not_authorised"),
    (error(428, "", "", "DataException"), "holdings_not_authorised"),
]

REFUSED_AND_RETRYABLE = [
    (Reply(nothing_sent=True, failure="ConnectTimeout"), "not_sent"),
    (Reply(nothing_sent=True, failure="ConnectionError", message="Connection refused"), "not_sent"),
    (Reply(nothing_sent=True, failure="ConnectionError", message="Name or service not known"), "not_sent"),
    (error(429, "NetworkException", "Too many requests"), "rate_limited"),
    (error(429, "", "Too many requests", "TypeError"), "rate_limited"),
    (error(429, "", "<html>slow down</html>", "DataException"), "rate_limited"),
    (error(429, "", "'content-type'", "KeyError"), "rate_limited"),
    (error(400, "InputException", "Maximum allowed order requests exceeded."), "order_cap_reached"),
    (error(429, "NetworkException", "Maximum allowed order requests exceeded."), "order_cap_reached"),
]

REFUSED_AND_HALTING = [
    (error(403, "TokenException", "Incorrect `api_key` or `access_token`."), "session_expired"),
    (error(403, "TokenException", "Token is invalid or has expired."), "session_expired"),
    (error(401, "TokenException", "Incorrect `api_key` or `access_token`."), "session_expired"),
    (error(403, "PermissionException", IP_REFUSED), "ip_not_allowed"),
    (error(400, "InputException", IP_REFUSED), "ip_not_allowed"),
    (error(500, "GeneralException", IP_EMPTY), "ip_not_allowed"),
    (error(400, "GeneralException", IP_EMPTY), "ip_not_allowed"),
    (error(403, "PermissionException", "Insufficient permission for that call."), "permission_denied"),
]

UNKNOWN = [
    # Nothing certain came back from the network.
    Reply(failure="ReadTimeout", message="Read timed out. (read timeout=10)"),
    Reply(failure="ConnectionError", message="Remote end closed connection without response"),
    Reply(failure="ConnectionError", message="Connection reset by peer"),
    Reply(failure="ChunkedEncodingError"),
    # The text that comes with several statuses.
    error(400, "OrderException", TIMED_OUT),
    error(400, "InputException", TIMED_OUT),
    error(400, "GeneralException", TIMED_OUT),
    error(429, "NetworkException", TIMED_OUT),
    error(503, "NetworkException", "request 0123456789abcdef0123456789abcdef timed out"),
    # Server-side errors, by type and status of kite-connect.md 2.1.
    error(500, "OrderException", FUNDS),
    error(500, "GeneralException", "Something went wrong"),
    error(502, "DataException", "OMS reply unusable"),
    error(504, "DataException", "OMS reply unusable"),
    error(503, "NetworkException", "Couldn't reach the OMS"),
    error(504, "NetworkException", "Gateway timeout"),
    error(403, "UserException", "Account problem"),
    error(403, "TwoFAException", "2FA problem"),
    error(500, "TokenException", "Incorrect `api_key` or `access_token`."),
    error(410, "GeneralException", "Gone"),
    error(405, "GeneralException", "Method not allowed"),
    error(404, "GeneralException", "Route not found"),
    # 400 that no rule proves to be a refusal.
    error(400, "InputException", "Something new"),
    error(400, "SomethingNewException", FUNDS),
    error(400, "NetworkException", FUNDS),
    error(400, "", FUNDS, "TypeError"),
    # Odd replies of kite-connect.md 2.3.
    error(500, "", "argument must be str, not None", "TypeError"),
    error(502, "", "Unknown Content-Type (text/html) with response: (<html>)", "DataException"),
    error(500, "", "'data'", "KeyError"),
    error(200, "", "'list' object has no attribute 'get'", "AttributeError"),
    error(200, "", "'content-type'", "KeyError"),
    error(200, "", "'order_id'", "KeyError"),
    error(200, "", "cannot access local variable '_list'", "UnboundLocalError"),
    error(200, "", "Couldn't parse the JSON response", "DataException"),
    error(200, "TokenException", "Incorrect `api_key` or `access_token`."),
    error(403, "", "<html>blocked</html>", "DataException"),
    # Answers that look like success and are not.
    Reply(http_status=200),
    Reply(http_status=200, order_id=""),
    Reply(http_status=200, order_id=171229000724687),
    Reply(http_status=200, order_id="../../session/token"),
    Reply(http_status=200, order_id={"order_id": "1"}),
    Reply(http_status=200, order_id="171229000724687", failure="ChunkedEncodingError"),
    Reply(http_status=500, order_id="171229000724687"),
    Reply(http_status=202, order_id="171229000724687"),
    Reply(http_status=302, order_id="171229000724687"),
    error(301, "", "", "DataException"),
]


def test_an_id_with_status_200_is_an_acknowledgement() -> None:
    assert classify(Reply(http_status=200, order_id="1984561230004567890")) == Acked("1984561230004567890")


@pytest.mark.parametrize(("reply", "code"), REFUSED_FOR_GOOD)
def test_a_known_refusal_is_final_and_concerns_this_order_only(reply: Reply, code: str) -> None:
    outcome = classify(reply)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retryable, outcome.halts) == (code, False, False)


@pytest.mark.parametrize(("reply", "code"), REFUSED_AND_RETRYABLE)
def test_an_order_that_never_entered_may_be_tried_as_a_new_attempt(reply: Reply, code: str) -> None:
    outcome = classify(reply)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retryable, outcome.halts) == (code, True, False)


@pytest.mark.parametrize(("reply", "code"), REFUSED_AND_HALTING)
def test_a_refusal_every_order_would_meet_halts(reply: Reply, code: str) -> None:
    outcome = classify(reply)
    assert isinstance(outcome, Refused)
    assert (outcome.code, outcome.retryable, outcome.halts) == (code, False, True)


@pytest.mark.parametrize("reply", UNKNOWN)
def test_everything_else_is_unknown(reply: Reply) -> None:
    outcome = classify(reply)
    assert isinstance(outcome, Unknown)
    assert outcome.reason


def test_the_reason_names_status_type_failure_and_text() -> None:
    assert classify(error(503, "NetworkException", "down", "NetworkException")) == Unknown(
        "HTTP 503: NetworkException: down"
    )
    assert classify(Reply(failure="ReadTimeout", message="late")) == Unknown("no HTTP answer: ReadTimeout: late")


@given(
    status=st.sampled_from([200, 201, 301, 302, 400, 401, 403, 404, 429, 500, 502, 503, 504]),
    error_type=st.sampled_from(["", "InputException", "TokenException", "PermissionException", "GeneralException"]),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    words=st.sampled_from(["timed out", "Timed Out", "timed-out", "time out", "timeout", "TIMED OUT"]),
)
def test_no_status_makes_a_timed_out_text_a_refusal(
    status: int, error_type: str, before: str, after: str, words: str
) -> None:
    reply = error(status, error_type, f"{before} {words} {after} {FUNDS}", "GeneralException")
    assert isinstance(classify(reply), Unknown)


@given(
    status=st.integers(min_value=100, max_value=599).filter(lambda status: status not in (428, 429)),
    error_type=st.sampled_from(["", "InputException", "OrderException", "NetworkException", "DataException"]),
    message=st.text(max_size=60),
)
def test_a_text_nobody_has_seen_is_never_a_refusal(status: int, error_type: str, message: str) -> None:
    assert isinstance(classify(error(status, error_type, message)), Unknown)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(http_status=200, order_id="1"), CancelSent),
        (error(400, "InputException", "Order cannot be cancelled as it is being processed. Try later."), CancelRefused),
        (error(404, "GeneralException", "Couldn't find that `order_id`."), CancelRefused),
        (error(403, "TokenException", "Incorrect `api_key` or `access_token`."), CancelRefused),
        (error(429, "", "slow down", "DataException"), CancelRefused),
        (Reply(nothing_sent=True, failure="ConnectTimeout"), CancelRefused),
        (error(400, "InputException", TIMED_OUT), CancelUnknown),
        (error(200, "", "'content-type'", "KeyError"), CancelUnknown),
        (error(302, "", "", "DataException"), CancelUnknown),
        (error(404, "", "<html>", "DataException"), CancelUnknown),
        (error(503, "NetworkException", "down"), CancelUnknown),
        (Reply(failure="ReadTimeout"), CancelUnknown),
    ],
)
def test_a_cancel_answer_only_tells_whether_the_request_was_taken(reply: Reply, expected: type) -> None:
    assert isinstance(classify_cancel(reply), expected)
