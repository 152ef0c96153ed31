"""Windows of the rate limiter, in virtual time."""

import pytest

from kite_simulator.engine import Refused
from kite_simulator.ratelimit import ORDERS_PER_DAY, RateLimiter


def test_ten_orders_fit_into_any_second():
    limiter = RateLimiter()
    for number in range(10):
        limiter.take_order(number * 0.05, 0, is_cancel=False)
    with pytest.raises(Refused, match="Too many requests") as refusal:
        limiter.take_order(0.99, 0, is_cancel=True)
    assert (refusal.value.status, refusal.value.error_type) == (429, "NetworkException")
    limiter.take_order(1.0, 0, is_cancel=False)


def test_four_hundred_orders_fit_into_any_minute_and_cancels_do_not_count():
    limiter = RateLimiter()
    for number in range(400):
        limiter.take_order(number * 0.11, 0, is_cancel=False)
    with pytest.raises(Refused):
        limiter.take_order(55.0, 0, is_cancel=False)
    limiter.take_order(55.0, 0, is_cancel=True)
    limiter.take_order(60.0, 0, is_cancel=False)


def test_day_cap_refuses_with_its_own_text():
    with pytest.raises(Refused, match="Maximum allowed order requests exceeded"):
        RateLimiter().take_order(0.0, ORDERS_PER_DAY, is_cancel=False)


def test_classes_of_reads_are_counted_apart():
    limiter = RateLimiter()
    limiter.take_read(0.0, "/quote/ltp")
    with pytest.raises(Refused):
        limiter.take_read(0.9, "/quote")
    for _ in range(3):
        limiter.take_read(0.9, "/instruments/historical/1/day")
    with pytest.raises(Refused):
        limiter.take_read(0.9, "/instruments/historical/1/day")
    for _ in range(10):
        limiter.take_read(0.9, "/orders")
    with pytest.raises(Refused):
        limiter.take_read(0.9, "/trades")


def test_refused_orders_use_up_the_daily_allowance(market):
    with pytest.raises(Refused):
        market.place(price="1320.03")
    order = market.place(price="1320")
    market.engine.modify("regular", order.order_id, {"price": "1319"})
    market.engine.cancel("regular", order.order_id)
    assert market.state.order_requests == 3
