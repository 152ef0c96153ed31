"""Properties over random command sequences: fills, money and the replay of the journal."""

import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kite_simulator.engine import Refused
from kite_simulator.engine.journal import Journal
from kite_simulator.engine.kernel import Kernel
from kite_simulator.engine.orders import TERMINAL, Status

SYMBOLS = ["RELIANCE", "TCS"]
TICK = 10

place_words = st.fixed_dictionaries(
    {
        "do": st.just("place"),
        "variety": st.sampled_from(["regular", "regular", "regular", "co", "iceberg", "amo"]),
        "symbol": st.sampled_from(SYMBOLS),
        "side": st.sampled_from(["BUY", "SELL"]),
        "order_type": st.sampled_from(["LIMIT", "LIMIT", "MARKET", "SL", "SL-M"]),
        "product": st.sampled_from(["CNC", "MIS"]),
        "quantity": st.integers(1, 200),
        "ticks": st.integers(-60, 60),
        "validity": st.sampled_from(["DAY", "DAY", "IOC", "TTL"]),
    }
)
other_words = st.one_of(
    st.fixed_dictionaries(
        {
            "do": st.just("modify"),
            "index": st.integers(0, 50),
            "quantity": st.integers(1, 200),
            "ticks": st.integers(-60, 60),
        }
    ),
    st.fixed_dictionaries({"do": st.just("cancel"), "index": st.integers(0, 50)}),
    st.fixed_dictionaries({"do": st.just("wait"), "seconds": st.sampled_from([0.2, 1.0, 7.0, 400.0, 86_400.0])}),
    st.fixed_dictionaries({"do": st.just("price"), "symbol": st.sampled_from(SYMBOLS), "ticks": st.integers(-80, 80)}),
)
scripts = st.lists(st.one_of(place_words, place_words, place_words, other_words), min_size=15, max_size=40)


def play(market, script):
    """Run a script; refusals are part of life. Checks the books after every step."""
    starts = {symbol: market.last(f"NSE:{symbol}") for symbol in SYMBOLS}
    ever = {}
    for word in script:
        with suppress(Refused):
            step(market, word, starts)
        ever.update(market.state.orders)
        check_books(market, ever)
    return ever


def rupees(paise):
    return f"{paise // 100}.{paise % 100:02d}"


def step(market, word, starts):
    engine = market.engine
    if word["do"] == "wait":
        market.pass_time(word["seconds"])
    elif word["do"] == "price":
        market.set_price(f"NSE:{word['symbol']}", starts[word["symbol"]] + word["ticks"] * TICK)
    elif word["do"] == "place":
        place_valid(market, word)
    elif market.state.orders:
        orders = list(market.state.orders.values())
        order = orders[word["index"] % len(orders)]
        if word["do"] == "cancel":
            engine.cancel(order.variety, order.order_id)
        else:
            price = rupees(starts[order.symbol] + word["ticks"] * TICK)
            engine.modify(order.variety, order.order_id, {"quantity": str(word["quantity"]), "price": price})


def place_valid(market, word):
    """Bend a random word into an order that passes the plain checks, so that most scripts trade."""
    variety, order_type, product, quantity = word["variety"], word["order_type"], word["product"], word["quantity"]
    last = market.last(f"NSE:{word['symbol']}")
    ahead = abs(word["ticks"]) * TICK * (1 if word["side"] == "BUY" else -1)
    price, trigger = last + word["ticks"] * TICK, last + ahead
    extra = {}
    if variety == "co":
        product, order_type = "MIS", "LIMIT"
        trigger = last - 80 * TICK * (1 if word["side"] == "BUY" else -1)
    elif variety == "iceberg":
        order_type, quantity = "LIMIT", 2 * quantity
        extra = {"iceberg_legs": 2, "iceberg_quantity": word["quantity"]}
    elif order_type == "SL":
        price = trigger + ahead
    market.place(
        variety,
        tradingsymbol=word["symbol"],
        transaction_type=word["side"],
        order_type=order_type,
        product=product,
        quantity=quantity,
        price=rupees(price),
        trigger_price=rupees(trigger),
        validity=word["validity"],
        validity_ttl=5,
        market_protection="-1",
        **extra,
    )


def check_books(market, ever):
    state = market.state
    for order in ever.values():
        assert 0 <= order.filled_quantity <= order.quantity
        assert order.filled_quantity + order.cancelled_quantity + order.pending_quantity == order.quantity
        if order.status is Status.COMPLETE:
            assert order.filled_quantity == order.quantity
        if order.status in TERMINAL:
            assert order.blocked_paise == 0
            assert order.order_id not in state.live.get(order.key, {})
    blocked = sum(order.blocked_paise for orders in state.live.values() for order in orders.values())
    assert state.account.blocked_paise == blocked
    for holding in state.account.holdings.values():
        assert holding.total >= 0
        assert holding.cost_paise >= 0
        assert state.account.sellable(holding.isin, state.pending_delivery_sells(holding.isin)) >= 0


def conserve(market):
    """Cash and shares follow from the trades of the log alone."""
    facts = market.engine.kernel.facts
    side = {fact["order"]["order_id"]: fact["order"] for fact in facts if fact["kind"] == "order_received"}
    cash, shares, charges = market.engine.settings.opening_cash_paise, 0, 0
    filled = {}
    for fact in facts:
        if fact["kind"] == "trade":
            sign = 1 if side[fact["order_id"]]["side"] == "BUY" else -1
            cash -= sign * fact["quantity"] * fact["price_paise"]
            shares += sign * fact["quantity"]
            filled[fact["order_id"]] = filled.get(fact["order_id"], 0) + fact["quantity"]
        elif fact["kind"] == "day_rolled":
            charges += fact["charges_paise"]
        elif fact["kind"] == "holding_given":
            shares += fact["quantity"]
    account = market.state.account
    assert account.cash_paise + account.net_flow_paise() == cash - charges
    held = sum(h.total for h in account.holdings.values()) + sum(p.quantity for p in account.positions.values())
    assert held == shares
    trade_ids = [fact["trade_id"] for fact in facts if fact["kind"] == "trade"]
    assert len(trade_ids) == len(set(trade_ids))
    return filled


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=scripts, partial=st.sampled_from([0.0, 1.0]), latency=st.sampled_from([0.0, 2.0]))
def test_books_hold_and_replay_rebuilds_them(make_market, script, partial, latency):
    with tempfile.TemporaryDirectory() as folder:
        market = make_market(
            Path(folder), partial_fill_probability=partial, order_latency_s=latency, frozen=False, tick_interval_s=5.0
        )
        for symbol in SYMBOLS:
            market.give(f"NSE:{symbol}", 300)
        ever = play(market, script)
        filled = conserve(market)
        for order_id, order in ever.items():
            assert filled.get(order_id, 0) == order.filled_quantity
        market.engine.close()

        again = Kernel(market.engine.settings, market.clock, Journal(Path(folder)))
        again.replay()
        assert again.state == market.state
        assert again.facts == market.engine.kernel.facts


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=scripts)
def test_same_seed_and_script_give_the_same_facts(make_market, script):
    runs = []
    for _ in range(2):
        market = make_market(partial_fill_probability=0.5, frozen=False, tick_interval_s=5.0)
        play(market, script)
        runs.append(market.engine.kernel.facts)
    assert runs[0] == runs[1]
