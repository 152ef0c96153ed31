"""Calendar overrides: an admin's word, in force at once, replaced but never erased."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from common.clock import FixedClock
from common.db import Database
from common.testing import client_for
from market_data_service.config import Settings
from market_data_service.market import Market
from market_data_service.mirror import DatabaseMirror
from market_data_service.models import CalendarOverride

PATH = "/api/v1/calendar/overrides"
HOLIDAY = {"date": "2026-11-23", "kind": "holiday", "reason": "State elections announced"}


@pytest.fixture
def client(make_app: Callable[..., FastAPI], db: Database) -> TestClient:
    """No instruments are needed here."""
    return client_for(make_app())


def rows(db: Database) -> list[CalendarOverride]:
    with db.session() as session:
        return list(session.scalars(select(CalendarOverride).order_by(CalendarOverride.created_at)))


def test_a_declared_holiday_closes_the_market_at_once_and_says_why(
    client: TestClient,
    auth_headers: Callable[..., dict[str, str]],
    user: dict[str, str],
    room: dict[str, str],
    db: Database,
) -> None:
    admin_id = uuid4()
    admin = auth_headers(admin_id, roles=("admin",))
    assert client.get("/internal/v1/session", headers=room).json()["is_open"] is True
    answer = client.put(PATH, json=HOLIDAY, headers=admin)
    assert answer.status_code == 200
    assert answer.json()["is_in_force"] is True
    session = client.get("/internal/v1/session", headers=room).json()
    assert (session["is_open"], session["trading_date"]) == (False, "2026-11-25")
    year = client.get("/api/v1/calendar?year=2026", headers=user).json()
    declared = next(day for day in year["holidays"] if day["date"] == "2026-11-23")
    assert (declared["origin"], declared["name"]) == ("override", "State elections announced")
    [row] = rows(db)
    assert (row.created_by, row.reason, row.withdrawn_at) == (admin_id, "State elections announced", None)


def test_the_same_word_twice_is_one_row(client: TestClient, admin: dict[str, str], db: Database) -> None:
    first = client.put(PATH, json=HOLIDAY, headers=admin).json()
    assert client.put(PATH, json=HOLIDAY, headers=admin).json() == first
    assert len(rows(db)) == 1


def test_a_new_word_replaces_the_old_one_which_stays_on_record(
    client: TestClient, admin: dict[str, str], db: Database, market: Market
) -> None:
    client.put(PATH, json=HOLIDAY, headers=admin)
    special = {
        "date": "2026-11-23",
        "kind": "special_session",
        "reason": "Evening session instead",
        "opens": "18:00",
        "closes": "19:15",
    }
    answer = client.put(PATH, json=special, headers=admin).json()
    assert (answer["opens"], answer["closes"]) == ("18:00", "19:15")
    assert market.calendar.day(date(2026, 11, 23)).kind == "special_session"
    old, new = rows(db)
    assert old.withdrawn_at is not None
    assert old.withdrawn_reason == "replaced: Evening session instead"
    assert new.withdrawn_at is None
    listed = client.get(PATH, headers=admin).json()["overrides"]
    assert [item["is_in_force"] for item in listed].count(True) == 1
    assert len(listed) == 2


def test_a_withdrawn_override_gives_the_day_back(
    client: TestClient, admin: dict[str, str], room: dict[str, str], db: Database
) -> None:
    client.put(PATH, json=HOLIDAY, headers=admin)
    gone = client.delete(f"{PATH}/2026-11-23", params={"reason": "declared by mistake"}, headers=admin)
    assert (gone.status_code, gone.json()["is_in_force"]) == (200, False)
    assert gone.json()["withdrawn_reason"] == "declared by mistake"
    assert client.get("/internal/v1/session", headers=room).json()["is_open"] is True
    again = client.delete(f"{PATH}/2026-11-23", params={"reason": "declared by mistake"}, headers=admin)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_override")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"date": "2026-11-22"}, "override_in_past"),
        ({"date": "tomorrow"}, "invalid_request"),
        ({"kind": "party"}, "invalid_request"),
        ({"kind": "settlement_holiday"}, "invalid_request"),
        ({"reason": "why"}, "invalid_request"),
        ({"reason": "        "}, "invalid_request"),
        ({"reason": "x" * 501}, "invalid_request"),
        ({"opens": "10:00", "closes": "11:00"}, "invalid_request"),
        ({"kind": "special_session"}, "invalid_request"),
        ({"kind": "special_session", "opens": "10:00"}, "invalid_request"),
        ({"kind": "special_session", "opens": "11:00", "closes": "10:00"}, "invalid_request"),
        ({"kind": "special_session", "opens": "25:00", "closes": "26:00"}, "invalid_request"),
        ({"kind": "special_session", "opens": 36000, "closes": "11:00"}, "invalid_request"),
        ({"kind": "special_session", "opens": "10:00+05:30", "closes": "11:00"}, "invalid_request"),
        ({"approved_by": "me"}, "invalid_request"),
    ],
)
def test_bad_overrides_are_refused_and_leave_no_trace(
    client: TestClient, admin: dict[str, str], db: Database, changes: dict[str, Any], code: str
) -> None:
    answer = client.put(PATH, json={**HOLIDAY, **changes}, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert rows(db) == []


def test_a_withdrawal_needs_a_reason_and_a_day_to_come(client: TestClient, admin: dict[str, str]) -> None:
    assert client.delete(f"{PATH}/2026-11-23", headers=admin).status_code == 422
    past = client.delete(f"{PATH}/2026-11-20", params={"reason": "too late for this"}, headers=admin)
    assert (past.status_code, past.json()["code"]) == (422, "override_in_past")


def test_admins_without_second_factor_are_refused_outside_development(
    db: Database,
    settings: Settings,
    market: Market,
    kite: Any,
    clock: FixedClock,
    authenticator: Callable[..., Any],
    auth_headers: Callable[..., dict[str, str]],
) -> None:
    from market_data_service.app import create_app
    from market_data_service.config import NAME

    app = create_app(
        settings,
        db=db,
        authenticator=authenticator(NAME, admin_needs_mfa=True),
        market=market,
        source=kite,
        clock=clock,
    )
    answer = client_for(app).put(PATH, json=HOLIDAY, headers=auth_headers(roles=("admin",)))
    assert (answer.status_code, answer.json()["code"]) == (403, "mfa_required")


def test_admins_at_the_same_time_leave_one_override_in_force(
    client: TestClient, admin: dict[str, str], db: Database
) -> None:
    def put(number: int) -> int:
        return client.put(PATH, json={**HOLIDAY, "reason": f"reason number {number}"}, headers=admin).status_code

    client.put(PATH, json=HOLIDAY, headers=admin)
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(put, range(8)))
    assert set(statuses) == {200}
    assert len([row for row in rows(db) if row.withdrawn_at is None]) == 1
    assert len(rows(db)) == 9


def test_another_process_learns_of_an_override_from_the_table(
    client: TestClient, admin: dict[str, str], db: Database, settings: Settings, clock: FixedClock
) -> None:
    elsewhere = Market.create(settings)
    mirror = DatabaseMirror(db, elsewhere)
    mirror.refresh(clock.now())
    client.put(PATH, json=HOLIDAY, headers=admin)
    mirror.refresh(clock.now())
    assert not elsewhere.calendar.is_trading_day(date(2026, 11, 23))
    clock.advance(1)
    client.delete(f"{PATH}/2026-11-23", params={"reason": "declared by mistake"}, headers=admin)
    mirror.refresh(clock.now())
    assert elsewhere.calendar.is_trading_day(date(2026, 11, 23))
