"""Reports that are made by themselves: for whom, when, once, and never in the way of what users ask for."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from analytics_service import closes as closing
from analytics_service import jobs, loop, report_schedule
from analytics_service.desk import Desk
from analytics_service.models_derived import CloseCoverage
from analytics_service.models_jobs import Job
from analytics_service.models_schedule import ReportSchedule
from analytics_service.report_periods import day_period, month_period, newest_day_over, newest_month_over
from common import outbox
from common.clock import IST, FixedClock, trading_date
from common.db import Database
from common.events import OrderUpdated
from common.testing import TRADING_DAY, eventually

BASE = "/api/v1/analytics"
PATH = f"{BASE}/report-schedule"
INDEX, INFY, TCS = ("NSE", "NIFTY 50"), ("NSE", "INFY"), ("NSE", "TCS")
FIRST = date(2026, 11, 2)
HOLIDAY = date(2026, 11, 24)
"""In the tests' market: the Tuesday after TRADING_DAY."""
Headers = Callable[..., dict[str, str]]
Consume = Callable[..., UUID]


def at(on: date, hour: int, minute: int = 0) -> datetime:
    return datetime(on.year, on.month, on.day, hour, minute, tzinfo=IST).astimezone(UTC)


class Market:
    """Closes of every weekday but HOLIDAY, known up to the clock's day; `look` is a round of both loops."""

    def __init__(self, desk: Desk, source: Any, clock: FixedClock) -> None:
        self.desk, self.source, self.clock = desk, source, clock
        self.days = [FIRST + timedelta(days=number) for number in range(-10, 70)]
        self.days = [day for day in self.days if day.weekday() < 5 and day != HOLIDAY]

    def bring(self) -> None:
        today = trading_date(self.clock.now())
        for key, start in ((INDEX, 25_000_00), (INFY, 1_500_00), (TCS, 3_000_00)):
            self.source.known[key] = {day: start + 100 * no for no, day in enumerate(self.days) if day <= today}
        closing.bring(self.desk.db, self.desk.closes, self.desk.settings.benchmark_key, self.clock)

    def look(self, instant: datetime, *, closes: bool = True) -> int:
        self.clock.set(instant)
        if closes:
            self.bring()
        return report_schedule.queue_due(self.desk)


@pytest.fixture
def market(desk: Desk, closes: Any, clock: FixedClock) -> Market:
    return Market(desk, closes, clock)


class Reader:
    """A signed-in user who holds a share."""

    def __init__(self, client: TestClient, user_id: UUID, sign_in: Headers) -> None:
        self.client, self.user_id, self.sign_in = client, user_id, sign_in

    @property
    def headers(self) -> dict[str, str]:
        """Signed anew: the clock moves by days, and tokens end sooner."""
        return self.sign_in(self.user_id)

    def choose(self, **body: bool) -> Any:
        answer = self.client.put(PATH, json=body, headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def schedule(self) -> Any:
        return self.client.get(PATH, headers=self.headers).json()

    def reports(self) -> list[Any]:
        items: list[Any] = self.client.get(f"{BASE}/reports", headers=self.headers).json()["items"]
        return items

    def ask(self) -> str:
        body = {"kind": "holdings", "format": "csv"}
        headers = {**self.headers, "Idempotency-Key": uuid4().hex}
        return str(self.client.post(f"{BASE}/reports", json=body, headers=headers).json()["job_id"])


@pytest.fixture
def make_reader(
    client: TestClient, auth_headers: Headers, order_updated: Callable[..., OrderUpdated], consume: Consume
) -> Callable[..., Reader]:
    def make(share: str | None = "INFY", *, trading_date: date = FIRST, **chosen: bool) -> Reader:
        user_id = uuid4()
        if share is not None:
            consume(order_updated(user_id=user_id, tradingsymbol=share, trading_date=trading_date))
        reader = Reader(client, user_id, auth_headers)
        if chosen:
            reader.choose(**chosen)
        return reader

    return make


@pytest.fixture
def reader(make_reader: Callable[..., Reader]) -> Reader:
    return make_reader(daily=True)


def told(db: Database) -> list[dict[str, Any]]:
    with db.session() as session:
        rows = session.execute(select(outbox.outbox.c.type, outbox.outbox.c.payload)).all()
    assert {row[0] for row in rows} <= {"ReportReady"}
    return [row[1] for row in rows]


def automatic(db: Database) -> list[tuple[UUID, str, date]]:
    with db.session() as session:
        rows = session.execute(
            select(Job.user_id, Job.cadence, Job.period_end).where(Job.cadence.is_not(None)).order_by(Job.period_end)
        )
        return [(row[0], str(row[1]), row[2]) for row in rows]


# --- the setting ----------------------------------------------------------------------------------------------------


def test_nothing_is_on_until_its_user_says_so(make_reader: Callable[..., Reader]) -> None:
    reader = make_reader()
    nothing = {"daily": False, "monthly": False, "newest_daily": None, "newest_monthly": None}
    assert reader.schedule() == nothing
    assert reader.choose(monthly=True) == {**nothing, "monthly": True}
    assert reader.choose(daily=True) == {**nothing, "daily": True}
    assert reader.choose() == reader.schedule() == nothing


@pytest.mark.parametrize("body", [{"daily": "often"}, {"weekly": True}, {"daily": True, "user_id": str(uuid4())}, []])
def test_what_is_no_schedule_is_refused(reader: Reader, body: Any) -> None:
    answer = reader.client.put(PATH, json=body, headers=reader.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert reader.schedule()["daily"] is True


def test_a_schedule_is_its_users_alone(reader: Reader, client: TestClient, auth_headers: Headers) -> None:
    for headers in (auth_headers(), auth_headers(roles=("admin",))):
        whose = {"user_id": str(reader.user_id)}
        assert client.get(PATH, headers=headers, params=whose).json()["daily"] is False
        assert client.put(PATH, headers=headers, params=whose, json={"monthly": True}).json()["monthly"] is True
    assert client.get(PATH).status_code == client.put(PATH, json={"daily": False}).status_code == 401
    schedule = reader.schedule()
    assert (schedule["daily"], schedule["monthly"]) == (True, False)


# --- when -----------------------------------------------------------------------------------------------------------


def test_a_days_report_is_made_and_told_when_the_day_is_over(
    reader: Reader, market: Market, desk: Desk, db: Database
) -> None:
    assert market.look(at(TRADING_DAY, 19, 59)) == 0
    assert market.look(at(TRADING_DAY, 20, 9)) == 1
    assert loop.work(desk) == 1
    [report] = reader.reports()
    assert (report["state"], report["cadence"]) == ("DONE", "daily")
    assert report["asked"] == {"kind": "portfolio", "format": "html", "to": "2026-11-23"}
    [fact] = told(db)
    assert fact == {
        "report_id": report["job_id"], "user_id": str(reader.user_id), "kind": "daily",
        "title": "Portfolio on 23 Nov 2026", "period_start": "2026-11-23", "period_end": "2026-11-23",
        "occurred_at": fact["occurred_at"],
    }  # fmt: skip
    assert reader.schedule()["newest_daily"] == {"period_end": "2026-11-23", "report_id": report["job_id"]}
    page = reader.client.get(f"{BASE}/reports/{report['job_id']}/file", headers=reader.headers)
    assert "Portfolio on 23 Nov 2026" in page.text
    assert "INFY" in page.text
    assert market.look(at(TRADING_DAY, 23, 50)) == 0


@pytest.mark.parametrize("missing", [{INFY}, {INDEX}, {INDEX, INFY}], ids=["share", "benchmark", "both"])
def test_nothing_is_made_before_the_closes_are_in(
    reader: Reader, market: Market, db: Database, missing: set[tuple[str, str]]
) -> None:
    market.look(at(TRADING_DAY, 19, 55))
    # Prices of 19:55 are all there is: the day is over, its closes are not in.
    assert market.look(at(TRADING_DAY, 21, 0), closes=False) == 0
    market.source.incomplete = missing  # answered from what is stored, for the broker is away
    assert market.look(at(TRADING_DAY, 21, 0)) == market.look(at(TRADING_DAY, 21, 15)) == 0
    assert automatic(db) == []
    market.source.incomplete = set()
    assert market.look(at(TRADING_DAY, 21, 30)) == 1
    assert automatic(db) == [(reader.user_id, "daily", TRADING_DAY)]


def test_a_share_without_closes_keeps_only_its_holders_waiting(
    make_reader: Callable[..., Reader], market: Market, db: Database
) -> None:
    waiting = [make_reader("TCS", daily=True) for _ in range(report_schedule.OPEN_MAX + 1)]
    other = make_reader("INFY", daily=True)
    market.source.incomplete = {TCS}
    market.look(at(TRADING_DAY, 20, 30))
    # However their ids sort, whoever waits goes to the end of the row.
    market.look(at(TRADING_DAY, 20, 31), closes=False)
    assert [row[0] for row in automatic(db)] == [other.user_id]
    market.source.incomplete = set()
    assert market.look(at(TRADING_DAY, 20, 50)) == report_schedule.OPEN_MAX - 1
    assert {row[0] for row in automatic(db)} < {one.user_id for one in [*waiting, other]}


def test_a_share_that_is_no_longer_listed_keeps_nobody_waiting(
    make_reader: Callable[..., Reader], market: Market, desk: Desk
) -> None:
    reader = make_reader("GONE", daily=True)
    assert market.look(at(TRADING_DAY, 20, 30)) == 1
    loop.work(desk)
    assert reader.reports()[0]["state"] == "DONE"


@pytest.mark.usefixtures("reader")
def test_no_report_on_a_holiday_or_a_weekend(market: Market, db: Database) -> None:
    market.look(at(TRADING_DAY, 20, 30))
    assert market.look(at(HOLIDAY, 20, 30)) == 0
    for later in range(2, 5):
        assert market.look(at(TRADING_DAY + timedelta(days=later), 20, 30)) == 1
    saturday = TRADING_DAY + timedelta(days=5)
    assert market.look(at(saturday, 20, 30)) == market.look(at(saturday + timedelta(days=1), 20, 30)) == 0
    assert [row[2].day for row in automatic(db)] == [23, 25, 26, 27]


def test_a_months_report_comes_on_the_first_of_the_next(
    make_reader: Callable[..., Reader], market: Market, desk: Desk, db: Database
) -> None:
    reader = make_reader(monthly=True)
    assert market.look(at(date(2026, 11, 30), 21)) == 0
    assert market.look(at(date(2026, 12, 1), 7, 55)) == 0
    # The closes of after midnight are the last word on November; the broker may be away by the morning.
    assert market.look(at(date(2026, 12, 1), 8, 1), closes=False) == 1
    loop.work(desk)
    [report] = reader.reports()
    assert (report["state"], report["cadence"], report["asked"]["from"]) == ("DONE", "monthly", "2026-11-01")
    [fact] = told(db)
    assert (fact["kind"], fact["title"]) == ("monthly", "Portfolio in November 2026")
    assert (fact["period_start"], fact["period_end"]) == ("2026-11-01", "2026-11-30")
    assert market.look(at(date(2026, 12, 31), 21)) == 0
    assert automatic(db) == [(reader.user_id, "monthly", date(2026, 11, 30))]


def test_a_months_report_waits_for_closes_of_after_the_month(
    make_reader: Callable[..., Reader], market: Market, db: Database
) -> None:
    make_reader(monthly=True)
    market.look(at(date(2026, 11, 27), 21))
    # Nothing was read on the 30th: that day's closes, and that it was a trading day, are not known.
    assert market.look(at(date(2026, 12, 1), 9), closes=False) == 0
    assert market.look(at(date(2026, 12, 1), 9, 1)) == 1
    assert [row[1:] for row in automatic(db)] == [("monthly", date(2026, 11, 30))]


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  made aware
def test_the_newest_periods_are_over_and_the_next_ones_are_not(now: datetime) -> None:
    on = newest_day_over(now)
    assert day_period(on).over_at <= now < day_period(on + timedelta(days=1)).over_at
    month = newest_month_over(now)
    assert month.final_from <= month.over_at <= now < month_period(month.last + timedelta(days=1)).over_at
    assert (month.first.day, (month.last + timedelta(days=1)).day) == (1, 1)


# --- for whom -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reader")
def test_who_did_not_ask_gets_none(make_reader: Callable[..., Reader], market: Market, db: Database) -> None:
    silent, gone = make_reader(), make_reader(daily=True)
    gone.choose(daily=False)
    monthly = make_reader(monthly=True)
    assert market.look(at(TRADING_DAY, 20, 30)) == 1
    assert {silent.user_id, gone.user_id, monthly.user_id}.isdisjoint(row[0] for row in automatic(db))


@pytest.mark.usefixtures("reader")
def test_who_has_nothing_gets_none_until_something_happens(
    make_reader: Callable[..., Reader], market: Market, db: Database,
    order_updated: Callable[..., OrderUpdated], consume: Consume,
) -> None:  # fmt: skip
    empty = make_reader(None, daily=True)
    assert market.look(at(TRADING_DAY, 20, 30)) == 1
    assert empty.schedule()["newest_daily"] is None
    consume(order_updated(user_id=empty.user_id, tradingsymbol="INFY", trading_date=HOLIDAY + timedelta(days=1)))
    assert market.look(at(HOLIDAY + timedelta(days=1), 20, 30)) == 2
    assert (empty.user_id, "daily", HOLIDAY + timedelta(days=1)) in automatic(db)


def test_days_that_were_over_when_it_was_switched_on_are_not_made_up_for(
    make_reader: Callable[..., Reader], market: Market
) -> None:
    reader = make_reader()
    market.look(at(TRADING_DAY, 20, 30))
    reader.choose(daily=True, monthly=True)
    assert market.look(at(HOLIDAY, 9)) == 0
    reader.choose(daily=True)  # said again: it stays on since it was
    assert market.look(at(HOLIDAY + timedelta(days=1), 20, 30)) == 1
    reader.choose()
    reader.choose(daily=True)
    assert market.look(at(HOLIDAY + timedelta(days=1), 23)) == 0


# --- once -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reader")
def test_days_missed_are_made_up_for_by_one_report(
    make_reader: Callable[..., Reader], market: Market, db: Database
) -> None:
    make_reader(daily=True, monthly=True)
    market.look(at(TRADING_DAY, 15))
    # Away for six weeks, back in the middle of a trading day.
    back = at(date(2027, 1, 6), 11)
    assert market.look(back) == 3
    assert market.look(back + timedelta(minutes=20)) == 0
    days = sorted((cadence, on) for _, cadence, on in automatic(db))
    assert days == [("daily", date(2027, 1, 5)), ("daily", date(2027, 1, 5)), ("monthly", date(2026, 12, 31))]


def test_loops_at_once_make_one_report_for_each(
    make_reader: Callable[..., Reader], market: Market, desk: Desk, db: Database
) -> None:
    readers = [make_reader(daily=True) for _ in range(6)]
    market.look(at(TRADING_DAY, 19, 55))
    market.clock.set(at(TRADING_DAY, 20, 30))
    market.bring()
    begin = threading.Barrier(4)

    def look(_: int) -> int:
        begin.wait(timeout=10)
        return report_schedule.queue_due(desk)

    with ThreadPoolExecutor(4) as pool:
        queued = sum(pool.map(look, range(4)))
    # Whoever found a row held by another loop left it to that one.
    assert queued + report_schedule.queue_due(desk) == len(readers)
    assert sorted(automatic(db)) == sorted((one.user_id, "daily", TRADING_DAY) for one in readers)


def test_a_mark_that_was_lost_makes_no_second_report(reader: Reader, market: Market, db: Database) -> None:
    market.look(at(TRADING_DAY, 20, 30))
    with db.transaction() as session:
        session.execute(update(ReportSchedule).values(made_for=None))
    market.look(at(TRADING_DAY, 20, 31))
    assert market.look(at(TRADING_DAY, 20, 32)) == 0
    assert automatic(db) == [(reader.user_id, "daily", TRADING_DAY)]


def test_a_loop_that_dies_leaves_no_half(
    reader: Reader, market: Market, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    market.look(at(TRADING_DAY, 19, 55))
    with monkeypatch.context() as patched:
        patched.setattr(jobs, "add_automatic", killed)
        with pytest.raises(KeyboardInterrupt):
            market.look(at(TRADING_DAY, 20, 30))
    assert automatic(db) == []
    assert market.look(at(TRADING_DAY, 20, 31)) == 1
    assert automatic(db) == [(reader.user_id, "daily", TRADING_DAY)]


def test_a_removed_report_is_not_made_again(reader: Reader, market: Market, desk: Desk, db: Database) -> None:
    market.look(at(TRADING_DAY, 20, 30))
    loop.work(desk)
    [report] = reader.reports()
    assert reader.client.delete(f"{BASE}/reports/{report['job_id']}", headers=reader.headers).status_code == 204
    assert market.look(at(TRADING_DAY, 20, 45)) == 0
    assert (len(told(db)), reader.reports()) == (1, [])


def test_old_automatic_reports_go_like_all_others(reader: Reader, market: Market, desk: Desk, db: Database) -> None:
    market.look(at(TRADING_DAY, 20, 30))
    loop.work(desk)
    assert jobs.prune(db, market.clock.now() + jobs.KEPT_FOR + timedelta(seconds=1)) == 1
    assert reader.reports() == []
    assert market.look(at(TRADING_DAY, 20, 45)) == 0


# --- not in the way -------------------------------------------------------------------------------------------------


def test_what_users_ask_for_comes_first_and_the_rest_is_bounded(
    make_reader: Callable[..., Reader], market: Market, db: Database
) -> None:
    readers = [make_reader(daily=True) for _ in range(report_schedule.OPEN_MAX + 3)]
    assert market.look(at(TRADING_DAY, 20, 30)) == report_schedule.OPEN_MAX
    assert report_schedule.queue_due(market.desk) == 0
    market.clock.advance(60)
    asked = {readers[0].ask() for _ in range(jobs.OPEN_MAX)}  # an automatic one takes none of a user's places
    taken = [jobs.take(db, market.clock.now()) for _ in range(jobs.OPEN_MAX + 1)]
    assert {str(job.job_id) for job in taken[:-1] if job} == asked
    assert taken[-1] is not None
    assert taken[-1].cadence == "daily"
    with db.transaction() as session:
        session.execute(delete(Job))
    assert report_schedule.queue_due(market.desk) == 3


def test_a_report_that_fails_ends_visibly_and_alone(
    make_reader: Callable[..., Reader], market: Market, desk: Desk, db: Database
) -> None:
    broken, refused, well = (make_reader(daily=True) for _ in range(3))
    assert market.look(at(TRADING_DAY, 20, 30)) == 3
    with db.transaction() as session:
        of_user = {job.user_id: job for job in session.scalars(select(Job))}
        of_user[broken.user_id].asked = {"kind": "unheard-of"}
        of_user[refused.user_id].asked = {**of_user[refused.user_id].asked, "portfolio_id": str(uuid4())}
    assert loop.work(desk) == jobs.ATTEMPTS_MAX + 2
    ends = [[(one["state"], one["problem_code"]) for one in reader.reports()] for reader in (broken, refused, well)]
    assert ends == [[("FAILED", "given_up")], [("FAILED", "report_subject_gone")], [("DONE", None)]]
    assert [fact["user_id"] for fact in told(db)] == [str(well.user_id)]
    assert market.look(at(TRADING_DAY, 20, 45)) == 0  # not tried for ever
    assert market.look(at(HOLIDAY + timedelta(days=1), 20, 30)) == 3


def test_the_loop_of_the_room_makes_them(reader: Reader, market: Market, desk: Desk, db: Database) -> None:
    market.clock.set(at(TRADING_DAY, 20, 30))
    market.bring()
    stop = threading.Event()
    threads = [threading.Thread(target=one, args=(stop,)) for one in loop.loops(desk)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: automatic(db))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert automatic(db) == [(reader.user_id, "daily", TRADING_DAY)]


def test_coverage_from_before_this_release_says_nothing(reader: Reader, market: Market, db: Database) -> None:
    market.look(at(TRADING_DAY, 19, 55))
    market.clock.set(at(TRADING_DAY, 20, 30))
    market.bring()
    with db.transaction() as session:
        session.execute(update(CloseCoverage).values(answered_at=None))
    assert report_schedule.queue_due(market.desk) == 0
    assert market.look(at(TRADING_DAY, 20, 45)) == 1
    assert automatic(db) == [(reader.user_id, "daily", TRADING_DAY)]
