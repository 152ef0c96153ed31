"""The wire, spoken by the unmodified official client over a real socket."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import orjson
import pytest
from kiteconnect import KiteConnect, exceptions

from kite_simulator.engine.clock import IST
from kite_simulator.engine.sessions import checksum

DEADLINE_S = 15


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}")


def buy(kite, **given):
    fields = {
        "variety": "regular",
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "quantity": 10,
        "product": "CNC",
        "order_type": "LIMIT",
        **given,
    }
    return kite.place_order(**fields)


@pytest.fixture
def server(serve):
    return serve(rate_limits=False, partial_fill_probability=0.0)


@pytest.fixture
def kite(server, log_in):
    return log_in(server)


def test_login_page_sends_the_browser_back_with_a_single_use_token(server):
    page = f"{server.url}/connect/login?api_key=saras-dev&v=3&redirect_params=state%3D7"
    answer = httpx.get(page, trust_env=False, follow_redirects=False)
    assert answer.status_code == 302
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (query["status"], query["action"], query["state"]) == (["success"], ["login"], ["7"])
    kite = KiteConnect("saras-dev", root=server.url)
    session = kite.generate_session(query["request_token"][0], "saras-dev-secret")
    assert session["login_time"].year >= 2026
    assert kite.profile()["user_id"] == session["user_id"]
    with pytest.raises(exceptions.TokenException, match="Token is invalid or has expired"):
        kite.generate_session(query["request_token"][0], "saras-dev-secret")


def test_forged_checksum_and_dead_token_are_refused(server, log_in):
    token = httpx.post(f"{server.url}/simulator/request_token", trust_env=False).json()["data"]["request_token"]
    with pytest.raises(exceptions.TokenException):
        KiteConnect("saras-dev", root=server.url).generate_session(token, "wrong")
    kite, other = log_in(server), log_in(server)
    calls = []
    kite.set_session_expiry_hook(lambda: calls.append(1))
    assert kite.invalidate_access_token() is True
    with pytest.raises(exceptions.TokenException, match="Incorrect `api_key` or `access_token`"):
        kite.orders()
    assert calls == [1]
    assert other.orders() == []


def test_place_fill_and_read_back(server, kite):
    order_id = buy(kite, price=1160, tag="wire 1")
    order = kite.orders()[0]
    assert (order["order_id"], order["status"], order["tag"], order["tags"]) == (
        order_id,
        "COMPLETE",
        "wire 1",
        ["wire 1"],
    )
    assert order["order_timestamp"].tzinfo is None
    trade = kite.trades()[0]
    assert trade["quantity"] == 10
    assert kite.order_trades(order_id) == [trade]
    assert kite.order_history(order_id)[0]["status"] == "PUT ORDER REQ RECEIVED"
    position = kite.positions()["net"][0]
    assert (position["quantity"], position["product"]) == (10, "CNC")
    assert position["pnl"] == pytest.approx(position["value"] + position["quantity"] * position["last_price"])
    margins = kite.margins("equity")
    assert margins["net"] == pytest.approx(margins["available"]["cash"] - margins["utilised"]["debits"])
    assert margins["utilised"]["delivery"] == pytest.approx(10 * trade["average_price"])


def test_modify_and_cancel(kite):
    order_id = buy(kite, price=1100)
    assert kite.modify_order("regular", order_id, quantity=12, price=1101) == order_id
    row = kite.order_history(order_id)[-1]
    assert (row["quantity"], row["price"], row["status"]) == (12, 1101, "OPEN")
    assert kite.cancel_order("regular", order_id) == order_id
    assert kite.order_history(order_id)[-1]["status"] == "CANCELLED"
    with pytest.raises(exceptions.InputException, match="cannot be cancelled"):
        kite.cancel_order("regular", order_id)


def test_funds_refusal_is_a_general_exception_of_code_400(server, kite):
    httpx.post(f"{server.url}/simulator/cash", json={"amount": -999_999_000}, trust_env=False)
    with pytest.raises(exceptions.GeneralException, match="Insufficient funds") as refusal:
        buy(kite, price=1160)
    assert refusal.value.code == 400


def test_error_envelope_is_complete_for_unknown_routes_too(server):
    for answer in (
        httpx.get(f"{server.url}/nowhere", trust_env=False),
        httpx.get(f"{server.url}/orders", trust_env=False),
        httpx.post(f"{server.url}/user/profile", trust_env=False),
    ):
        body = answer.json()
        assert body["status"] == "error"
        assert set(body) == {"status", "message", "data", "error_type"}
        assert answer.headers["content-type"] == "application/json"


def test_instruments_hold_fifty_shares_and_the_index(kite):
    rows = kite.instruments("NSE")
    shares = {row["tradingsymbol"]: row for row in rows if row["segment"] == "NSE"}
    assert len(shares) == 50
    assert (shares["INFY"]["instrument_token"], shares["M&M"]["instrument_token"]) == (408065, 519937)
    assert all(row["instrument_token"] % 256 == 1 for row in shares.values())
    assert next(row for row in rows if row["tradingsymbol"] == "NIFTY 50")["instrument_token"] == 256265
    assert len({row["tick_size"] for row in rows}) >= 4


def test_symbol_with_an_ampersand_trades(kite):
    order_id = buy(kite, tradingsymbol="M&M", price=3060)
    assert kite.order_history(order_id)[-1]["tradingsymbol"] == "M&M"


def test_quotes_by_key_and_by_token_leave_unknown_ones_out(kite):
    quote = kite.quote("NSE:INFY", "NSE:NOSUCH")
    assert list(quote) == ["NSE:INFY"]
    row = quote["NSE:INFY"]
    assert len(row["depth"]["buy"]) == len(row["depth"]["sell"]) == 5
    assert row["lower_circuit_limit"] < row["last_price"] < row["upper_circuit_limit"]
    assert row["ohlc"]["close"] == 1154.6
    assert kite.ltp(408065)["408065"]["instrument_token"] == 408065
    assert set(kite.ohlc("NSE:NIFTY 50")["NSE:NIFTY 50"]["ohlc"]) == {"open", "high", "low", "close"}


def test_candles_end_at_the_last_real_close_and_respect_the_span(server, kite):
    today = server.engine.kernel.state.day
    days = kite.historical_data(408065, "2026-01-01", str(today), "day", oi=True)
    history = [row for row in days if row["date"].astimezone(IST).date() < today]
    assert history[-1]["close"] == 1154.6
    assert all(row["low"] <= min(row["open"], row["close"]) <= row["high"] for row in days)
    assert history == [
        row
        for row in kite.historical_data(408065, "2026-01-01", str(today), "day", oi=True)
        if row["date"].astimezone(IST).date() < today
    ]
    last = history[-1]["date"].date()
    minutes = kite.historical_data(408065, f"{last} 09:15:00", f"{last} 15:30:00", "minute")
    assert len(minutes) == 375
    assert minutes[-1]["close"] == history[-1]["close"]
    assert len(kite.historical_data(408065, f"{last} 09:15:00", f"{last} 15:30:00", "15minute")) == 25
    with pytest.raises(exceptions.InputException, match="interval exceeds max limit: 60 days"):
        kite.historical_data(408065, "2026-01-01", "2026-04-01", "minute")


def test_triggers_over_the_wire(kite):
    last = kite.ltp("NSE:INFY")["NSE:INFY"]["last_price"]
    order = {"transaction_type": "BUY", "quantity": 1, "order_type": "LIMIT", "product": "CNC", "price": 1100}
    placed = kite.place_gtt("single", "INFY", "NSE", [1100], last, [order])
    trigger_id = placed["trigger_id"]
    assert kite.get_gtt(trigger_id)["status"] == "active"
    assert kite.modify_gtt(trigger_id, "single", "INFY", "NSE", [1090], last, [order])["trigger_id"] == trigger_id
    assert kite.get_gtts()[0]["condition"]["trigger_values"] == [1090]
    kite.delete_gtt(trigger_id)
    assert kite.get_gtt(trigger_id)["status"] == "deleted"


def test_margin_and_charge_calculators(kite):
    order = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "variety": "regular",
        "product": "CNC",
        "order_type": "LIMIT",
        "quantity": 10,
        "price": 1400,
    }
    assert kite.order_margins([order])[0]["total"] == 14000
    basket = kite.basket_order_margins([order, {**order, "product": "MIS"}], mode="compact")
    assert basket["final"]["total"] == 14000 + 2800
    note = kite.get_virtual_contract_note([{**order, "order_id": "1", "average_price": 1400}])
    assert note[0]["charges"]["total"] == pytest.approx(16.62, abs=0.01)


def test_conversion_and_holdings_over_the_wire(server, kite):
    httpx.post(
        f"{server.url}/simulator/holding",
        json={"instrument": "NSE:INFY", "quantity": 7, "price": 1000},
        trust_env=False,
    )
    buy(kite, price=1160, product="MIS")
    assert kite.convert_position("NSE", "INFY", "BUY", "day", 4, "MIS", "CNC") is True
    holding = kite.holdings()[0]
    assert (holding["quantity"], holding["average_price"], holding["isin"]) == (7, 1000, "INE009A01021")
    assert holding["pnl"] == pytest.approx((holding["last_price"] - 1000) * 7)
    with pytest.raises(exceptions.InputException):
        kite.convert_position("NSE", "INFY", "BUY", "day", 40, "MIS", "CNC")


def test_book_is_not_sorted_by_time(server, kite):
    placed = [buy(kite, price=1100, quantity=number + 1) for number in range(12)]
    seen = [order["order_id"] for order in kite.orders()]
    assert sorted(seen) == sorted(placed)
    assert seen != placed
    assert seen != placed[::-1]


def test_empty_lists_are_lists(kite):
    assert kite.orders() == kite.trades() == kite.holdings() == kite.get_auction_instruments() == []
    assert kite.mf_orders() == kite.mf_sips() == kite.mf_holdings() == kite.mf_instruments() == []
    assert kite.positions() == {"net": [], "day": []}


def test_truth_log_tells_what_happened_in_order(server, kite):
    buy(kite, price=1160)
    with pytest.raises(exceptions.InputException):
        buy(kite, price=1160.03)
    page = httpx.get(f"{server.url}/simulator/truth?after=0", trust_env=False).json()["data"]
    kinds = [fact["kind"] for fact in page["facts"]]
    assert kinds.index("order_received") < kinds.index("trade") < kinds.index("order_refused")
    assert page["last"] == page["total"] == len(kinds)
    later = httpx.get(f"{server.url}/simulator/truth?after={page['last'] - 1}", trust_env=False).json()["data"]
    assert [fact["kind"] for fact in later["facts"]] == ["order_refused"]


def test_control_endpoints_can_be_switched_off(serve):
    server = serve(control_enabled=False)
    assert httpx.get(f"{server.url}/simulator/truth", trust_env=False).status_code == 404


def test_price_set_by_hand_moves_and_matches(server, kite):
    order_id = buy(kite, price=1150)
    httpx.post(f"{server.url}/simulator/freeze", json={"frozen": True}, trust_env=False)
    moved = httpx.post(
        f"{server.url}/simulator/price", json={"instrument": "NSE:INFY", "last_price": 1149.5}, trust_env=False
    )
    assert moved.status_code == 200
    assert kite.ltp("NSE:INFY")["NSE:INFY"]["last_price"] == 1149.5
    assert kite.order_history(order_id)[-1]["status"] == "COMPLETE"


def test_postback_carries_the_documented_checksum(serve, log_in):
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            """Silent."""

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    try:
        server = serve(partial_fill_probability=0.0, postback_url=f"http://127.0.0.1:{receiver.server_port}/hook")
        kite = log_in(server)
        order_id = buy(kite, price=1160, tag="hook")
        wait_for(lambda: received, "the postback")
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
    body = received[0]
    assert (body["order_id"], body["status"], body["tag"]) == (order_id, "COMPLETE", "hook")
    assert body["checksum"] == checksum(order_id, body["order_timestamp"], "saras-dev-secret")
    assert {"user_id", "app_id", "unfilled_quantity", "guid", "filled_quantity"} <= set(body)


def test_postback_checksum_matches_the_known_vector():
    assert (
        checksum("220303000308932", "2022-03-03 09:24:25", "test_secret")
        == "ad3df4dedf453d66b2307aa1847f0026f912346f75a28ea9089514ece6a6b652"
    )


def test_eleventh_order_within_a_second_gets_429(serve, log_in):
    kite = log_in(serve())
    taken = [_places(kite) for _ in range(30)]
    refusals = [answer for answer in taken if isinstance(answer, exceptions.NetworkException)]
    assert refusals
    assert {(error.code, str(error)) for error in refusals} == {(429, "Too many requests")}
    assert len(kite.orders()) == 30 - len(refusals)
    wait_for(lambda: isinstance(_places(kite), str), "the window to pass")


def _places(kite):
    try:
        return buy(kite, price=1100, quantity=1)
    except exceptions.NetworkException as error:
        return error


def test_second_quote_within_a_second_gets_429(serve, log_in):
    kite = log_in(serve())
    kite.ltp("NSE:INFY")
    with pytest.raises(exceptions.NetworkException, match="Too many requests"):
        [kite.quote("NSE:INFY") for _ in range(5)]
