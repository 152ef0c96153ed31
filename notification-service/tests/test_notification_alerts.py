"""Price alerts: told when the level is reached, once or anew, on fresh prices only, each user's own."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FixedClock
from common.errors import Unavailable
from common.testing import StaticMarketData
from notification_service.desk import Desk
from notification_service.price_alerts import Round
from notification_service.price_levels import Level, look

PATH = "/api/v1/notifications/alerts"
INFY = ("NSE", "INFY")
NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def mine(user_token: Any, user_id: UUID) -> dict[str, str]:
    return {"Authorization": f"Bearer {user_token(user_id, lifetime_s=30 * 86_400)}"}


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    return make_desk({})


def add(client: TestClient, headers: dict[str, str], **body: Any) -> Any:
    asked = {"tradingsymbol": "INFY", "direction": "above", "price": "1550.00", **body}
    return client.post(PATH, headers={**headers, "Idempotency-Key": body.pop("key", uuid4().hex)}, json=asked)


def told(client: TestClient, headers: dict[str, str]) -> list[str]:
    items = client.get("/api/v1/notifications", headers=headers, params={"limit": 200}).json()["items"]
    return [item["text"] for item in items if item["kind"] == "price_alert"]


def test_an_alert_fires_once_when_its_level_is_reached(
    client: TestClient, mine: dict[str, str], desk: Desk, market: StaticMarketData
) -> None:
    assert add(client, mine).status_code == 201
    rounds = Round(desk)
    market.shares[INFY] = 1_549_95
    assert rounds.run() == 0
    market.shares[INFY] = 1_550_00
    assert rounds.run() == 1
    market.shares[INFY] = 1_549_00
    assert rounds.run() == 0
    market.shares[INFY] = 1_600_00
    assert rounds.run() == 0
    assert told(client, mine) == [
        "INFY (NSE) last traded at ₹1,550.00; you wanted to know when it is at or above ₹1,550.00."
    ]
    [shown] = client.get(PATH, headers=mine).json()["items"]
    assert (shown["waiting"], shown["firings"], shown["price"]) == (False, 1, "1550.00")
    assert shown["fired_at"] == "2026-11-23T10:00:00+05:30"
    assert client.get(PATH, headers=mine, params={"waiting": True}).json()["items"] == []


def test_a_repeating_alert_fires_each_time_the_level_is_reached_anew_after_its_pause(
    client: TestClient, mine: dict[str, str], desk: Desk, market: StaticMarketData, clock: FixedClock
) -> None:
    add(client, mine, direction="below", price="1400.00", repeats=True, cooldown_s=600)
    rounds = Round(desk)
    for price, seconds, fires in (
        (1_390_00, 0, 1), (1_380_00, 700, 0), (1_410_00, 1, 0), (1_399_00, 1, 1), (1_410_00, 1, 0), (1_399_00, 1, 0),
        (1_398_00, 600, 1),
    ):  # fmt: skip
        clock.advance(seconds)
        market.shares[INFY] = price
        assert rounds.run() == fires, (price, seconds)
    assert len(told(client, mine)) == 3


def test_an_old_price_proves_nothing(
    client: TestClient, mine: dict[str, str], desk: Desk, market: StaticMarketData
) -> None:
    add(client, mine, price="1.00")
    market.price_age_s = 31
    assert Round(desk).run() == 0
    market.price_age_s = 29
    assert Round(desk).run() == 1


def test_market_data_that_are_away_delay_an_alert_only(
    client: TestClient, mine: dict[str, str], make_desk: Callable[..., Desk], market: StaticMarketData, monkeypatch: Any
) -> None:
    add(client, mine, price="1.00")
    rounds = Round(make_desk({}))

    def away(_: Any) -> Any:
        raise Unavailable("market-data-service does not answer at the moment.")

    with monkeypatch.context() as patch:
        patch.setattr(market, "prices", away)
        assert rounds.run() == 0
    assert rounds.run() == 1


def test_evaluators_at_once_tell_a_firing_once(
    client: TestClient, mine: dict[str, str], make_desk: Callable[..., Desk]
) -> None:
    for _ in range(20):
        add(client, mine, price="1.00")
    rounds = [Round(make_desk({})) for _ in range(4)]
    fired: list[int] = []
    threads = [threading.Thread(target=lambda one=one: fired.append(one.run())) for one in rounds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fired.append(rounds[0].run())
    assert sum(fired) == 20
    assert len(told(client, mine)) == 20


def test_rounds_are_bounded_and_get_to_every_share(
    client: TestClient, mine: dict[str, str], desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    from notification_service import price_alerts

    monkeypatch.setattr(price_alerts, "KEYS_PER_ROUND", 1)
    monkeypatch.setattr(price_alerts, "ALERTS_BATCH", 2)
    for symbol in ("TCS", "INFY", "INFY", "INFY", "INFY", "INFY"):
        add(client, mine, tradingsymbol=symbol, price="1.00")
    rounds = Round(desk)
    assert [rounds.run() for _ in range(3)] == [5, 1, 0]


@pytest.mark.parametrize(
    "body",
    [
        {"price": "0.00"}, {"price": "-1.00"}, {"price": 1550}, {"price": "1.005"}, {"direction": "sideways"},
        {"tradingsymbol": "NOSUCH"}, {"tradingsymbol": "IN FY"}, {"exchange": "NYSE"}, {"cooldown_s": 5}, {"unknown": 1},
    ],
)  # fmt: skip
def test_an_alert_that_makes_no_sense_is_refused(client: TestClient, mine: dict[str, str], body: Any) -> None:
    assert add(client, mine, **body).status_code == 422


def test_the_same_request_makes_one_alert(client: TestClient, mine: dict[str, str]) -> None:
    body = {"tradingsymbol": "infy", "direction": "above", "price": "1550.00"}
    headers = {**mine, "Idempotency-Key": "k-1"}
    first, again = (client.post(PATH, headers=headers, json=body) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert client.post(PATH, headers=headers, json={**body, "price": "1.00"}).status_code == 409
    assert client.post(PATH, headers=mine, json=body).status_code == 400
    assert len(client.get(PATH, headers=mine).json()["items"]) == 1


def test_alerts_are_each_users_own_and_bounded(
    client: TestClient, mine: dict[str, str], auth_headers: Any, desk: Desk, settings: Any
) -> None:
    made = [add(client, mine, price=f"{2_000 + number}.00").json()["alert_id"] for number in range(settings.alerts_max)]
    assert add(client, mine).json()["code"] == "too_many_alerts"
    other = auth_headers(uuid4())
    for method in ("GET", "DELETE"):
        assert client.request(method, f"{PATH}/{made[0]}", headers=other).status_code == 404
    assert client.get(PATH, headers=other).json()["items"] == []
    assert client.get(PATH, headers=other, params={"cursor": made[0]}).json()["code"] == "cursor_invalid"

    seen, cursor = [], None
    for _ in range(10):
        page = client.get(PATH, headers=mine, params={"limit": 7, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["alert_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)
    assert client.delete(f"{PATH}/{made[0]}", headers=mine).status_code == 204
    assert client.get(f"{PATH}/{made[0]}", headers=mine).status_code == 404
    assert add(client, mine).status_code == 201
    assert Round(desk).run() == 0


@given(
    st.sampled_from(["above", "below"]),
    st.integers(1, 10**9),
    st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 3_600)), max_size=30),
    st.integers(60, 7_200),
)
def test_a_repeating_alert_never_fires_twice_without_a_crossing_or_within_its_pause(
    direction: Any, level_paise: int, seen: list[tuple[int, int]], cooldown: int
) -> None:
    level = Level(direction, level_paise, True, timedelta(seconds=cooldown))
    now, crossed = NOW, True
    for price, seconds in seen:
        now += timedelta(seconds=seconds)
        beyond = price >= level_paise if direction == "above" else price <= level_paise
        crossed = crossed or not beyond
        judged = look(level, price, now)
        if judged.fires:
            assert beyond
            assert crossed
            assert level.fired_at is None or now - level.fired_at >= level.cooldown
            crossed = False
        level = Level(
            direction, level_paise, True, level.cooldown, judged.armed, now if judged.fires else level.fired_at
        )
