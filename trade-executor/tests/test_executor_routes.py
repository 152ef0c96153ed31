"""Ops, kill switch and broker doors over HTTP: who may, what comes back, what changes."""

import json
from uuid import UUID, uuid4

import pytest

from common.errors import PROBLEM_JSON
from common.testing import client_for
from trade_executor import breaks, control
from trade_executor.app import create_app
from trade_executor.models import BrokerEvent, BrokerSession
from trade_executor.postback import POSTBACK_BYTES_MAX, checksum
from trade_executor.routes_broker import actor_of_mark, login_mark
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.testing import ACCOUNT

SECRET = "secret-of-the-tests"


class Rings:
    """Remembers who was woken."""

    def __init__(self):
        self.rung = []

    def pump(self, account):
        self.rung.append(("pump", account))

    def observe(self, account):
        self.rung.append(("observe", account))


@pytest.fixture
def house(room, authenticator, clock, auth_headers):
    settings = room.desk.settings
    access = KiteAccess(room.db, settings, sealer_from(settings), clock)
    access.ensure_account()
    rings = Rings()
    app = create_app(
        settings,
        db=room.db,
        authenticator=authenticator("trade-executor"),
        access=access,
        market=room.market,
        wakeup=rings,
        clock=clock,
    )
    room.client, room.rings, room.kite, room.clock = client_for(app), rings, access, clock
    room.ops = lambda user_id=None: auth_headers(user_id, roles=("ops",))
    room.user = auth_headers(roles=("user",))
    return room


SOME_ID = UUID(int=4711)
OPS_READS = ["accounts", "control", "blocks", "attempts", "fills", "queue", "summary", "breaks"]
OPS_PATHS = [("GET", f"/api/v1/ops/{name}") for name in OPS_READS] + [
    ("GET", f"/api/v1/ops/blocks/{SOME_ID}"),
    ("GET", f"/api/v1/ops/orders/{SOME_ID}"),
    ("POST", "/api/v1/ops/control/halt"),
    ("POST", "/api/v1/ops/control/cancel-only"),
    ("POST", "/api/v1/ops/control/resume"),
    ("POST", f"/api/v1/ops/breaks/{SOME_ID}/close"),
    ("POST", f"/api/v1/ops/blocks/{SOME_ID}/settle"),
    ("GET", "/api/v1/broker/login-url"),
    ("POST", "/api/v1/broker/session"),
    ("POST", "/api/v1/broker/attestation"),
]


@pytest.mark.parametrize(("method", "path"), OPS_PATHS)
def test_ops_routes_are_for_operators_alone(house, method, path):
    body = {"json": {"reason": "because"}} if method == "POST" else {}
    assert house.client.request(method, path, **body).status_code == 401
    refused = house.client.request(method, path, headers=house.user, **body)
    assert refused.status_code == 403
    assert refused.headers["content-type"] == PROBLEM_JSON


def test_a_block_can_be_read_with_everything_that_belongs_to_it(house):
    orders = [house.accept(quantity=quantity) for quantity in (1, 2)]
    house.pump()
    house.broker.fill(house.broker.id_of(), 3)
    house.observe()

    listed = house.client.get("/api/v1/ops/blocks?state=DONE&symbol=INFY", headers=house.ops()).json()
    [block] = listed["items"]
    assert (block["price"], block["quantity"], block["state"]) == ("100.00", 3, "DONE")
    detail = house.client.get(f"/api/v1/ops/blocks/{block['block_id']}", headers=house.ops()).json()
    assert sorted(child["order_id"] for child in detail["children"]) == sorted(map(str, orders))
    [attempt] = detail["attempts"]
    assert (attempt["state"], attempt["broker_order_id"]) == ("SETTLED", house.broker.id_of())
    [fill] = detail["fills"]
    assert (fill["price"], fill["amount"], fill["round_no"]) == ("100.0000", "300.00", 1)
    assert [one["amount"] for one in detail["allocations"]] in (["100.00", "200.00"], ["200.00", "100.00"])

    order = house.client.get(f"/api/v1/ops/orders/{orders[1]}", headers=house.ops()).json()
    assert (order["order"]["state"], order["order"]["amount"]) == ("FILLED", "200.00")
    assert len(order["blocks"]) == len(order["attempts"]) == len(order["fills"]) == len(order["allocations"]) == 1
    for name in ("attempts", "fills"):
        assert len(house.client.get(f"/api/v1/ops/{name}", headers=house.ops()).json()["items"]) == 1


def test_the_summary_counts_everything_and_its_sums_agree(house):
    for quantity in (10, 20):
        house.accept(quantity=quantity)
    house.pump()
    house.broker.fill(house.broker.id_of(), 13)
    house.observe()
    summary = house.client.get("/api/v1/ops/summary", headers=house.ops()).json()
    assert (summary["user_orders"], summary["blocks"], summary["broker_orders"]) == (2, 1, 1)
    assert summary["orders_per_broker_order"] == 2.0
    assert (summary["shares_ordered"], summary["shares_filled"], summary["shares_allocated"]) == (30, 13, 13)
    assert summary["amount_filled"] == summary["amount_allocated"] == "1300.00"
    assert summary["orders_by_state"] == {"PARTIAL": 2}
    later = house.client.get(
        "/api/v1/ops/summary", params={"since": "2099-01-01T00:00:00+05:30"}, headers=house.ops()
    ).json()
    assert (later["user_orders"], later["orders_per_broker_order"]) == (0, None)
    naive = house.client.get("/api/v1/ops/summary?since=2026-01-01T00:00:00", headers=house.ops())
    assert naive.status_code == 422


def test_the_queue_shows_what_would_go_out_together(house):
    house.market.is_open = False
    for _ in range(2):
        house.accept(quantity=5)
    house.accept(quantity=7, tradingsymbol="TCS", order_type="MARKET", price_paise=None)
    queue = house.client.get("/api/v1/ops/queue", headers=house.ops()).json()
    assert queue["market_open"] is False
    assert [(row["tradingsymbol"], row["orders"], row["quantity"], row["price"]) for row in queue["items"]] == [
        ("INFY", 2, 10, "100.00"),
        ("TCS", 1, 7, None),
    ]


@pytest.mark.parametrize("path", ["blocks", "orders"])
def test_an_unknown_id_is_a_404_with_a_code(house, path):
    answer = house.client.get(f"/api/v1/ops/{path}/{uuid4()}", headers=house.ops())
    assert (answer.status_code, answer.json()["code"]) == (404, f"{path[:-1]}_not_found")
    assert house.client.get(f"/api/v1/ops/{path}/nonsense", headers=house.ops()).status_code == 422


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "offset=-1", "state=NONSENSE"])
def test_pages_are_bounded(house, query):
    assert house.client.get(f"/api/v1/ops/blocks?{query}", headers=house.ops()).status_code == 422


def test_halt_and_resume_over_http_take_two_people(house):
    one, two = house.ops(uuid4()), house.ops(uuid4())
    halted = house.client.post("/api/v1/ops/control/halt", json={"reason": "drill"}, headers=one)
    assert (halted.status_code, halted.json()["trading_state"]) == (200, "HALTED")
    again = house.client.post("/api/v1/ops/control/halt", json={"reason": "drill"}, headers=one)
    assert (again.status_code, again.json()["code"]) == (409, "already_in_state")
    less = house.client.post("/api/v1/ops/control/cancel-only", json={"reason": "drill"}, headers=one)
    assert (less.status_code, less.json()["code"]) == (409, "already_in_state"), "a halt stops more"
    asked = house.client.post("/api/v1/ops/control/resume", json={"reason": "drill over"}, headers=one)
    assert (asked.json()["trading_state"], asked.json()["resume_reason"]) == ("HALTED", "drill over")
    alone = house.client.post("/api/v1/ops/control/resume", json={"reason": "drill over"}, headers=one)
    assert (alone.status_code, alone.json()["code"]) == (409, "resume_needs_second_person")
    approved = house.client.post("/api/v1/ops/control/resume", json={"reason": "checked"}, headers=two)
    assert approved.json()["trading_state"] == "ACTIVE"
    assert house.client.get("/api/v1/ops/control", headers=one).json()["trading_state"] == "ACTIVE"


@pytest.mark.parametrize("body", [{}, {"reason": "no"}, {"reason": "fine", "force": True}])
def test_the_switch_wants_a_reason_and_nothing_else(house, body):
    assert house.client.post("/api/v1/ops/control/halt", json=body, headers=house.ops()).status_code == 422
    with house.db.session() as session:
        assert control.allowance(session, ACCOUNT).trading_state == "ACTIVE"


def test_breaks_are_listed_and_closed_once(house):
    with house.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, "42", "placed by hand")
    [found] = house.client.get("/api/v1/ops/breaks", headers=house.ops()).json()["items"]
    path = f"/api/v1/ops/breaks/{found['break_id']}/close"
    closed = house.client.post(path, json={"reason": "it was me"}, headers=house.ops())
    assert (closed.status_code, closed.json()["closed_reason"]) == (200, "it was me")
    assert (
        house.client.post(path, json={"reason": "again"}, headers=house.ops()).json()["code"] == "break_already_closed"
    )
    assert house.client.get("/api/v1/ops/breaks", headers=house.ops()).json()["items"] == []
    assert len(house.client.get("/api/v1/ops/breaks?open=false", headers=house.ops()).json()["items"]) == 1
    unknown = house.client.post(f"/api/v1/ops/breaks/{uuid4()}/close", json={"reason": "what"}, headers=house.ops())
    assert unknown.json()["code"] == "break_not_found"


def test_a_block_that_decides_itself_is_not_settled_by_hand(house, auth_headers):
    house.accept()
    house.pump()
    block_id = house.client.get("/api/v1/ops/blocks", headers=house.ops()).json()["items"][0]["block_id"]
    path, body = f"/api/v1/ops/blocks/{block_id}/settle", {"reason": "contract note"}
    assert house.client.post(path, json=body, headers=house.ops()).status_code == 403
    answer = house.client.post(path, json=body, headers=auth_headers(roles=("admin",)))
    assert (answer.status_code, answer.json()["code"]) == (409, "block_not_frozen")


def postback_body(secret=SECRET, **changes):
    fields = {"order_id": "220303000308932", "order_timestamp": "2026-11-23 09:24:25", "status": "COMPLETE", **changes}
    fields["checksum"] = checksum(fields["order_id"], fields["order_timestamp"], secret)
    return json.dumps(fields).encode()


def test_a_postback_is_kept_as_evidence_and_only_rings(house):
    order_id = house.accept(quantity=10)
    house.pump()
    body = postback_body(order_id=house.broker.id_of(), filled_quantity=10, average_price=1.0)
    for _ in range(3):
        assert house.client.post("/api/v1/broker/postback", content=body).status_code == 200
    assert house.rings.rung == [("observe", ACCOUNT)] * 3
    [event] = house.rows(BrokerEvent)
    assert event.copies == 3
    assert house.child(order_id).filled_quantity == 0
    house.observe()
    assert house.child(order_id).filled_quantity == 0, "the body's numbers are nobody's business"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (postback_body(secret="somebody else's"), 403, "postback_not_authentic"),
        (b"{}", 400, "postback_not_understood"),
        (b"[]", 400, "postback_not_understood"),
        (b"\xff\xfe", 400, "postback_not_understood"),
        (b" " * (POSTBACK_BYTES_MAX + 1), 413, "postback_too_large"),
    ],
)
def test_forged_broken_and_huge_postbacks_change_nothing(house, body, status, code):
    answer = house.client.post("/api/v1/broker/postback", content=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert house.rings.rung == []
    assert house.rows(BrokerEvent) == []


def test_the_login_url_carries_a_mark_that_only_we_can_make(house):
    user_id = uuid4()
    url = house.client.get("/api/v1/broker/login-url", headers=house.ops(user_id)).json()["login_url"]
    assert url.startswith("http://127.0.0.1:9010/connect/login?")
    assert "redirect_params=" in url
    mark = login_mark(house.desk.settings, house.clock, str(user_id))
    assert actor_of_mark(house.desk.settings, house.clock, mark) == str(user_id)


@pytest.mark.parametrize("state", ["", "x.1.y", "x.9999999999.deadbeef", "é.1.é"])
def test_a_login_that_was_not_started_here_is_refused(house, state):
    answer = house.client.get("/api/v1/broker/callback", params={"request_token": "abc", "state": state})
    assert (answer.status_code, answer.json()["code"]) == (403, "login_not_ours")
    assert house.rows(BrokerSession) == []


def test_a_login_started_too_long_ago_is_refused(house):
    mark = login_mark(house.desk.settings, house.clock, "somebody")
    house.clock.advance(601)
    answer = house.client.get("/api/v1/broker/callback", params={"request_token": "abc", "state": mark})
    assert answer.json()["code"] == "login_not_ours"


def test_without_a_broker_session_the_market_room_is_told_so(house, service_identity):
    token = service_identity("market-data-service").token("trade-executor")
    answer = house.client.get("/internal/v1/market-data-session", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_session_missing")


@pytest.mark.parametrize("caller", ["portfolio-service", None])
def test_the_broker_s_token_is_for_the_market_room_alone(house, service_identity, caller):
    headers = house.ops()
    if caller is not None:
        headers = {"Authorization": f"Bearer {service_identity(caller).token('trade-executor')}"}
    answer = house.client.get("/internal/v1/market-data-session", headers=headers)
    assert answer.status_code == (403 if caller else 401)


def test_the_attestation_is_the_owner_s_own_words(house, auth_headers):
    admin = auth_headers(roles=("admin",))
    wrong = house.client.post("/api/v1/broker/attestation", json={"statement": "yes"}, headers=admin)
    assert wrong.status_code == 422
    words = "The money in this account is my own; I do not trade with money of third parties."
    assert (
        house.client.post("/api/v1/broker/attestation", json={"statement": words}, headers=house.ops()).status_code
        == 403
    )
    stored = house.client.post("/api/v1/broker/attestation", json={"statement": words}, headers=admin)
    assert stored.status_code == 200
    [account] = house.client.get("/api/v1/ops/accounts", headers=house.ops()).json()
    assert account["live_attested_at"] is not None
    assert (account["paper"], account["session"]) == (True, None)


def test_the_metrics_show_what_is_under_way(house):
    house.accept()
    house.market.is_open = False
    house.accept(tradingsymbol="TCS")
    house.market.is_open = True
    house.pump()
    house.sweep()
    text = house.client.get("/metrics").text
    assert 'saras_live_rows{kind="order",service="trade-executor",state="BATCHED"} 2.0' in text
    assert 'saras_live_rows{kind="attempt",service="trade-executor",state="ACKED"} 2.0' in text


def test_health_tells_of_the_broker_session_and_the_migrations(house):
    ready = house.client.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json()["checks"]["broker"]["session"] == "none"
    assert ready.json()["checks"]["db"]["ok"] is True
