"""Faults of the wire, seen by the official client: over a real socket, and in process in virtual time."""

import errno
import shutil
from datetime import UTC, datetime, timedelta

import pytest
import requests
from kiteconnect import KiteConnect, exceptions
from urllib3.exceptions import NewConnectionError, ProtocolError

from kite_simulator.app import create_app
from kite_simulator.config import Settings
from kite_simulator.engine import FaultKind, FaultRates, VirtualClock
from kite_simulator.inprocess import InProcessAdapter, run_to_end
from kite_simulator.wire_faults import CHANGE_FAULTS, PLACE_FAULTS, READ_FAULTS

NOON_IST = datetime(2026, 11, 16, 6, 30, tzinfo=UTC)
SOCKET_PATIENCE_S = 0.4


class Caller:
    """The official client, and a hand on the engine behind it."""

    def __init__(self, kite, act, slept):
        self.kite = kite
        self.act = act
        self.slept = slept
        self.status = None
        kite.reqsession.hooks["response"].append(self._keep_status)

    def _keep_status(self, response, **_):
        self.status = response.status_code

    @property
    def engine(self):
        return self.act(lambda engine: engine)

    def force(self, kind, count=1):
        self.act(lambda engine: engine.faults.force(kind, count))

    def place(self, tag="t", **given):
        fields = {"quantity": 10, "product": "CNC", "order_type": "LIMIT", "price": 1160, **given}
        return self.kite.place_order("regular", "NSE", "INFY", "BUY", tag=tag, **fields)

    def tags(self):
        return self.act(lambda engine: sorted(order.tag for order in engine.kernel.state.orders.values()))

    def noted(self):
        facts = self.engine.kernel.facts
        return [fact for fact in facts if fact["kind"] == "fault_injected"]


class InProcess(Caller):
    def __init__(self, **settings):
        self.clock = VirtualClock(NOON_IST)
        given = {"partial_fill_probability": 0.0, "rate_limits": False, "access_token": "token", **settings}
        app = create_app(Settings(**given), self.clock)
        engine = app.state.engine
        engine.control.freeze_prices(True)
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            self.clock.advance(seconds)

        def act(action):
            with engine.command():
                return action(engine)

        self.adapter = InProcessAdapter(app, sleep=sleep, read_timeout_s=10.0)
        kite = KiteConnect("saras-dev", access_token="token", root="http://simulator")
        kite.reqsession.mount("http://", self.adapter)
        super().__init__(kite, act, slept)


@pytest.fixture
def inside():
    """In process, in virtual time."""
    return InProcess()


@pytest.fixture
def over_socket(serve, log_in):
    """Over HTTP, with little patience."""
    server = serve(rate_limits=False, partial_fill_probability=0.0)
    server.call(lambda engine: engine.control.freeze_prices(True))
    kite = log_in(server)
    kite.timeout = SOCKET_PATIENCE_S
    return Caller(kite, server.call, None)


@pytest.fixture(params=["inside", "over_socket"])
def caller(request):
    return request.getfixturevalue(request.param)


def seen(call):
    """What a client saw: the value, or the exception with the status it claims."""
    try:
        return call()
    except (exceptions.KiteException, requests.RequestException, KeyError) as error:
        return error


def is_reset(error):
    """A true RST: an orderly end of the connection would come without a number."""
    if not isinstance(error, requests.exceptions.ConnectionError) or not isinstance(error.args[0], ProtocolError):
        return False
    return error.args[0].args[1].errno == errno.ECONNRESET


def is_timeout(error):
    return isinstance(error, requests.exceptions.ReadTimeout)


def is_http(error, kind, text):
    return isinstance(error, kind) and text in str(error)


def is_html(error):
    return is_http(error, exceptions.DataException, "Unknown Content-Type")


def is_key_error(error):
    return isinstance(error, KeyError)


SEEN_BY_PLACER = {
    "request_lost": (is_timeout, None, False),
    "response_lost": (is_timeout, None, True),
    "reset_before_body": (is_reset, None, False),
    "reset_after_body": (is_reset, None, True),
    "bad_gateway": (is_html, 502, False),
    "bad_gateway_accepted": (is_html, 502, True),
    "timed_out_400": (lambda e: is_http(e, exceptions.OrderException, "check the order book"), 400, False),
    "too_many_requests": (lambda e: is_http(e, exceptions.NetworkException, "Too many requests"), 429, False),
    "refused_at_front": (lambda e: is_http(e, exceptions.GeneralException, "RMS:Margin Exceeds"), 400, False),
    "order_id_missing": (is_key_error, 200, True),
    "content_type_missing": (is_key_error, 200, True),
}


@pytest.mark.parametrize("kind", SEEN_BY_PLACER)
def test_fault_of_a_place_call(caller, kind):
    is_seen, status, is_taken = SEEN_BY_PLACER[kind]
    caller.status = None
    caller.force(FaultKind(kind))
    outcome = seen(lambda: caller.place("once"))
    assert is_seen(outcome), repr(outcome)
    assert caller.status == status
    assert caller.tags() == (["once"] if is_taken else [])
    (fact,) = caller.noted()
    assert (fact["fault"], fact["tag"], fact["endpoint"]) == (kind, "once", "POST /orders/regular")
    assert ("order_id" in fact) == is_taken
    assert isinstance(caller.place("after"), str)


def test_lists_of_kinds_are_complete():
    over_wire = set(PLACE_FAULTS) | set(CHANGE_FAULTS) | set(READ_FAULTS)
    assert set(SEEN_BY_PLACER) | {"accept_delayed", "ghost", "timed_out_400_accepted"} == set(PLACE_FAULTS)
    elsewhere = {kind for kind in FaultKind if kind not in over_wire}
    assert {kind.value for kind in elsewhere} == {
        "connection_refused", "book_stale", "book_truncated", "trades_lag", "partial_fill", "order_stuck",
        "cancel_then_filled", "cancel_refused", "foreign_order", "trade_corrected", "token_killed",
        "update_after_complete", "postback_duplicated", "postback_reordered", "postback_dropped", "postback_delayed",
        "postback_forged", "websocket_gap",
    }  # fmt: skip


@pytest.mark.parametrize("kind", sorted(SEEN_BY_PLACER))
def test_rate_one_always_and_rate_zero_never(kind):
    always, never = InProcess(faults=f'{{"{kind}": 1}}'), InProcess()
    for _ in range(5):
        assert not isinstance(seen(always.place), str)
        assert isinstance(seen(never.place), str)
    assert [fact["fault"] for fact in always.noted()] == [kind] * 5
    assert never.noted() == []


@pytest.mark.parametrize("kind", sorted(set(CHANGE_FAULTS) - {"timed_out_400_accepted"}))
def test_fault_of_a_cancel_call(inside, kind):
    is_seen, _, is_taken = SEEN_BY_PLACER[kind]
    order_id = inside.place("resting", price=1100)
    inside.force(FaultKind(kind))
    outcome = seen(lambda: inside.kite.cancel_order("regular", order_id))
    assert is_seen(outcome), repr(outcome)
    order = inside.engine.kernel.state.orders[order_id]
    assert order.status == ("CANCELLED" if is_taken else "OPEN")
    (fact,) = inside.noted()
    assert (fact["order_id"], fact["tag"]) == (order_id, "resting")


def test_timed_out_with_400_is_accepted_later(inside):
    inside.force(FaultKind.TIMED_OUT_400_ACCEPTED)
    outcome = seen(lambda: inside.place("late"))
    assert is_http(outcome, exceptions.OrderException, "check the order book")
    assert inside.tags() == inside.slept == []
    inside.clock.advance(120)
    assert [row["tag"] for row in inside.kite.orders()] == ["late"]


def test_cancel_that_timed_out_with_400_is_carried_out(inside):
    order_id = inside.place(price=1100)
    inside.force(FaultKind.TIMED_OUT_400_ACCEPTED)
    outcome = seen(lambda: inside.kite.cancel_order("regular", order_id))
    assert is_http(outcome, exceptions.OrderException, "timed out")
    assert inside.engine.kernel.state.orders[order_id].status == "CANCELLED"


def test_ghost_appears_long_after_the_client_gave_up(inside):
    inside.force(FaultKind.GHOST)
    assert is_timeout(seen(lambda: inside.place("ghost")))
    assert inside.slept == [10.0]
    inside.clock.advance(189)
    assert inside.kite.orders() == []
    inside.clock.advance(402)
    assert [row["tag"] for row in inside.kite.orders()] == ["ghost"]


def test_late_acceptance_is_a_slow_answer_or_none(inside):
    answers = []
    for number in range(30):
        before = inside.clock.now()
        inside.force(FaultKind.ACCEPT_DELAYED)
        outcome = seen(lambda tag=f"late {number}": inside.place(tag))
        took_s = (inside.clock.now() - before).total_seconds()
        if isinstance(outcome, str):
            assert 1 <= took_s < 10
            assert f"late {number}" in inside.tags()
        else:
            assert is_timeout(outcome)
            assert took_s == pytest.approx(10)
            assert f"late {number}" not in inside.tags()
        answers.append(isinstance(outcome, str))
    assert set(answers) == {True, False}
    inside.clock.advance(120)
    assert len(inside.kite.orders()) == 30


def test_late_acceptance_over_a_socket_answers_when_it_happens(over_socket):
    over_socket.act(lambda engine: engine.faults.set_rates(FaultRates(accept_delayed=1, accept_delay_s=(0.1, 0.1))))
    order_id = over_socket.place("slow")
    assert isinstance(order_id, str)
    over_socket.act(lambda engine: engine.faults.set_rates(FaultRates(accept_delayed=1, accept_delay_s=(0.6, 0.6))))
    assert is_timeout(seen(lambda: over_socket.place("slower")))
    over_socket.act(lambda engine: engine.faults.calm())
    assert over_socket.tags() == ["slow"]
    over_socket.kite.timeout = 5
    while "slower" not in over_socket.tags():
        over_socket.kite.orders()


def test_late_request_may_be_refused_in_the_end(inside):
    rates = FaultRates(accept_delayed=1, accept_delay_s=(2, 2))
    inside.act(lambda engine: engine.faults.set_rates(rates))
    outcome = seen(lambda: inside.place(price=1160.03))
    assert is_http(outcome, exceptions.InputException, "Tick size")
    assert inside.slept == [2.0]


SEEN_BY_READER = {
    "read_unavailable": (is_html, 503),
    "read_garbled": (lambda e: is_http(e, exceptions.DataException, "Couldn't parse the JSON response"), 200),
    "read_reset": (is_reset, None),
    "read_lost": (is_timeout, None),
    "content_type_missing": (is_key_error, 200),
}


@pytest.mark.parametrize("kind", SEEN_BY_READER)
def test_fault_of_a_read(caller, kind):
    is_seen, status = SEEN_BY_READER[kind]
    caller.place()
    for read in (caller.kite.orders, caller.kite.positions):
        caller.status = None
        caller.force(FaultKind(kind))
        outcome = seen(read)
        assert is_seen(outcome), repr(outcome)
        assert caller.status == status
    assert [fact["fault"] for fact in caller.noted()] == [kind] * 2
    assert len(caller.kite.orders()) == 1


def test_killed_token_ends_the_session_for_good(caller):
    caller.place()
    caller.force(FaultKind.TOKEN_KILLED)
    for _ in range(2):
        with pytest.raises(exceptions.TokenException):
            caller.kite.orders()
    assert len(caller.noted()) == 1


def test_refused_connection_and_a_broker_that_is_down(inside):
    inside.force(FaultKind.CONNECTION_REFUSED)
    for outcome in (seen(inside.place), _while_down(inside)):
        assert isinstance(outcome, requests.exceptions.ConnectionError)
        assert isinstance(outcome.args[0].reason, NewConnectionError)
    assert inside.tags() == []
    assert isinstance(inside.place(), str)


def _while_down(inside):
    inside.adapter.is_down = True
    outcome = seen(inside.place)
    inside.adapter.is_down = False
    return outcome


def test_true_bucket_runs_on_the_engines_clock():
    limited = InProcess(rate_limits=True)
    outcomes = [seen(limited.place) for _ in range(12)]
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 10
    limited.clock.advance(1)
    assert isinstance(limited.place(), str)
    assert limited.noted() == []


def test_application_that_waits_is_an_error():
    class Waits:
        def __await__(self):
            yield

    async def wait():
        await Waits()

    with pytest.raises(RuntimeError, match="event loop"):
        run_to_end(wait())


def test_journal_with_wire_faults_replays_to_the_same_books(tmp_path):
    rates = (
        '{"response_lost": 0.2, "timed_out_400_accepted": 0.2, "accept_delayed": 0.2, "ghost": 0.1, "read_lost": 0.1}'
    )
    first = InProcess(data_dir=tmp_path / "first", faults=rates)
    for price in [1160, 1100] * 20:
        seen(lambda limit=price: first.place(price=limit))
        seen(first.kite.orders)
    engine = first.engine
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    again = InProcess(data_dir=tmp_path / "copy", faults=rates)
    facts = again.engine.kernel.facts
    assert facts[: len(engine.kernel.facts)] == engine.kernel.facts
    assert again.engine.kernel.state.faults_injected == engine.kernel.state.faults_injected
    again.clock.advance((first.clock.now() - again.clock.now() + timedelta(seconds=700)).total_seconds())
    first.clock.advance(700)
    assert again.tags() == first.tags() == ["t"] * len(first.tags())
    assert len(first.tags()) > 20
    assert again.engine.kernel.state.promises == {}


def played(seed):
    """A short day under the standard preset; answers the kernel."""
    busy = InProcess(seed=seed, faults="standard")
    for number in range(150):
        order_id = seen(lambda price=1100 if number % 3 else 1160: busy.place(price=price))
        if isinstance(order_id, str) and number % 3 == 1:
            seen(lambda placed=order_id: busy.kite.cancel_order("regular", placed))
        if number % 10 == 0:
            seen(busy.kite.orders)
            seen(busy.kite.trades)
        busy.clock.advance(1)
    return busy.engine.kernel


def test_a_seed_repeats_everything_under_the_standard_preset():
    first, again, other = (played(seed) for seed in (7, 7, 8))
    assert first.facts == again.facts
    assert first.state.faults_injected != other.state.faults_injected
    assert len(first.state.faults_injected) >= 8
