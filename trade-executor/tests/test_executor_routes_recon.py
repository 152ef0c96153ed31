"""Reconciliation, house and days over HTTP: who may, what comes back, what changes; the gauges beside them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from common.clock import trading_date
from common.testing import client_for
from trade_executor import breaks, control, gauges
from trade_executor.app import create_app
from trade_executor.brokers.base import PlaceRequest
from trade_executor.config import SERVICE
from trade_executor.locks import advisory_lock
from trade_executor.models import ReconRun
from trade_executor.reconciling import LedgerAsset
from trade_executor.testing import ACCOUNT, make_room

SOME_ID = UUID(int=4711)
TODAY = trading_date(datetime.now(UTC))
PATHS = [
    ("GET", "reconciliation"),
    ("POST", "reconciliation"),
    ("GET", f"reconciliation/{SOME_ID}"),
    ("GET", "house-fills"),
    ("GET", "days"),
    ("GET", f"days/{TODAY}"),
    ("GET", f"days/{TODAY}/books/trades"),
]


class OneShareTooMany:
    """A ledger in which somebody has a share that the broker does not."""

    def totals(self):
        return {"NSE:INFY": LedgerAsset(1, 0, 0, 0), "INR": LedgerAsset(0, 0, 0, 0)}


@pytest.fixture
def office(db, authenticator, clock, auth_headers):
    room = make_room(db, recon_quiet_seconds=0)
    app = create_app(
        room.desk.settings,
        db=room.db,
        authenticator=authenticator("trade-executor"),
        access=room.access,
        market=room.market,
        clock=clock,
        ledger=OneShareTooMany(),
    )
    app.state.desk = room.desk
    room.client = client_for(app)
    room.ops = auth_headers(roles=("ops",))
    room.user = auth_headers(roles=("user",))
    return room


def get(office, path):
    response = office.client.get(f"/api/v1/ops/{path}", headers=office.ops)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_the_routes_are_for_operators_alone(office, method, path):
    assert office.client.request(method, f"/api/v1/ops/{path}").status_code == 401
    assert office.client.request(method, f"/api/v1/ops/{path}", headers=office.user).status_code == 403


def test_an_operator_has_everything_compared_now(office):
    done = office.client.post("/api/v1/ops/reconciliation", headers=office.ops)
    assert done.status_code == 200, done.text
    assert (done.json()["scope"], done.json()["good"], done.json()["opened"]) == ("full", True, 1)
    assert get(office, f"reconciliation/{done.json()['run_id']}") == done.json()
    seen = get(office, "reconciliation")
    assert [run["run_id"] for run in seen["runs"]] == [done.json()["run_id"]]
    assert (seen["last_good_full"]["run_id"], seen["last_good_quick"]) == (done.json()["run_id"], None)
    [kind] = seen["open_breaks"]
    assert (kind["kind"], kind["severity"], kind["count"]) == ("units_mismatch", 2, 1)
    assert seen["frozen"] == ["BSE:INFY", "NSE:INFY"]
    [shown] = get(office, "breaks")["items"]
    assert shown["freezes"] == ["BSE:INFY", "NSE:INFY"]


def test_a_frozen_instrument_shows_in_the_queue(office):
    with office.db.transaction() as session:
        breaks.open_break(session, ACCOUNT, breaks.DAY_NET, "NSE:INFY", "off", freezes=["NSE:INFY"])
    office.accept(tradingsymbol="INFY")
    office.accept(tradingsymbol="TCS")
    rows = {row["tradingsymbol"]: row["frozen"] for row in get(office, "queue")["items"]}
    assert rows == {"INFY": True, "TCS": False}


def test_a_run_under_way_is_not_joined(office):
    with advisory_lock(office.db, f"reconcile:{ACCOUNT}", wait=False) as held:
        assert held
        refused = office.client.post("/api/v1/ops/reconciliation", headers=office.ops)
    assert (refused.status_code, refused.json()["code"]) == (409, "reconciliation_under_way")
    assert office.rows(ReconRun) == []


def test_a_run_that_failed_says_why(office):
    office.broker.readable = False
    done = office.client.post("/api/v1/ops/reconciliation", headers=office.ops).json()
    assert done["good"] is False
    assert done["detail"]
    assert get(office, "reconciliation")["last_good_full"] is None


def test_what_is_not_there_is_not_found(office):
    for path in (f"reconciliation/{SOME_ID}", f"days/{TODAY}", f"days/{TODAY}/books/trades"):
        assert office.client.get(f"/api/v1/ops/{path}", headers=office.ops).status_code == 404
    unknown = office.client.get(f"/api/v1/ops/days/{TODAY}/books/secrets", headers=office.ops)
    assert unknown.status_code == 422


def test_the_house_s_journal_is_listed_in_rupees(office):
    office.broker.give("999", PlaceRequest("x", "NSE", "SBIN", "BUY", 4, "CNC", "LIMIT", price=Decimal(100)))
    office.broker.fill("999", 4, Decimal("12.35"))
    office.observe()
    [row] = get(office, "house-fills")["items"]
    assert (row["why"], row["quantity"], row["amount"], row["fill_id"]) == ("foreign", 4, "49.40", None)


def test_an_ended_day_can_be_read_with_the_books_that_were_kept(office):
    office.step()
    office.market.is_open = False
    office.market.next_day = office.market.day = TODAY + timedelta(days=1)
    office.step()
    office.step()
    [listed] = get(office, "days")["items"]
    detail = get(office, f"days/{TODAY}")
    assert detail["end"] == listed
    assert detail["start"]["result"]["severe_breaks"] == []
    kept = {book["part"]: book for book in detail["books"]}
    assert set(kept) == {"orders", "trades", "positions", "holdings", "funds"}
    book = get(office, f"days/{TODAY}/books/funds")
    assert book["sha256"] == kept["funds"]["sha256"] == listed["result"]["snapshots"]["funds"]
    assert book["rows"] == [{"net_paise": 100_00_000_00, "available_cash_paise": 100_00_000_00, "payin_paise": 0}]


def gauge(name, **labels):
    return REGISTRY.get_sample_value(name, {"service": SERVICE, **labels})


def test_breaks_and_runs_show_as_gauges_and_go_when_they_are_over(office):
    gauges.publish(office.db, ACCOUNT)
    assert gauge("saras_reconciliation_age_seconds", scope="full") == -1
    assert gauge("saras_oldest_open_break_seconds") == 0
    office.client.post("/api/v1/ops/reconciliation", headers=office.ops)
    office.run("UPDATE recon_break SET opened_at = opened_at - interval '90 seconds'")
    gauges.publish(office.db, ACCOUNT)
    assert gauge("saras_open_breaks", kind="units_mismatch", severity="2") == 1
    assert gauge("saras_oldest_open_break_seconds") > 89
    assert 0 <= gauge("saras_reconciliation_age_seconds", scope="full") < 30
    with office.db.transaction() as session:
        breaks.cure(session, ACCOUNT, breaks.UNITS, "INFY", "sold")
    gauges.publish(office.db, ACCOUNT)
    assert gauge("saras_open_breaks", kind="units_mismatch", severity="2") == 0
    assert gauge("saras_oldest_open_break_seconds") == 0


def test_the_send_budget_and_the_kill_switch_show_as_gauges(office):
    gauges.publish(office.db, ACCOUNT)
    left = {window: gauge("saras_sends_left", account=ACCOUNT, window=window) for window in ("second", "minute", "day")}
    with office.db.transaction() as session:
        assert control.claim(session, ACCOUNT, epoch=control.allowance(session, ACCOUNT).epoch, kind="cancel")
    gauges.publish(office.db, ACCOUNT)
    for window in ("second", "day"):
        assert gauge("saras_sends_left", account=ACCOUNT, window=window) == left[window] - 1, window
    # The minute's bucket refills all the time.
    assert left["minute"] - 1 <= gauge("saras_sends_left", account=ACCOUNT, window="minute") <= left["minute"]
    assert gauge("saras_trading_state", account=ACCOUNT, state="ACTIVE") == 1
    assert gauge("saras_trading_state", account=ACCOUNT, state="HALTED") == 0
