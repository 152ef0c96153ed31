"""A user's own CSV: all rows or none, every bad row named with its reason, the same row once, nobody else's eyes."""

import random
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from analytics_service import import_rows, importing, jobs, loop
from analytics_service.desk import Desk
from analytics_service.import_rows import parse
from analytics_service.models import ImportedTrade, OrderFact, Trade
from common.clock import FixedClock
from common.db import Database

BASE = "/api/v1/analytics"
TODAY = date(2026, 11, 23)
HEAD = "date,side,symbol,quantity,price,charges\n"
GOOD = HEAD + "2026-01-05,BUY,RELIANCE,10,1400.50,20\n2026-02-05,SELL,RELIANCE,4,1500,10\n2026-02-06,buy,M&M,1,3000,0\n"
BAD = (
    HEAD
    + "2026-01-05,BUY,RELIANCE,10,1400.50,20\n"
    + "05.01.2026,BUY,RELIANCE,10,1400.50,20\n"
    + "2026-01-05,HOLD,RELIANCE,10,1400.50,20\n"
    + "2026-01-05,BUY,,10,1400.50,20\n"
    + "2026-01-05,BUY,RELIANCE,1.5,1400.50,20\n"
    + "2026-01-05,BUY,RELIANCE,10,-3,20\n"
    + "2027-01-05,BUY,RELIANCE,10,1400,20\n"
    + "2026-01-06,BUY,TCS,1,3000,0\n"
)
PROBLEMS = [
    (3, "date", "not_a_date"),
    (4, "side", "unknown_side"),
    (5, "symbol", "empty"),
    (6, "quantity", "not_a_whole_number"),
    (7, "price", "not_an_amount"),
    (8, "date", "in_the_future"),
]
Headers = Callable[..., dict[str, str]]


class Importer:
    """A signed-in user with files."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def send(self, text: str | bytes, key: str | None = None, **params: Any) -> Any:
        headers = {**self.headers, "Idempotency-Key": key or uuid4().hex, "Content-Type": "text/csv"}
        return self.client.post(
            f"{BASE}/imports", content=text, headers=headers, params={"name": "Old broker", **params}
        )

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(f"{BASE}{path}", headers=self.headers, params=params)

    def portfolio_id(self) -> str:
        return str(self.get("/portfolios").json()["items"][0]["portfolio_id"])


@pytest.fixture
def importer(client: TestClient, auth_headers: Headers) -> Importer:
    return Importer(client, auth_headers(uuid4()))


def stored(db: Database) -> int:
    with db.session() as session:
        return session.scalar(select(func.count()).select_from(ImportedTrade)) or 0


def test_a_good_file_becomes_a_portfolio_of_its_own(importer: Importer, desk: Desk, db: Database) -> None:
    job = importer.send(GOOD).json()
    assert (job["state"], job["progress"]) == ("QUEUED", 0.0)
    loop.work(desk)
    done = importer.get(f"/imports/{job['job_id']}").json()
    assert (done["state"], done["progress"]) == ("DONE", 1.0)
    pnl = importer.get("/pnl", portfolio_id=importer.portfolio_id()).json()
    # 4 of 10 sold: 6,000 - 5,602; the rest is worth the last trade's price.
    [reliance] = [share for share in pnl["shares"] if share["tradingsymbol"] == "RELIANCE"]
    assert (reliance["quantity"], reliance["realised"], reliance["price"]) == (6, "398.00", "1500.00")
    assert importer.get("").json()["traded"]["trade_count"] == 0  # not among what was traded here
    with db.session() as session:
        assert session.scalars(select(Trade)).all() == session.scalars(select(OrderFact)).all() == []


def test_a_file_with_bad_rows_is_not_taken_and_says_which_and_why(importer: Importer, desk: Desk, db: Database) -> None:
    job_id = importer.send(BAD).json()["job_id"]
    loop.work(desk)
    job = importer.get(f"/imports/{job_id}").json()
    assert (job["state"], job["problem_code"]) == ("FAILED", "rows_have_problems")
    assert job["problem"].startswith("6 of 8 rows have problems")
    problems = importer.get(f"/imports/{job_id}/problems").json()
    assert [(one["row"], one["column"], one["code"]) for one in problems["items"]] == PROBLEMS
    assert all(one["message"] for one in problems["items"])
    page = importer.get(f"/imports/{job_id}/problems", limit=4).json()
    rest = importer.get(f"/imports/{job_id}/problems", after=page["next"]).json()
    assert page["items"] + rest["items"] == problems["items"]
    assert stored(db) == 0
    assert importer.get("/portfolios").json()["items"] == []


def test_the_good_rows_are_taken_when_asked_for(importer: Importer, desk: Desk, db: Database) -> None:
    job_id = importer.send(BAD, partial=True).json()["job_id"]
    loop.work(desk)
    assert importer.get(f"/imports/{job_id}").json()["state"] == "DONE"
    assert len(importer.get(f"/imports/{job_id}/problems").json()["items"]) == len(PROBLEMS)
    assert stored(db) == 2


def test_the_same_rows_again_change_nothing_and_new_ones_are_added(
    importer: Importer, desk: Desk, db: Database
) -> None:
    importer.send(GOOD)
    loop.work(desk)
    importer.send(GOOD)
    importer.send(GOOD + "2026-03-01,BUY,TCS,1,3000,0\n2026-01-05,BUY,RELIANCE,10,1400.50,20\n")
    loop.work(desk)
    # One new share, and the row that was there once is there twice now: two alike trades of one day are two.
    assert stored(db) == 5


def test_one_key_is_one_import(importer: Importer) -> None:
    first, again, other = importer.send(GOOD, "k"), importer.send(GOOD, "k"), importer.send(BAD, "k")
    assert first.json() == again.json()
    assert (first.status_code, other.status_code) == (202, 409)


def test_a_worker_killed_in_the_middle_leaves_nothing_and_the_next_one_takes_all(
    importer: Importer, desk: Desk, db: Database, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = importer.send(GOOD).json()["job_id"]

    class Killed(BaseException):
        """The end of a process."""

    real = importing._store_rows

    def dies(*args: Any) -> None:
        real(*args)
        raise Killed

    monkeypatch.setattr(importing, "_store_rows", dies)
    with pytest.raises(Killed):
        loop.work(desk)
    assert stored(db) == 0
    monkeypatch.setattr(importing, "_store_rows", real)
    clock.advance(jobs.HELD_FOR.total_seconds() + 1)
    loop.work(desk)
    assert importer.get(f"/imports/{job_id}").json()["state"] == "DONE"
    assert stored(db) == 3


def test_imports_are_their_users_alone(
    importer: Importer, desk: Desk, client: TestClient, auth_headers: Headers
) -> None:
    job_id = importer.send(GOOD).json()["job_id"]
    loop.work(desk)
    portfolio_id = importer.portfolio_id()
    other = Importer(client, auth_headers())
    for path in (f"/imports/{job_id}", f"/imports/{job_id}/problems"):
        assert other.get(path).status_code == 404
    for path in ("/pnl", "/returns", "/history", "/page", "/summary"):
        assert other.get(path, portfolio_id=portfolio_id).status_code == 404
    assert client.delete(f"{BASE}/portfolios/{portfolio_id}", headers=other.headers).status_code == 404
    assert other.get("/imports").json()["items"] == other.get("/portfolios").json()["items"] == []


def test_an_imported_portfolio_can_be_removed_with_everything_made_of_it(
    importer: Importer, desk: Desk, client: TestClient, db: Database
) -> None:
    importer.send(GOOD)
    loop.work(desk)
    portfolio_id = importer.portfolio_id()
    assert client.delete(f"{BASE}/portfolios/{portfolio_id}", headers=importer.headers).status_code == 204
    assert stored(db) == 0
    assert importer.get("/pnl", portfolio_id=portfolio_id).status_code == 404


def test_holdings_become_purchases(importer: Importer, desk: Desk) -> None:
    text = "Tradingsymbol,Qty.,Avg. cost,acquired_on,LTP\nINFY,5,1500.123,2025-04-01,1600\n"
    importer.send(text, rows="holdings")
    loop.work(desk)
    [share] = importer.get("/pnl", portfolio_id=importer.portfolio_id()).json()["shares"]
    assert (share["quantity"], share["cost"]) == (5, "7500.62")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\xff\xfe\x00x", "not_utf8"),
        (b"date,side\x00", "not_csv"),
        (b'date,side,symbol,quantity,price\n"2026-01-05', "not_csv"),
        (b"date,side,symbol,quantity\n1,2,3,4\n", "missing_column"),
        (b"date,date,side,symbol,quantity,price\n", "doubled_column"),
        (b"a," * 70, "too_many_columns"),
        ((HEAD + "2026-01-05,BUY,TCS,1,1,1\n" * (import_rows.ROWS_MAX + 1)).encode(), "too_many_rows"),
    ],
    ids=["empty", "utf8", "binary", "quote", "column", "doubled", "columns", "rows"],
)
def test_what_is_no_such_file_is_refused_whole(content: bytes, code: str) -> None:
    parsed = parse(content, "trades", TODAY)
    assert [(problem.row, problem.code) for problem in parsed.problems] == [(1, code)]
    assert parsed.rows == []


def test_a_file_without_rows_fails_with_its_reason_even_when_partial(importer: Importer, desk: Desk) -> None:
    ids = [importer.send(text, partial=True).json()["job_id"] for text in (HEAD, "a,b\n1,2\n")]
    loop.work(desk)
    assert [importer.get(f"/imports/{one}").json()["problem_code"] for one in ids] == ["no_rows", "missing_column"]


def test_too_large_a_file_is_refused_at_once(importer: Importer) -> None:
    answer = importer.send(b"x" * (import_rows.BYTES_MAX + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")


def test_a_trade_book_of_another_broker_is_read() -> None:
    text = (
        "symbol,isin,trade_date,exchange,segment,series,trade_type,auction,quantity,price,trade_id,order_id\n"
        "INFY,INE009A01021,2026-01-05,NSE,EQ,EQ,buy,false,10.000000,1500.100000,7001,1100\n"
        "INFY,INE009A01021,2026-01-05,NSE,EQ,EQ,sell,false,4.000000,1510.000000,7002,1101\n"
        "INFY,INE009A01021,2026-01-05,NSE,EQ,EQ,sell,false,4.000000,1510.000000,7002,1101\n"
    )
    parsed = parse(text.encode(), "trades", TODAY)
    assert [(row.side, row.quantity, row.amount_paise) for row in parsed.rows] == [
        ("BUY", 10, 15_001_00), ("SELL", 4, 6_040_00),
    ]  # fmt: skip
    assert [(problem.row, problem.code) for problem in parsed.problems] == [(4, "doubled_trade_id")]


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    parsed = parse(HEAD.encode() + content, "trades", TODAY)
    assert len(parsed.rows) + parsed.bad_rows >= parsed.row_count or parsed.problems


@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=40))
def test_every_row_is_either_taken_or_named(seed: int, good: list[bool]) -> None:
    rng = random.Random(seed)  # noqa: S311  a repeatable file, not a secret
    bad_cells = ["", "x", "-1", "1e5", "99999999999999999999", "=1+1"]
    lines = [
        f"2026-0{rng.randint(1, 9)}-1{rng.randint(0, 9)},{rng.choice(['BUY', 'SELL'])},S{rng.randint(0, 99)},"
        f"{rng.randint(1, 99) if is_good else rng.choice(bad_cells)},{rng.randint(1, 9999)}.{rng.randint(0, 99):02d},0"
        for is_good in good
    ]
    parsed = parse((HEAD + "\n".join(lines)).encode(), "trades", TODAY)
    assert [row.row for row in parsed.rows] == [at + 2 for at, is_good in enumerate(good) if is_good]
    assert sorted({problem.row for problem in parsed.problems}) == [
        at + 2 for at, is_good in enumerate(good) if not is_good
    ]
    assert len({row.key for row in parsed.rows}) == len(parsed.rows)


def test_portfolios_brought_are_bounded(importer: Importer, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "PORTFOLIOS_MAX", 1)
    ids = []
    for name in ("one", "two"):
        ids.append(importer.send(GOOD, name=name).json()["job_id"])
        loop.work(desk)
    assert [importer.get(f"/imports/{one}").json()["problem_code"] for one in ids] == [
        None, "too_many_imported_portfolios",
    ]  # fmt: skip


def test_user_ids_differ_from_portfolios(importer: Importer) -> None:
    assert importer.get("/pnl", portfolio_id=str(UUID(int=1))).json()["code"] == "portfolio_not_found"
