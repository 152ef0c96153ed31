"""Risk checks: every refusal has its code, and nothing is written by a refused order."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_service import risk
from portfolio_service.orders import OrderRequest
from portfolio_service.risk import RATE_UNITS, Limits, MarketFacts, RateBucket, Refusal, Terms

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
LIMITS = Limits()
MARKET = MarketFacts(
    tick_paise=5,
    lot_size=1,
    lower_band_paise=135_000,
    upper_band_paise=165_000,
    price_paise=150_000,
    price_at=NOW,
    is_open=True,
    trading_date=date(2026, 11, 23),
)
BUY = OrderRequest("NSE", "INFY", "BUY", "CNC", "MARKET", 10)
LIMIT = replace(BUY, order_type="LIMIT", price_paise=150_000)
STOP = replace(BUY, order_type="SL", price_paise=152_000, trigger_price_paise=151_000)


def judge(request: OrderRequest, market: MarketFacts = MARKET, limits: Limits = LIMITS, kyc: str = "approved") -> Any:
    return risk.judge(request, market, limits, now=NOW, kyc=kyc)


@pytest.mark.parametrize(
    ("code", "request_", "market"),
    [
        ("unknown_instrument", BUY, replace(MARKET, tick_paise=None)),
        ("product_not_supported", replace(BUY, product="MTF"), MARKET),
        ("quantity_invalid", replace(BUY, quantity=0), MARKET),
        ("quantity_invalid", replace(BUY, quantity=-5), MARKET),
        ("quantity_limit", replace(BUY, quantity=10_001), MARKET),
        ("lot_multiple", replace(BUY, quantity=10), replace(MARKET, lot_size=3)),
        ("price_required", replace(LIMIT, price_paise=None), MARKET),
        ("price_required", replace(STOP, price_paise=None), MARKET),
        ("price_not_allowed", replace(BUY, price_paise=150_000), MARKET),
        ("trigger_price_required", replace(STOP, trigger_price_paise=None), MARKET),
        ("trigger_price_not_allowed", replace(LIMIT, trigger_price_paise=150_000), MARKET),
        ("ttl_invalid", replace(BUY, validity="TTL"), MARKET),
        ("ttl_invalid", replace(BUY, validity="TTL", ttl_minutes=376), MARKET),
        ("ttl_invalid", replace(BUY, ttl_minutes=5), MARKET),
        ("market_closed", BUY, replace(MARKET, is_open=False)),
        ("market_closed", BUY, replace(MARKET, trading_date=None)),
        ("stale_price", BUY, replace(MARKET, price_at=NOW - timedelta(seconds=11))),
        ("stale_price", BUY, replace(MARKET, price_paise=None, price_at=None)),
        ("tick_size", replace(LIMIT, price_paise=150_003), MARKET),
        ("tick_size", replace(LIMIT, price_paise=0), MARKET),
        ("tick_size", replace(STOP, trigger_price_paise=151_001), MARKET),
        ("price_band", replace(LIMIT, price_paise=154_505), MARKET),
        ("price_band", replace(LIMIT, price_paise=145_495), MARKET),
        ("price_band", replace(LIMIT, price_paise=165_005), MARKET),
        ("price_band", replace(STOP, trigger_price_paise=165_005, price_paise=165_005), MARKET),
        ("price_band", replace(STOP, price_paise=155_535), MARKET),
        ("trigger_price_invalid", replace(STOP, trigger_price_paise=150_000), MARKET),
        ("trigger_price_invalid", replace(STOP, price_paise=150_995), MARKET),
        ("trigger_price_invalid", replace(STOP, side="SELL", trigger_price_paise=150_000), MARKET),
        ("order_value_limit", replace(BUY, quantity=324), MARKET),
    ],
)
def test_each_bad_order_has_its_code(code: str, request_: OrderRequest, market: MarketFacts) -> None:
    result = judge(request_, market)
    assert isinstance(result, Refusal)
    assert result.code == code
    assert result.detail.endswith(".")


@pytest.mark.parametrize(
    ("request_", "worst"),
    [
        (BUY, 154_500),
        (replace(BUY, side="SELL"), 150_000),
        (LIMIT, 150_000),
        (replace(LIMIT, price_paise=154_500), 154_500),
        (replace(LIMIT, price_paise=145_500), 145_500),
        (STOP, 152_000),
        (replace(STOP, order_type="SL-M", price_paise=None), 155_530),
        (replace(STOP, side="SELL", trigger_price_paise=140_000, price_paise=139_000), 139_000),
        (replace(BUY, validity="TTL", ttl_minutes=5), 154_500),
        (replace(BUY, product="MIS"), 154_500),
        (replace(BUY, quantity=323), 154_500),
    ],
)
def test_good_orders_are_valued_at_their_worst_price(request_: OrderRequest, worst: int) -> None:
    assert judge(request_) == Terms(worst, worst * request_.quantity, date(2026, 11, 23))


def test_queued_order_is_judged_by_the_last_close_however_old() -> None:
    closed = replace(MARKET, is_open=False, price_at=NOW - timedelta(days=3), trading_date=date(2026, 11, 24))
    result = judge(replace(BUY, queue_when_closed=True), closed)
    assert isinstance(result, Terms)
    assert result.trading_date == date(2026, 11, 24)


def test_kyc_comes_first_and_can_be_switched_off() -> None:
    refused = judge(replace(BUY, quantity=0), kyc="pending")
    assert isinstance(refused, Refusal)
    assert refused.code == "kyc_required"
    assert isinstance(judge(BUY, limits=replace(LIMITS, kyc_required=False), kyc="none"), Terms)


def test_tick_message_names_tick_and_nearest_prices() -> None:
    refused = judge(replace(LIMIT, price_paise=150_003))
    assert isinstance(refused, Refusal)
    assert "₹0.05" in refused.detail
    assert "₹1500.00 or ₹1500.05" in refused.detail
    assert refused.facts == {"tick": "0.05", "nearest": ["1500.00", "1500.05"]}


def test_band_message_names_valid_prices_on_the_tick() -> None:
    refused = judge(replace(LIMIT, price_paise=160_000), replace(MARKET, tick_paise=10, price_paise=150_001))
    assert isinstance(refused, Refusal)
    assert refused.facts == {"lowest": "1455.10", "highest": "1545.00"}


@given(price=st.integers(1, 400_000), tick=st.sampled_from([1, 5, 10, 50, 100, 500]))
def test_offered_nearest_prices_are_valid_ticks_around_the_price(price: int, tick: int) -> None:
    refused = judge(replace(LIMIT, price_paise=price), replace(MARKET, tick_paise=tick))
    if price % tick == 0:
        assert not isinstance(refused, Refusal) or refused.code != "tick_size"
        return
    assert isinstance(refused, Refusal)
    below, above = (round(float(text) * 100) for text in refused.facts["nearest"])
    assert below % tick == above % tick == 0
    assert 0 < below <= above
    assert below <= max(price, tick)
    assert above > price - tick


@given(
    steps=st.lists(st.integers(0, 90_000_000), min_size=1, max_size=60),
    per_minute=st.integers(1, 40),
)
def test_rate_never_lets_more_than_a_minutes_allowance_through_above_the_refill(
    steps: list[int], per_minute: int
) -> None:
    limits = replace(LIMITS, submissions_per_minute=per_minute)
    bucket: RateBucket | None = None
    now, taken = NOW, 0
    for step in steps:
        now += timedelta(microseconds=step)
        result = risk.take_submission(bucket, now, limits)
        if isinstance(result, RateBucket):
            bucket, taken = result, taken + 1
            assert 0 <= bucket.level < per_minute * RATE_UNITS
        else:
            later = now + timedelta(seconds=result.facts["retry_after"])
            assert isinstance(risk.take_submission(bucket, later, limits), RateBucket)
    elapsed_s = (now - NOW).total_seconds()
    assert taken <= per_minute + elapsed_s * per_minute / 60


# --- over HTTP: the table again, with nothing written -----------------------------------------------------------------

BAD_ORDERS: list[tuple[str, int, dict[str, Any]]] = [
    ("unknown_instrument", 422, {"tradingsymbol": "NOSUCH"}),
    ("product_not_supported", 422, {"product": "MTF"}),
    ("quantity_invalid", 422, {"quantity": 0}),
    ("quantity_invalid", 422, {"quantity": -1}),
    ("quantity_limit", 422, {"quantity": 10_001}),
    ("price_required", 422, {"order_type": "LIMIT"}),
    ("price_not_allowed", 422, {"price": "1500"}),
    ("trigger_price_required", 422, {"order_type": "SL", "price": "1500"}),
    ("trigger_price_not_allowed", 422, {"trigger_price": "1500"}),
    ("tick_size", 422, {"order_type": "LIMIT", "price": "1500.03"}),
    ("price_band", 422, {"order_type": "LIMIT", "price": "1600"}),
    ("order_value_limit", 422, {"quantity": 400}),
    ("insufficient_funds", 422, {"quantity": 100}),
    ("insufficient_shares", 422, {"side": "SELL"}),
    ("ttl_invalid", 422, {"validity": "TTL"}),
    ("portfolio_not_found", 404, {"portfolio_id": "00000000-0000-4000-8000-000000000000"}),
    ("invalid_request", 422, {"quantity": "10"}),
    ("invalid_request", 422, {"quantity": 1.5}),
    ("invalid_request", 422, {"quantity": True}),
    ("invalid_request", 422, {"quantity": 10**30}),
    ("invalid_request", 422, {"price": "1e3", "order_type": "LIMIT"}),
    ("invalid_request", 422, {"price": 1500.0, "order_type": "LIMIT"}),
    ("invalid_request", 422, {"price": "NaN", "order_type": "LIMIT"}),
    ("invalid_request", 422, {"price": "-1", "order_type": "LIMIT"}),
    ("invalid_request", 422, {"price": "1.005", "order_type": "LIMIT"}),
    ("invalid_request", 422, {"side": "HOLD"}),
    ("invalid_request", 422, {"order_type": "GTT"}),
    ("invalid_request", 422, {"validity": "GTC"}),
    ("invalid_request", 422, {"tradingsymbol": "INFY'; DROP TABLE account"}),
    ("invalid_request", 422, {"user_id": "00000000-0000-4000-8000-000000000000"}),
    ("invalid_request", 422, {"portfolio_id": "mine"}),
    ("invalid_request", 422, {"tag": "x" * 41}),
]


def test_bad_orders_are_refused_with_their_code_and_nothing_is_written(room: Any) -> None:
    user = room.customer()
    room.give(user, "10000")
    before = {table: room.count(table) for table in ("transfer", "outbox", "idempotency_key", "account")}
    for code, status, body in BAD_ORDERS:
        response = room.order(user, **body)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code), (body, problem)
        assert response.headers["content-type"] == "application/problem+json"
        assert problem["detail"]
    assert room.count("user_order") == 0
    assert {table: room.count(table) for table in before} == before
    assert room.funds(user)["available"] == "10000.00"


def test_refusals_of_the_market_and_of_the_user(room: Any) -> None:
    user = room.customer()
    room.give(user, "10000")
    room.market.is_open = False
    assert room.order(user).json()["code"] == "market_closed"
    assert room.order(user, queue_when_closed=True).status_code == 202
    room.market.is_open = True
    room.market.price_age_s = 60
    assert room.order(user).json()["code"] == "stale_price"
    room.market.price_age_s = 0
    room.market.lot_size = 5
    assert room.order(user, quantity=3).json()["code"] == "lot_multiple"
    room.market.lot_size = 1
    room.market.bands["NSE", "INFY"] = (149_000, 151_000)
    assert room.order(user, order_type="LIMIT", price="1520").json()["code"] == "price_band"
    newcomer = room.customer(kyc="pending")
    response = room.order(newcomer)
    assert (response.status_code, response.json()["code"]) == (403, "kyc_required")
    assert room.count("user_order") == 1


def test_daily_value_limit_counts_what_was_accepted_today(room: Any) -> None:
    room.use(daily_value_max_rupees=4_000)
    user = room.customer()
    room.give(user, "20000")
    assert room.order(user, order_type="LIMIT", price="1500").status_code == 202
    assert room.order(user, order_type="LIMIT", price="1500").status_code == 202
    refused = room.order(user, order_type="LIMIT", price="1500").json()
    assert (refused["code"], refused["so_far"]) == ("daily_value_limit", "3000.00")
    room.next_day()
    assert room.order(user, order_type="LIMIT", price="1500").status_code == 202


def test_shares_of_yesterday_wait_for_delivery_where_btst_is_off(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 5, 150_000)
    room.use(allow_btst=False)
    assert room.order(user, side="SELL").json()["code"] == "insufficient_shares"
    room.next_day()
    assert room.order(user, side="SELL").json()["code"] == "insufficient_shares"
    room.next_day()
    assert room.order(user, side="SELL").status_code == 202


def test_intraday_shares_are_apart_from_delivered_ones(room: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 5, 150_000, product="MIS")
    assert room.order(user, side="SELL", product="CNC").json()["code"] == "insufficient_shares"
    order_id = room.accepted(user, side="SELL", product="INTRADAY", quantity=5)
    room.fill(order_id, 151_000)
    position = room.get(user, "/positions").json()["items"][0]
    assert (position["product"], position["quantity"], position["realised"]) == ("MIS", 0, "50.00")
    room.sound()
