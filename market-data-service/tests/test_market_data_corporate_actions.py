"""Splits and bonus issues: entered once, withdrawn but never erased, taken out of candles, and no harm to stored ones."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from common.clock import FixedClock
from common.db import Database
from common.testing import client_for
from market_data_service.candle_histories import stored_histories
from market_data_service.candle_spans import Span
from market_data_service.candles import day_candles
from market_data_service.config import NAME
from market_data_service.corporate_actions import Entered, enter, withdraw
from market_data_service.instruments import Listing
from market_data_service.market import Market
from market_data_service.models import CorporateAction
from market_data_service.source import DayCandle, IntradayCandle, NoBrokerSession

PATH = "/api/v1/market/corporate-actions"
TODAY = date(2026, 11, 23)
DAY = timedelta(days=1)
EX = date(2026, 6, 15)
BONUS = {
    "exchange": "nse",
    "tradingsymbol": "INFY",
    "ex_date": EX.isoformat(),
    "kind": "BONUS",
    "new_shares": 2,
    "old_shares": 1,
    "reason": "Bonus 1:1 by circular",
}
SHARE = Listing("NSE", "INFY", "INFOSYS", 408065, "1594", 10, 1, "NSE", "EQ", TODAY)
ADMIN = uuid4()


def rows(db: Database) -> list[CorporateAction]:
    with db.session() as session:
        return list(session.scalars(select(CorporateAction).order_by(CorporateAction.created_at)))


# --- entering and withdrawing -----------------------------------------------------------------------------------------------


def test_an_entered_action_is_a_row_with_who_and_when_and_everybody_reads_it(
    client: TestClient, auth_headers: Callable[..., dict[str, str]], user: dict[str, str], db: Database
) -> None:
    admin_id = uuid4()
    answer = client.post(PATH, json=BONUS, headers=auth_headers(admin_id, roles=("admin",)))
    assert answer.status_code == 200, answer.text
    [row] = rows(db)
    assert (row.exchange, row.tradingsymbol, row.ex_date, row.kind) == ("NSE", "INFY", EX, "BONUS")
    assert (row.new_shares, row.old_shares, row.created_by) == (2, 1, admin_id)
    listed = client.get(f"{PATH}/NSE/infy", headers=user).json()
    action = {"action_id": str(row.action_id), "ex_date": "2026-06-15", "kind": "BONUS"}
    assert listed == {
        "exchange": "NSE", "tradingsymbol": "INFY", "actions": [{**action, "new_shares": 2, "old_shares": 1}],
    }  # fmt: skip
    assert client.get(f"{PATH}/NSE/TCS", headers=user).json()["actions"] == []
    assert client.get(f"{PATH}/NSE/NOSUCH", headers=user).json()["code"] == "unknown_instrument"


def test_the_same_word_twice_is_one_row_and_another_ratio_is_refused(
    client: TestClient, admin: dict[str, str], db: Database
) -> None:
    first = client.post(PATH, json=BONUS, headers=admin).json()
    again = client.post(PATH, json={**BONUS, "new_shares": 4, "old_shares": 2, "reason": "once more"}, headers=admin)
    assert again.json() == first, "4 for 2 is 2 for 1"
    other = client.post(PATH, json={**BONUS, "new_shares": 3}, headers=admin)
    assert (other.status_code, other.json()["code"]) == (409, "corporate_action_exists")
    assert other.json()["action_id"] == first["action_id"]
    assert len(rows(db)) == 1
    split = client.post(PATH, json={**BONUS, "kind": "SPLIT", "new_shares": 5}, headers=admin)
    assert split.status_code == 200, "a split on the day of a bonus issue is another action"


def test_a_withdrawn_action_stays_on_record_and_makes_room_for_the_right_one(
    client: TestClient, admin: dict[str, str], user: dict[str, str]
) -> None:
    wrong = client.post(PATH, json={**BONUS, "new_shares": 3}, headers=admin).json()
    place = f"{PATH}/{wrong['action_id']}"
    assert client.delete(place, headers=admin).status_code == 422, "a reason is wanted"
    gone = client.delete(place, params={"reason": "3 was a slip"}, headers=admin)
    assert (gone.status_code, gone.json()["is_in_force"]) == (200, False)
    again = client.delete(place, params={"reason": "3 was a slip"}, headers=admin)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_corporate_action")
    assert client.post(PATH, json=BONUS, headers=admin).status_code == 200
    assert [row["new_shares"] for row in client.get(f"{PATH}/NSE/INFY", headers=user).json()["actions"]] == [2]
    records = client.get(PATH, headers=admin).json()["actions"]
    assert sorted((row["new_shares"], row["is_in_force"], row["withdrawn_reason"]) for row in records) == [
        (2, True, None),
        (3, False, "3 was a slip"),
    ]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"tradingsymbol": "NOSUCH"}, 404, "unknown_instrument"),
        ({"exchange": "MCX"}, 404, "unknown_instrument"),
        ({"tradingsymbol": "NIFTY 50"}, 422, "not_a_share"),
        ({"new_shares": 0}, 422, "invalid_request"),
        ({"old_shares": -1}, 422, "invalid_request"),
        ({"new_shares": 1_001}, 422, "invalid_request"),
        ({"new_shares": 2.0}, 422, "invalid_request"),
        ({"new_shares": True}, 422, "invalid_request"),
        ({"new_shares": "2"}, 422, "invalid_request"),
        ({"new_shares": 1}, 422, "ratio_invalid"),
        ({"old_shares": 3}, 422, "ratio_invalid"),
        ({"kind": "DIVIDEND"}, 422, "invalid_request"),
        ({"ex_date": "1989-12-31"}, 422, "ex_date_invalid"),
        ({"ex_date": "2027-11-25"}, 422, "ex_date_invalid"),
        ({"ex_date": "0001-01-01"}, 422, "invalid_request"),
        ({"ex_date": "soon"}, 422, "invalid_request"),
        ({"reason": "why"}, 422, "invalid_request"),
        ({"reason": "a reason\x00"}, 422, "invalid_request"),
        ({"created_by": "me"}, 422, "invalid_request"),
    ],
)
def test_bad_actions_are_refused_and_leave_no_trace(
    client: TestClient, admin: dict[str, str], db: Database, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = client.post(PATH, json={**BONUS, **changes}, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert rows(db) == []


def test_only_admins_enter_withdraw_and_see_who_did(client: TestClient, user: dict[str, str]) -> None:
    assert client.post(PATH, json=BONUS, headers=user).status_code == 403
    assert client.delete(f"{PATH}/{uuid4()}", params={"reason": "not mine"}, headers=user).status_code == 403
    assert client.get(PATH, headers=user).status_code == 403
    assert client.get(f"{PATH}/NSE/INFY").status_code == 401


def test_admins_at_the_same_time_leave_one_action_in_force(
    client: TestClient, admin: dict[str, str], db: Database
) -> None:
    def post(number: int) -> int:
        return client.post(PATH, json={**BONUS, "new_shares": 2 + number % 2}, headers=admin).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(post, range(8)))
    assert sorted(statuses) == [200] * 4 + [409] * 4
    assert len(rows(db)) == 1


def test_the_table_itself_refuses_two_in_force(db: Database, clock: FixedClock) -> None:
    row = enter_(db, clock)
    values = {column.key: getattr(row, column.key) for column in CorporateAction.__table__.columns}
    with db.session() as session:
        session.add(CorporateAction(**{**values, "action_id": uuid4()}))
        with pytest.raises(IntegrityError, match="uq_corporate_action_in_force"):
            session.flush()


# --- candles ----------------------------------------------------------------------------------------------------------------


def enter_(db: Database, clock: FixedClock, ex_date: date = EX, new_shares: int = 2) -> CorporateAction:
    with db.transaction() as session:
        return enter(session, Entered(SHARE, ex_date, "SPLIT", new_shares, 1, "by circular"), ADMIN, clock.now())


class Broker:
    """What a test's broker says: a share that always cost 1,000 rupees before its splits, on every weekday of 2026."""

    def __init__(self, scripted: Any, clock: FixedClock) -> None:
        self.source, self.clock = scripted, clock
        self.tell([])

    def tell(self, splits: list[tuple[date, int]]) -> None:
        """State all candles anew, adjusted for these splits (ex-date, new for one)."""
        first = date(2026, 1, 1)
        every = [first + timedelta(days=offset) for offset in range((date(2026, 12, 31) - first).days)]
        self.source.candles = [self._candle(on, splits) for on in every if on.weekday() < 5]

    def _candle(self, on: date, splits: list[tuple[date, int]]) -> DayCandle:
        price = 1_000_00
        for _, new in splits:
            price //= new
        return DayCandle(on, price, price + 100, price - 100, price, 1_200)


@pytest.fixture
def broker(scripted: Any, clock: FixedClock) -> Broker:
    return Broker(scripted, clock)


@pytest.fixture
def ask(
    make_app: Callable[..., Any], loaded: Market, scripted: Any, auth_headers: Callable[..., dict[str, str]]
) -> Callable[..., dict[str, Any]]:
    """Ask for candles of INFY of the test's broker, with a token of the moment."""
    client = client_for(make_app(source=scripted))

    def get(**params: Any) -> dict[str, Any]:
        answer = client.get("/api/v1/candles/NSE/INFY", params=params, headers=auth_headers())
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return get


AROUND = {"from": "2026-06-11", "to": "2026-06-16"}


def closes(answer: dict[str, Any]) -> dict[str, str]:
    return {row["date"]: row["close"] for row in answer["candles"]}


def test_candles_are_adjusted_unless_asked_otherwise(
    broker: Broker, ask: Callable[..., dict[str, Any]], db: Database, clock: FixedClock
) -> None:
    broker.tell([(EX, 5)])
    before = ask(**AROUND)
    assert (before["adjusted"], before["undone"]) == (True, [])
    enter_(db, clock, new_shares=5)
    assert ask(**AROUND) == before == ask(**AROUND, adjusted=True)
    raw = ask(**AROUND, adjusted=False)
    assert raw["adjusted"] is False
    assert raw["undone"] == [{"ex_date": "2026-06-15", "kind": "SPLIT", "new_shares": 5, "old_shares": 1}]
    assert closes(raw) == {
        "2026-06-11": "1000.00", "2026-06-12": "1000.00", "2026-06-15": "200.00", "2026-06-16": "200.00",
    }  # fmt: skip
    assert raw["candles"][0] == {
        "date": "2026-06-11", "open": "1000.00", "high": "1005.00", "low": "995.00", "close": "1000.00", "volume": 240,
    }  # fmt: skip
    after = ask(**{"from": "2026-06-15", "to": "2026-06-16"}, adjusted=False)
    assert (after["adjusted"], after["undone"]) == (False, []), "nothing had to be undone"
    assert ask(**AROUND) == before, "what is stored stays what the broker gave"


def test_two_actions_one_withdrawn_and_one_to_come(
    broker: Broker, ask: Callable[..., dict[str, Any]], db: Database, clock: FixedClock
) -> None:
    broker.tell([(EX, 5)])
    enter_(db, clock, new_shares=5)
    enter_(db, clock, ex_date=TODAY + DAY, new_shares=10)
    wrong = enter_(db, clock, ex_date=date(2026, 6, 16), new_shares=7)
    assert ask(**AROUND, adjusted=False)["candles"][0]["close"] == "7000.00"
    with db.transaction() as session:
        withdraw(session, wrong.action_id, "no such split", ADMIN, clock.now())
    raw = ask(**AROUND, adjusted=False)
    assert (raw["candles"][0]["close"], len(raw["undone"])) == ("1000.00", 1)


def test_shorter_intervals_are_undone_too(
    ask: Callable[..., dict[str, Any]], db: Database, scripted: Any, clock: FixedClock
) -> None:
    starts = [datetime(2026, 6, day, 3, 45, tzinfo=UTC) for day in (12, 15)]
    bars = [IntradayCandle(at, 200_00, 201_00, 199_00, 200_00, 50) for at in starts]
    scripted.intraday_candles = lambda token, interval, first, last: bars
    enter_(db, clock, new_shares=5)
    span = {"from": "2026-06-12", "to": "2026-06-15", "interval": "60minute"}
    assert ask(**span)["undone"] == []
    raw = ask(**span, adjusted=False)
    assert [(row["time"], row["close"], row["volume"]) for row in raw["candles"]] == [
        ("2026-06-12T09:15:00+05:30", "1000.00", 10),
        ("2026-06-15T09:15:00+05:30", "200.00", 50),
    ]
    assert (raw["adjusted"], len(raw["undone"])) == (False, 1)


# --- stored candles and a broker that restates ------------------------------------------------------------------------------

MAY = Span(date(2026, 5, 4), date(2026, 5, 29))


def at(clock: FixedClock, on: date) -> None:
    clock.set(datetime(on.year, on.month, on.day, 6, tzinfo=UTC))


def may_closes(db: Database, broker: Broker, clock: FixedClock) -> set[int]:
    return {row.close_paise for row in day_candles(db, broker.source, clock, SHARE, MAY).candles}


def test_candles_read_before_the_split_are_not_undone_while_the_broker_is_away(
    broker: Broker, ask: Callable[..., dict[str, Any]], db: Database, clock: FixedClock
) -> None:
    at(clock, EX - DAY)
    ask(**{"from": "2026-05-04", "to": "2026-05-29"})
    at(clock, EX + DAY)
    enter_(db, clock, new_shares=5)
    broker.tell([(EX, 5)])
    broker.source.failure = NoBrokerSession("nobody is logged in")
    raw = ask(**{"from": "2026-05-04", "to": "2026-05-29"}, adjusted=False)
    assert (raw["is_complete"], raw["undone"]) == (False, [])
    assert set(closes(raw).values()) == {"1000.00"}
    broker.source.failure = None
    raw = ask(**{"from": "2026-05-04", "to": "2026-05-29"}, adjusted=False)
    assert (raw["is_complete"], len(raw["undone"])) == (True, 1)
    assert set(closes(raw).values()) == {"1000.00"}
    assert set(closes(ask(**{"from": "2026-05-04", "to": "2026-05-29"})).values()) == {"200.00"}


def test_a_history_stored_before_the_split_is_read_anew_once(db: Database, broker: Broker, clock: FixedClock) -> None:
    at(clock, EX - timedelta(days=3))
    enter_(db, clock, new_shares=5)  # announced before its ex-date
    assert may_closes(db, broker, clock) == {1_000_00}
    calls = len(broker.source.calls)
    assert may_closes(db, broker, clock) == {1_000_00}
    assert len(broker.source.calls) == calls
    at(clock, EX)
    broker.tell([(EX, 5)])
    assert may_closes(db, broker, clock) == {200_00}
    at(clock, EX + DAY)  # the broker might have restated only after it was read on the ex-date
    assert may_closes(db, broker, clock) == {200_00}
    calls = len(broker.source.calls)
    at(clock, EX + 30 * DAY)
    assert may_closes(db, broker, clock) == {200_00}
    assert len(broker.source.calls) == calls


def test_entering_an_action_heals_a_history_that_was_restated_in_silence(
    db: Database, broker: Broker, clock: FixedClock
) -> None:
    """A broker that restates days after the ex-date, when the newest stored candle is of the time after it."""
    at(clock, EX + 2 * DAY)
    long = Span(MAY.first, EX + DAY)
    day_candles(db, broker.source, clock, SHARE, long)
    at(clock, EX + 3 * DAY)
    # Restated before the ex-date only: the newest stored candle says nothing.
    broker.source.candles = [
        replace(row, close_paise=row.close_paise // 5) if row.on < EX else row for row in broker.source.candles
    ]
    longer = Span(MAY.first, EX + 2 * DAY)
    found = day_candles(db, broker.source, clock, SHARE, longer)
    assert found.candles[0].close_paise == 1_000_00, "nobody knows of it"
    clock.advance(60)
    enter_(db, clock, new_shares=5)
    clock.advance(60)
    found = day_candles(db, broker.source, clock, SHARE, longer)
    assert {row.close_paise for row in found.candles if row.on < EX} == {200_00}
    assert {row.close_paise for row in found.candles if row.on >= EX} == {1_000_00}


def test_todays_fresh_candle_survives_the_reading_anew(db: Database, broker: Broker, clock: FixedClock) -> None:
    span = Span(TODAY - 10 * DAY, TODAY)
    before = day_candles(db, broker.source, clock, SHARE, span)
    clock.advance(1)
    enter_(db, clock)
    clock.advance(1)
    assert day_candles(db, broker.source, clock, SHARE, span).candles == before.candles
    clock.advance(1)
    calls = len(broker.source.calls)
    assert day_candles(db, broker.source, clock, SHARE, span).candles == before.candles
    assert len(broker.source.calls) == calls


def test_closes_of_many_shares_wait_for_the_reading_anew(
    db: Database,
    broker: Broker,
    clock: FixedClock,
    make_app: Callable[..., Any],
    loaded: Market,
    service_identity: Callable[[str], Any],
) -> None:
    at(clock, EX - DAY)
    day_candles(db, broker.source, clock, SHARE, MAY)
    at(clock, EX + DAY)
    with db.session() as session:
        assert stored_histories(session, [SHARE.key], MAY, clock.now())[SHARE.key].is_complete
    broker.tell([(EX, 5)])
    enter_(db, clock, new_shares=5)
    app = make_app(source=broker.source)
    client = client_for(app)
    room = {"Authorization": f"Bearer {service_identity('smallcase-service').token(NAME)}"}
    params = {"i": "NSE:INFY", "from": MAY.first.isoformat(), "to": MAY.last.isoformat()}
    [first] = client.get("/internal/v1/histories", params=params, headers=room).json()["histories"]
    assert not first["is_complete"]
    assert app.state.backlog.step()
    [then] = client.get("/internal/v1/histories", params=params, headers=room).json()["histories"]
    assert then["is_complete"]
    assert set(then["closes_paise"]) == {200_00}
