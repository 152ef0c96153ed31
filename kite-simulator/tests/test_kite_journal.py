"""The truth log survives the death of the process."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from kiteconnect import KiteConnect

from common.testing_ports import free_port
from kite_simulator.engine.journal import JOURNAL_NAME

DEADLINE_S = 30


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}")


def test_torn_last_line_is_dropped_and_the_next_line_is_clean(make_market, tmp_path):
    market = make_market(tmp_path)
    kept = market.place(price="1320")
    market.place(price="1319")
    market.engine.close()
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(path.read_bytes()[:-25])
    again = make_market(tmp_path)
    assert list(again.state.orders) == [kept.order_id]
    again.place(price="1318")
    again.engine.close()
    assert len(make_market(tmp_path).state.orders) == 2


def test_order_filled_in_pieces_goes_on_after_a_restart(make_market, tmp_path):
    market = make_market(tmp_path, partial_fill_probability=1.0)
    order = market.place(quantity=100, price="1330")
    before = order.filled_quantity
    assert before < 100
    again = make_market(tmp_path, partial_fill_probability=0.0)
    resumed = again.state.orders[order.order_id]
    assert resumed.status == "COMPLETE"
    assert resumed.filled_value_paise == 100 * 1327_80


def test_restart_on_another_day_rolls_the_books(make_market, tmp_path):
    market = make_market(tmp_path)
    market.place(price="1330")
    market.place(price="1320")
    market.engine.close()
    again = make_market(tmp_path, start=market.clock.now() + timedelta(days=2))
    again.engine.advance()
    assert again.state.orders == {}
    assert again.engine.portfolio.holdings()[0]["t1_quantity"] == 10
    ended = [f for f in again.engine.kernel.facts if f["kind"] == "order_state" and f["status"] == "CANCELLED"]
    assert len(ended) == 1


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Process:
    """The simulator as the operator starts it."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("KITE_SIM_")}
        env |= {"KITE_SIM_PORT": str(port), "KITE_SIM_DATA_DIR": str(data_dir), "NO_PROXY": "127.0.0.1"}
        env |= {"KITE_SIM_PARTIAL_FILL_PROBABILITY": "1", "KITE_SIM_RATE_LIMITS": "false"}
        env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        self.process = subprocess.Popen([sys.executable, "-m", "kite_simulator", "api"], env=env)
        wait_for(self._healthy, "the simulator to start")

    def _healthy(self) -> bool:
        assert self.process.poll() is None
        try:
            return httpx.get(f"{self.url}/simulator/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def facts_of(url):
    return httpx.get(f"{url}/simulator/truth", trust_env=False).json()["data"]["facts"]


def test_killed_broker_comes_back_with_the_same_book(tmp_path):
    port = free_port()
    first = Process(tmp_path, port)
    try:
        token = httpx.post(f"{first.url}/simulator/request_token", trust_env=False).json()["data"]["request_token"]
        kite = KiteConnect("saras-dev", root=first.url)
        kite.set_access_token(kite.generate_session(token, "saras-dev-secret")["access_token"])
        common = {"exchange": "NSE", "transaction_type": "BUY", "product": "CNC", "order_type": "LIMIT"}
        done = kite.place_order("regular", tradingsymbol="TCS", quantity=50, price=2420, tag="one", **common)
        resting = kite.place_order("regular", tradingsymbol="INFY", quantity=5, price=1100, tag="two", **common)
        kite.place_order("regular", tradingsymbol="SBIN", quantity=40, price=1110, tag="three", **common)
    finally:
        first.kill()
    journal = (tmp_path / JOURNAL_NAME).read_bytes()

    second = Process(tmp_path, port)
    try:
        kite = KiteConnect("saras-dev", access_token=kite.access_token, root=second.url)
        book = wait_for(
            lambda: {order["tag"]: order for order in kite.orders() if order["status"] in ("COMPLETE", "OPEN")},
            "the book",
        )
        assert set(book) == {"one", "two", "three"}
        assert (book["one"]["order_id"], book["two"]["order_id"]) == (done, resting)
        assert book["two"]["status"] == "OPEN"
        wait_for(lambda: kite.order_history(done)[-1]["status"] == "COMPLETE", "the fills to go on")
        assert sum(trade["quantity"] for trade in kite.order_trades(done)) == 50
        facts = facts_of(second.url)
        assert [fact["n"] for fact in facts] == list(range(1, len(facts) + 1))
        assert (tmp_path / JOURNAL_NAME).read_bytes().startswith(journal)
    finally:
        second.kill()


def test_no_answered_order_is_lost_when_the_process_is_killed_under_load(tmp_path):
    port = free_port()
    first = Process(tmp_path, port)
    answered = []
    try:
        token = httpx.post(f"{first.url}/simulator/request_token", trust_env=False).json()["data"]["request_token"]
        kite = KiteConnect("saras-dev", root=first.url)
        access_token = kite.generate_session(token, "saras-dev-secret")["access_token"]
        headers = {"Authorization": f"token saras-dev:{access_token}"}

        def keep_placing(number):
            fields = {
                "exchange": "NSE",
                "tradingsymbol": "INFY",
                "transaction_type": "BUY",
                "order_type": "LIMIT",
                "product": "CNC",
                "quantity": "3",
                "price": "1160",
            }
            with httpx.Client(headers=headers, trust_env=False) as client:
                for count in range(1000):
                    tag = f"{number}x{count}"
                    try:
                        answer = client.post(f"{first.url}/orders/regular", data={**fields, "tag": tag})
                    except httpx.TransportError:
                        return
                    answered.append((answer.json()["data"]["order_id"], tag))

        clients = [threading.Thread(target=keep_placing, args=(number,)) for number in range(3)]
        for client in clients:
            client.start()
        wait_for(lambda: len(answered) >= 60, "orders under way")
    finally:
        first.kill()
    for client in clients:
        client.join()

    second = Process(tmp_path, port)
    try:
        kite = KiteConnect("saras-dev", access_token=access_token, root=second.url)
        wait_for(lambda: all(order["status"] == "COMPLETE" for order in kite.orders()), "all fills")
        book = {(order["order_id"], order["tag"]) for order in kite.orders()}
        assert set(answered) <= book
        assert len(book) <= len(answered) + len(clients)
        assert sum(trade["quantity"] for trade in kite.trades()) == 3 * len(book)
    finally:
        second.kill()


@pytest.mark.parametrize("allowed", [False, True])
def test_reset_of_a_journal_needs_an_explicit_flag(serve, tmp_path, allowed):
    server = serve(data_dir=tmp_path, reset_allowed=allowed)
    answer = httpx.post(f"{server.url}/simulator/reset", trust_env=False)
    assert answer.status_code == (200 if allowed else 403)
