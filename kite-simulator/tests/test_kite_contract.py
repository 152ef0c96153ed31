"""What the public integration suite of the official client demands of a server, in the compat profile.

Our own wording of the demands (fact sheet section 10); the suite itself is run by hand, see the README.
"""

import time

import httpx
import pytest
from kiteconnect import KiteConnect, exceptions

DEADLINE_S = 10
LIMITS = [
    ("minute", 30),
    ("hour", 365),
    ("day", 2000),
    ("3minute", 90),
    ("5minute", 90),
    ("10minute", 90),
    ("15minute", 180),
    ("30minute", 180),
    ("60minute", 365),
]


@pytest.fixture
def kite(serve):
    server = serve(profile="compat", api_key="akey", access_token="atoken")
    return KiteConnect("akey", access_token="atoken", root=server.url)


def settled(kite, order_id):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        row = kite.order_history(order_id)[-1]
        if row["status"] in ("OPEN", "COMPLETE", "REJECTED", "CANCELLED", "TRIGGER PENDING"):
            return row
        time.sleep(0.02)
    raise AssertionError("the order did not settle")


def place(kite, variety, order_type, **given):
    return kite.place_order(variety, "NSE", "RELIANCE", "BUY", 1, "MIS", order_type, **given)


def below_last(kite):
    last = kite.ltp("NSE:RELIANCE")["NSE:RELIANCE"]["last_price"]
    diff = last * 0.01
    return last - (diff - diff % 1)


def test_invalid_token_is_a_token_exception(kite):
    kite.set_access_token("invalid_token")
    for call in (kite.positions, kite.orders):
        with pytest.raises(exceptions.TokenException):
            call()


@pytest.mark.parametrize(("interval", "days"), LIMITS, ids=[name for name, _ in LIMITS])
def test_candle_span_limits_of_old(kite, interval, days):
    assert kite.historical_data(256265, "2026-06-01", f"2026-06-{1 + min(days // 3, 10):02d}", interval)
    with pytest.raises(exceptions.InputException):
        kite.historical_data(256265, "2020-01-01 00:00:00", "2026-06-01 00:00:00", interval)


def test_market_order_without_protection_shows_its_tag_in_the_first_row(kite):
    order_id = place(kite, "regular", "MARKET", tag="mytag")
    history = kite.order_history(order_id)
    assert history[0]["tag"] == "mytag"
    assert settled(kite, order_id)["product"] == "MIS"


def test_stop_orders_below_the_last_price_are_taken(kite):
    price = below_last(kite)
    stop = settled(kite, place(kite, "regular", "SL", price=price, trigger_price=price - 1))
    assert (stop["price"], stop["trigger_price"]) == (price, price - 1)
    stop_market = settled(kite, place(kite, "regular", "SL-M", trigger_price=price))
    assert (stop_market["price"], stop_market["trigger_price"]) == (0, price)


@pytest.mark.parametrize("variety", ["regular", "amo"])
def test_limit_order_is_modified_and_cancelled(kite, variety):
    price = below_last(kite)
    order_id = place(kite, variety, "LIMIT", price=price)
    assert kite.modify_order(variety, order_id, quantity=2, price=price - 1) == order_id
    row = kite.order_history(order_id)[-1]
    assert (row["quantity"], row["price"]) == (2, price - 1)
    kite.cancel_order(variety, order_id)
    assert "CANCELLED" in kite.order_history(order_id)[-1]["status"]


def test_cover_order_has_a_second_leg_that_exits(kite):
    order_id = place(kite, "co", "MARKET", trigger_price=below_last(kite))
    row = settled(kite, order_id)
    assert (row["status"], row["product"], row["variety"]) == ("COMPLETE", "CO", "co")
    leg = next(order for order in kite.orders() if order["parent_order_id"] == order_id)
    kite.exit_order("co", leg["order_id"], parent_order_id=order_id)
    assert settled(kite, leg["order_id"])["status"] == "COMPLETE"


def test_cover_order_with_a_limit_but_no_price_is_not_refused_at_once(kite):
    row = settled(kite, place(kite, "co", "LIMIT", trigger_price=below_last(kite)))
    assert (row["product"], row["variety"]) == ("CO", "co")


def test_trigger_range_names_every_key(kite):
    for side in ("buy", "sell"):
        answer = kite.trigger_range(side, "NSE:INFY", "NSE:RELIANCE")
        assert set(answer) == {"NSE:INFY", "NSE:RELIANCE"}
        assert all(row["lower"] < row["upper"] for row in answer.values())


def test_csv_answers_say_so(kite):
    headers = {"Authorization": "token akey:atoken"}
    for path in ("/instruments", "/instruments/NSE", "/mf/instruments"):
        answer = httpx.get(kite.root + path, headers=headers, trust_env=False)
        assert "csv" in answer.headers["content-type"]
