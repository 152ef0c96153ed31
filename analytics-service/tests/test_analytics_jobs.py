"""Reports: asked for once, made once whoever dies on the way, fetched by their user alone, gone after a while."""

import csv
import io
import sys
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from analytics_service import jobs, loop, reporting
from analytics_service.desk import Desk
from analytics_service.models_jobs import Job, JobFile
from common import outbox
from common.clock import FixedClock
from common.db import Database
from common.events import CashMoved, OrderUpdated
from common.testing import eventually

BASE = "/api/v1/analytics"
Headers = Callable[..., dict[str, str]]
Consume = Callable[..., UUID]


class Reader:
    """A signed-in user."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def ask(self, key: str | None = None, **body: Any) -> Any:
        return self.client.post(
            f"{BASE}/reports", json=body, headers={**self.headers, "Idempotency-Key": key or uuid4().hex}
        )

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(f"{BASE}{path}", headers=self.headers, params=params)


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def reader(client: TestClient, auth_headers: Headers, user_id: UUID) -> Reader:
    return Reader(client, auth_headers(user_id))


@pytest.fixture
def story(order_updated: Callable[..., OrderUpdated], consume: Consume, user_id: UUID, clock: FixedClock) -> UUID:
    """Bought in 2024, partly sold in 2025 and 2026, once intraday; answers the portfolio."""
    portfolio_id = uuid4()
    consume(
        CashMoved(
            user_id=user_id, portfolio_id=portfolio_id, kind="DEPOSIT", amount_paise=10_00_000_00, transfer_id=uuid4(),
            occurred_at=clock.now() - timedelta(days=900),
        )
    )  # fmt: skip
    for number, (on, side, quantity, amount, product) in enumerate(
        [
            (date(2024, 8, 1), "BUY", 100, 1_00_000_00, "CNC"),
            (date(2025, 6, 2), "SELL", 40, 60_000_00, "CNC"),
            (date(2026, 1, 5), "SELL", 30, 60_000_00, "CNC"),
            (date(2026, 1, 6), "BUY", 10, 10_000_00, "MIS"),
            (date(2026, 1, 6), "SELL", 10, 10_500_00, "MIS"),
        ]
    ):
        consume(
            order_updated(
                user_id=user_id, portfolio_id=portfolio_id, side=side, product=product, trading_date=on,
                last_fill_quantity=quantity, last_fill_amount_paise=amount, last_fill_charges_paise=100_00,
                occurred_at=clock.now() - timedelta(days=800 - number),
            )
        )  # fmt: skip
    return portfolio_id


KINDS: list[tuple[dict[str, Any], bytes]] = [
    ({"kind": "portfolio", "format": "html"}, b"<!DOCTYPE html>"),
    ({"kind": "portfolio", "format": "pdf"}, b"%PDF-"),
    ({"kind": "capital_gains", "format": "html", "tax_year": "2025-26"}, b"<!DOCTYPE html>"),
    ({"kind": "capital_gains", "format": "pdf", "tax_year": "2025-26"}, b"%PDF-"),
    ({"kind": "capital_gains", "format": "csv", "tax_year": "2025-26"}, b"\xef\xbb\xbf"),
    ({"kind": "capital_gains", "format": "xlsx", "tax_year": "2025-26"}, b"PK"),
    ({"kind": "transactions", "format": "csv"}, b"\xef\xbb\xbf"),
    ({"kind": "transactions", "format": "xlsx", "from": "2025-01-01"}, b"PK"),
    ({"kind": "holdings", "format": "csv"}, b"\xef\xbb\xbf"),
    ({"kind": "holdings", "format": "xlsx"}, b"PK"),
]


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(("asked", "begins"), KINDS, ids=[f"{one['kind']}-{one['format']}" for one, _ in KINDS])
def test_every_report_is_made_and_announced_once(
    reader: Reader, desk: Desk, db: Database, user_id: UUID, asked: dict[str, Any], begins: bytes
) -> None:
    answer = reader.ask(**asked)
    assert answer.status_code == 202, answer.text
    report_id = answer.json()["job_id"]
    assert reader.get(f"/reports/{report_id}").json()["state"] == "QUEUED"
    assert reader.get(f"/reports/{report_id}/file").json()["code"] == "report_not_ready"
    assert loop.work(desk) == 1
    made = reader.get(f"/reports/{report_id}").json()
    assert (made["state"], made["progress"], made["problem"]) == ("DONE", 1.0, None)
    file = reader.get(f"/reports/{report_id}/file")
    assert file.status_code == 200
    assert file.content.startswith(begins)
    assert file.headers["content-security-policy"].startswith("default-src 'none'")
    with db.session() as session:
        rows = session.execute(select(outbox.outbox.c.type, outbox.outbox.c.payload)).all()
    assert [(row[0], row[1]["report_id"], row[1]["user_id"]) for row in rows] == [
        ("ReportReady", report_id, str(user_id))
    ]
    assert loop.work(desk) == 0


@pytest.mark.usefixtures("story")
def test_without_a_pdf_library_the_report_fails_with_its_reason(
    reader: Reader, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    report_id = reader.ask(kind="portfolio", format="pdf").json()["job_id"]
    loop.work(desk)
    failed = reader.get(f"/reports/{report_id}").json()
    assert (failed["state"], failed["problem_code"]) == ("FAILED", "pdf_unavailable")
    assert "html" in failed["problem"]


@pytest.mark.usefixtures("story")
def test_capital_gains_are_those_of_the_law(reader: Reader, desk: Desk) -> None:
    report_id = reader.ask(kind="capital_gains", format="csv", tax_year="2025-26").json()["job_id"]
    loop.work(desk)
    rows = list(csv.reader(io.StringIO(reader.get(f"/reports/{report_id}/file").content.decode("utf-8-sig"))))
    sums = {row[0]: row[1] for row in rows if len(row) == 2}
    # 40 sold within 12 months: 60,000 - 40,000; 30 after more than 12: 60,000 - 30,000; intraday 500 by slab.
    assert sums["Short-term gain"] == "20000.00"
    assert sums["Long-term gain"] == "30000.00"
    assert sums["Intraday gain (speculative, by slab)"] == "500.00"
    assert (sums["Exemption used"], sums["Tax"], sums["Cess"]) == ("30000.00", "4000.00", "160.00")
    assert any("one owner, the account holder" in cell for row in rows for cell in row)


@pytest.mark.usefixtures("story")
def test_a_worker_that_died_is_replaced_and_the_result_is_one(
    reader: Reader, desk: Desk, db: Database, clock: FixedClock
) -> None:
    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    dead = jobs.take(db, clock.now())
    assert dead is not None
    jobs.progress(desk, dead, 1, 3)
    assert reader.get(f"/reports/{report_id}").json()["state"] == "RUNNING"
    assert loop.work(desk) == 0  # held by whoever has it
    clock.advance(jobs.HELD_FOR.total_seconds() + 1)
    assert loop.work(desk) == 1
    assert reader.get(f"/reports/{report_id}").json()["state"] == "DONE"
    reporting.make(desk, dead)  # the dead one comes back and ends its work too
    with db.session() as session:
        assert len(session.scalars(select(JobFile)).all()) == 1
        assert len(session.execute(select(outbox.outbox)).all()) == 1


def test_a_job_that_kills_its_workers_is_given_up(reader: Reader, db: Database, clock: FixedClock) -> None:
    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    for _ in range(jobs.ATTEMPTS_MAX):
        assert jobs.take(db, clock.now()) is not None
        clock.advance(jobs.HELD_FOR.total_seconds() + 1)
    assert jobs.take(db, clock.now()) is None
    given_up = reader.get(f"/reports/{report_id}").json()
    assert (given_up["state"], given_up["problem_code"]) == ("FAILED", "given_up")


def test_a_job_that_breaks_is_tried_a_few_times_and_then_given_up(reader: Reader, desk: Desk, db: Database) -> None:
    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    with db.transaction() as session:
        session.execute(update(Job).values(asked={"kind": "unheard-of"}))
    assert loop.work(desk) == jobs.ATTEMPTS_MAX
    assert reader.get(f"/reports/{report_id}").json()["problem_code"] == "given_up"


@pytest.mark.usefixtures("story")
def test_the_same_key_asks_for_one_report(reader: Reader) -> None:
    first = reader.ask("one-key", kind="holdings", format="csv")
    again = reader.ask("one-key", kind="holdings", format="csv")
    other = reader.ask("one-key", kind="holdings", format="xlsx")
    assert first.json() == again.json()
    assert other.status_code == 409
    assert len(reader.get("/reports").json()["items"]) == 1


def test_open_jobs_are_bounded(reader: Reader, desk: Desk) -> None:
    for _ in range(jobs.OPEN_MAX):
        assert reader.ask(kind="holdings", format="csv").status_code == 202
    refused = reader.ask(kind="holdings", format="csv")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_jobs")
    assert loop.work(desk) == jobs.OPEN_MAX
    assert reader.ask(kind="holdings", format="csv").status_code == 202


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "portfolio", "format": "csv"},
        {"kind": "capital_gains", "format": "pdf"},
        {"kind": "capital_gains", "format": "pdf", "tax_year": "2025-27"},
        {"kind": "portfolio", "format": "pdf", "tax_year": "2025-26"},
        {"kind": "holdings", "format": "csv", "from": "2026-01-01"},
        {"kind": "transactions", "format": "csv", "from": "2026-02-01", "to": "2026-01-01"},
        {"kind": "transactions", "format": "csv", "extra": 1},
        {"kind": "weather", "format": "csv"},
    ],
)
def test_what_cannot_be_made_is_refused_at_once(reader: Reader, body: dict[str, Any]) -> None:
    answer = reader.ask(**body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.usefixtures("story")
def test_reports_are_their_users_alone(reader: Reader, desk: Desk, client: TestClient, auth_headers: Headers) -> None:
    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    loop.work(desk)
    for other in (Reader(client, auth_headers()), Reader(client, auth_headers(roles=("admin",)))):
        for path in (f"/reports/{report_id}", f"/reports/{report_id}/file", f"/imports/{report_id}"):
            assert other.get(path).status_code == 404
        assert client.delete(f"{BASE}/reports/{report_id}", headers=other.headers).status_code == 404
        assert other.get("/reports").json()["items"] == []
    assert reader.get(f"/imports/{report_id}").status_code == 404  # a report is no import


def test_a_report_of_a_foreign_portfolio_is_refused(client: TestClient, auth_headers: Headers, story: UUID) -> None:
    answer = Reader(client, auth_headers()).ask(kind="holdings", format="csv", portfolio_id=str(story))
    assert (answer.status_code, answer.json()["code"]) == (404, "portfolio_not_found")


def test_lists_are_paged_newest_first(reader: Reader, desk: Desk, clock: FixedClock) -> None:
    wanted = []
    for _ in range(4):
        wanted.insert(0, reader.ask(kind="holdings", format="csv").json()["job_id"])
        clock.advance(1)
    first = reader.get("/reports", limit=3).json()
    second = reader.get("/reports", limit=3, cursor=first["next_cursor"]).json()
    assert [item["job_id"] for item in first["items"] + second["items"]] == wanted
    assert second["next_cursor"] is None
    assert reader.get("/reports", cursor="bm8=").json()["code"] == "cursor_invalid"


def test_old_reports_go_and_open_ones_stay(reader: Reader, desk: Desk, db: Database, clock: FixedClock) -> None:
    done = reader.ask(kind="holdings", format="csv").json()["job_id"]
    loop.work(desk)
    still_open = reader.ask(kind="holdings", format="csv").json()["job_id"]
    now = clock.now() + jobs.KEPT_FOR + timedelta(seconds=1)
    assert jobs.prune(db, now) == 1
    assert reader.get(f"/reports/{done}").status_code == 404
    assert reader.get(f"/reports/{still_open}").status_code == 200
    with db.session() as session:
        assert session.scalars(select(JobFile)).all() == []


def test_a_report_can_be_removed_when_it_has_ended(reader: Reader, desk: Desk, client: TestClient) -> None:
    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    path = f"{BASE}/reports/{report_id}"
    assert client.delete(path, headers=reader.headers).json()["code"] == "job_still_open"
    loop.work(desk)
    assert client.delete(path, headers=reader.headers).status_code == 204
    assert client.get(path, headers=reader.headers).status_code == 404


def test_a_spreadsheet_holds_numbers_and_days(reader: Reader, desk: Desk, story: UUID) -> None:
    report_id = reader.ask(kind="transactions", format="xlsx", portfolio_id=str(story)).json()["job_id"]
    loop.work(desk)
    with ZipFile(io.BytesIO(reader.get(f"/reports/{report_id}/file").content)) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row") == 7  # head, deposit, five trades
    assert "<v>100000.00</v>" in sheet
    assert "<f>" not in sheet


def test_a_ring_through_celery_gets_a_report_made(reader: Reader, desk: Desk) -> None:
    import threading

    from analytics_service.tasks import make_celery
    from analytics_service.wakeup import CeleryWakeup
    from common.celery_app import start_worker_thread

    report_id = reader.ask(kind="holdings", format="csv").json()["job_id"]
    celery = make_celery("memory://", desk=lambda: desk, queue=f"test-{uuid4().hex[:8]}")
    wakeup, stop = CeleryWakeup(celery), threading.Event()
    worker = start_worker_thread(celery, stop)
    try:
        wakeup.work()
        eventually(lambda: reader.get(f"/reports/{report_id}").json()["state"] == "DONE")
    finally:
        stop.set()
        worker.join()
        wakeup.close()
