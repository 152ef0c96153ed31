"""Who stopped, started and decided what: written down in the transaction that did it, and by nobody else's hand."""

from uuid import uuid4

import pytest

from common import audit_chain
from common.testing import client_for
from trade_executor import breaks, kill_switch
from trade_executor.app import create_app
from trade_executor.brokers.session import BrokerSessionData
from trade_executor.routes_broker import login_mark
from trade_executor.sessions import KiteAccess, sealer_from
from trade_executor.testing import ACCOUNT

SECRETS = ("secret-of-the-tests", "one-time-word", "canary-access-token")
STATEMENT = "The money in this account is my own; I do not trade with money of third parties."


@pytest.fixture
def house(room, authenticator, clock, auth_headers):
    settings = room.desk.settings
    access = KiteAccess(room.db, settings, sealer_from(settings), clock)
    access.ensure_account()
    app = create_app(
        settings,
        db=room.db,
        authenticator=authenticator("trade-executor"),
        access=access,
        market=room.market,
        clock=clock,
    )
    room.client, room.clock = client_for(app), clock
    room.as_role = lambda role, user_id=None: auth_headers(user_id or uuid4(), roles=(role,))
    return room


def logged(house):
    """(kind of actor, action, target) from the oldest to the newest; the chain over them is sound."""
    with house.db.transaction() as session:
        audit_chain.extend(session)
        found = audit_chain.verify(session)
    assert (found.problems, found.waiting) == ([], 0)
    items = house.client.get("/api/v1/admin/audit/trade-executor", headers=house.as_role("ops")).json()["items"]
    return [(item["actor_kind"], item["action"], item["target"], item["actor"]) for item in reversed(items)]


def test_stopping_and_starting_by_two_people_is_three_rows(house):
    one, two = uuid4(), uuid4()
    for action, who in (("halt", one), ("halt", one), ("resume", one), ("resume", one), ("resume", two)):
        house.client.post(f"/api/v1/ops/control/{action}", json={"reason": "drill"}, headers=house.as_role("ops", who))
    house.client.post("/api/v1/ops/control/cancel-only", json={"reason": "drill"}, headers=house.as_role("ops", two))
    target = f"account:{ACCOUNT}"
    assert logged(house) == [
        ("operator", "control.halted", target, str(one)),
        ("operator", "control.resume_requested", target, str(one)),
        ("operator", "control.active", target, str(two)),
        ("operator", "control.cancel_only", target, str(two)),
    ], "what was refused was not done"


def test_the_system_s_own_stop_says_so(house):
    with house.db.transaction() as session:
        assert kill_switch.stop_if_running(session, ACCOUNT, "HALTED", actor="reconciliation", reason="B10")
        assert not kill_switch.stop_if_running(session, ACCOUNT, "HALTED", actor="reconciliation", reason="B10")
    assert logged(house) == [("system", "control.halted", f"account:{ACCOUNT}", "reconciliation")]


def test_closing_a_break_and_settling_a_block_are_written_down(house):
    admin = uuid4()
    with house.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.FOREIGN_ORDER, "42", "placed by hand")
    house.accept()
    house.pump()
    house.run("UPDATE block SET state = 'FROZEN'")
    [found] = house.client.get("/api/v1/ops/breaks", headers=house.as_role("ops")).json()["items"]
    [block] = house.client.get("/api/v1/ops/blocks", headers=house.as_role("ops")).json()["items"]
    for path in (f"breaks/{found['break_id']}/close", f"blocks/{block['block_id']}/settle"):
        answer = house.client.post(
            f"/api/v1/ops/{path}", json={"reason": "contract note"}, headers=house.as_role("admin", admin)
        )
        assert answer.status_code == 200, answer.text
    assert logged(house) == [
        ("operator", "break.closed", f"break:{found['break_id']}", str(admin)),
        ("operator", "block.settled", f"block:{block['block_id']}", str(admin)),
    ]


def test_logins_and_the_attestation_are_written_down_without_their_secrets(house, monkeypatch, clock):
    def exchanged(api_key, secret, request_token, **_):
        now = clock.now()
        return BrokerSessionData(access_token=SECRETS[2], user_id="AB1234", login_at=now, expires_at=now)

    monkeypatch.setattr("trade_executor.sessions.exchange_request_token", exchanged)
    ops, admin = uuid4(), uuid4()
    mark = login_mark(house.desk.settings, clock, str(ops))
    by_page = house.client.get("/api/v1/broker/callback", params={"request_token": SECRETS[1], "state": mark})
    by_hand = house.client.post(
        "/api/v1/broker/session", json={"request_token": SECRETS[1]}, headers=house.as_role("ops", ops)
    )
    attested = house.client.post(
        "/api/v1/broker/attestation", json={"statement": STATEMENT}, headers=house.as_role("admin", admin)
    )
    assert [by_page.status_code, by_hand.status_code, attested.status_code] == [200, 201, 200]
    target = f"account:{ACCOUNT}"
    assert logged(house) == [
        ("operator", "broker.login_asked", target, str(ops)),
        ("operator", "broker.login", target, str(ops)),
        ("operator", "broker.login_asked", target, str(ops)),
        ("operator", "broker.login", target, str(ops)),
        ("operator", "broker.attested", target, str(admin)),
    ]
    page = house.client.get("/api/v1/admin/audit/trade-executor", headers=house.as_role("ops")).text
    assert [secret for secret in SECRETS if secret in page] == []
    assert by_hand.json()["session"]["session_id"] in page


def test_a_login_that_the_broker_refused_leaves_the_question(house):
    answer = house.client.post(
        "/api/v1/broker/session", json={"request_token": "used-before"}, headers=house.as_role("ops")
    )
    assert answer.status_code in (409, 503)
    assert [row[1] for row in logged(house)] == ["broker.login_asked"]
