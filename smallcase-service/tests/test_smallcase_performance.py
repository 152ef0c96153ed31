"""Performance, chart, expected returns, lists, categories, publishing: over HTTP and a real database."""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import pyxirr
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.db import Database
from common.market_data import History
from common.testing import StaticMarketData
from smallcase_service.models import BasketLeg, BasketOrder, Investment

PATH = "/api/v1/smallcases"
Headers = Callable[..., dict[str, str]]
Created = Callable[..., dict[str, Any]]
MONTH_S = 30 * 86_400


@pytest.fixture
def admin(auth_headers: Headers) -> dict[str, str]:
    return auth_headers(roles=("admin",), lifetime_s=MONTH_S)


@pytest.fixture
def mine(auth_headers: Headers) -> dict[str, str]:
    return auth_headers(uuid4(), lifetime_s=MONTH_S)


def get(client: TestClient, headers: dict[str, str], path: str, **params: Any) -> Any:
    answer = client.get(path, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keyed(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Idempotency-Key": uuid4().hex}


def on_weekdays(first: date, closes: list[int]) -> History:
    days = [day for n in range(2 * len(closes) + 5) if (day := first + timedelta(days=n)).weekday() < 5][: len(closes)]
    return History(days, closes, [10] * len(closes), True)


# --- performance --------------------------------------------------------------------------------------------------------


def test_live_index_follows_the_versions_by_hand(
    client: TestClient, mine: dict[str, str], created: Created, market: StaticMarketData, clock: FixedClock
) -> None:
    halves = [{"tradingsymbol": symbol, "weight_bps": 5_000} for symbol in ("TCS", "ITC")]
    made = created(mine, constituents=halves)
    path = f"{PATH}/{made['smallcase_id']}"
    clock.advance(2 * 86_400)
    thirds = [{"tradingsymbol": "TCS", "weight_bps": 2_000}, {"tradingsymbol": "ITC", "weight_bps": 8_000}]
    change = {"name": "Tilted", "constituents": thirds, "version": 1, "reason": "a tilt"}
    assert client.put(path, headers=mine, json=change).status_code == 200
    clock.advance(5 * 86_400)
    start = date(2026, 11, 23)
    market.candles["NSE", "TCS"] = on_weekdays(start, [100, 110, 120, 132, 132])
    market.candles["NSE", "ITC"] = on_weekdays(start, [50, 50, 50, 50, 60])
    body = get(client, mine, f"{path}/performance", basis="live")
    # 100 -> 105 -> 110; split again 22 / 88 at the third close: 22 * 1.1 + 88, then 24.2 + 88 * 1.2.
    chart = get(client, mine, f"{path}/history", basis="live")
    assert [point["value"] for point in chart["points"]] == pytest.approx([100, 105, 110, 112.2, 129.8])
    assert (body["state"], body["first"], body["as_of"]) == ("ok", "2026-11-23", "2026-11-27")
    assert body["value"] == pytest.approx(129.8)
    assert body["rebalanced_on"] == ["2026-11-25"]
    assert body["since_start"]["value"] == pytest.approx(0.298)
    assert not body["since_start"]["is_annual"]
    points = {row["tradingsymbol"]: row["points"] for row in body["attribution"]}
    assert points == pytest.approx({"TCS": 10 + 2.2, "ITC": 17.6})
    assert sum(points.values()) == pytest.approx(body["value"] - 100)
    assert body["benchmark"]["name"] is None
    assert "no candles" in body["benchmark"]["note"]


def test_a_new_smallcase_shows_its_backtest_and_says_what_that_is(
    client: TestClient, mine: dict[str, str], created: Created, charted: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    body = get(client, mine, f"{path}/performance")
    assert (body["basis"], body["state"]) == ("backtest", "ok")
    assert "nobody could have had this return" in body["method"]
    assert body["returns"]["1y"]["is_annual"]
    assert body["returns"]["5y"] is None
    assert body["benchmark"]["name"] == "NIFTY 50"
    assert body["benchmark"]["note"] is None
    assert body["risk"]["beta"] is not None
    assert body["volatility_label"]["ratio"] is None, "the label is for live values"
    assert get(client, mine, f"{path}/performance", basis="live")["state"] == "too_young"
    chart = get(client, mine, f"{path}/history", points=50)
    assert len(chart["points"]) <= 50
    assert chart["points"][-1]["date"] == body["as_of"]
    assert chart["days"] == 800
    window = get(client, mine, f"{path}/history", **{"from": "2026-10-01", "to": "2026-10-31"})
    assert {point["date"][:7] for point in window["points"]} == {"2026-10"}


def test_an_index_without_candles_is_replaced_and_named(
    client: TestClient, mine: dict[str, str], created: Created, charted: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine, attributes={'benchmark': 'NIFTY 100'})['smallcase_id']}"
    benchmark = get(client, mine, f"{path}/performance")["benchmark"]
    assert (benchmark["wanted"], benchmark["name"]) == ("NIFTY 100", "NIFTY 50")
    assert "stands in" in benchmark["note"]


def test_candles_that_still_arrive_are_said(
    client: TestClient, mine: dict[str, str], created: Created, charted: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    whole = charted.candles["NSE", "ITC"]
    charted.candles["NSE", "ITC"] = History(whole.days[:700], whole.closes_paise[:700], whole.volumes[:700], False)
    body = get(client, mine, f"{path}/performance")
    assert (body["state"], body["as_of"]) == ("collecting", whole.days[699].isoformat())
    charted.candles["NSE", "NIFTY 50"] = History((), (), (), False)
    assert "still being read" in get(client, mine, f"{path}/performance")["benchmark"]["note"]
    charted.candles.clear()
    assert get(client, mine, f"{path}/performance")["state"] == "collecting"


def test_publishing_is_no_rebalance(
    client: TestClient, admin: dict[str, str], created: Created, charted: StaticMarketData, clock: FixedClock
) -> None:
    made = created(admin)
    path = f"{PATH}/{made['smallcase_id']}"
    clock.advance(86_400)
    answer = client.post(f"{path}/publish", headers=keyed(admin), json={"version": 1, "reason": "ready"})
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    clock.advance(10 * 86_400)
    for key in list(charted.candles):
        charted.candles[key] = on_weekdays(date(2026, 11, 2), [100 + n for n in range(20)])
    assert get(client, admin, f"{path}/performance", basis="live")["rebalanced_on"] == []


def test_expected_returns_and_liquidity_stand_beside_the_composition(
    client: TestClient,
    mine: dict[str, str],
    created: Created,
    charted: StaticMarketData,
    walked: Callable[..., History],
) -> None:
    charted.candles["NSE", "ITC"] = walked(7, volume=10)
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    body = get(client, mine, path)
    expected = body["expected_returns"]
    assert expected["low"] < expected["mean"] < expected["high"]
    assert expected["high"] - expected["mean"] == pytest.approx(expected["volatility"])
    assert (expected["values"], "Ledoit-Wolf" in expected["method"]) == (799, True)
    assert body["validation"]["valid"]
    assert [(one["code"], one["tradingsymbol"]) for one in body["validation"]["warnings"]] == [("low_liquidity", "ITC")]
    assert get(client, mine, f"{path}/composition") == body


@pytest.mark.parametrize("part", ["performance", "history", "composition"])
def test_foreign_smallcase_does_not_exist(
    client: TestClient, mine: dict[str, str], created: Created, auth_headers: Headers, part: str
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}/{part}"
    assert client.get(path, headers=auth_headers(uuid4())).status_code == 404
    assert client.get(path).status_code == 401


# --- lists ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(client: TestClient, admin: dict[str, str], created: Created, charted: StaticMarketData) -> list[str]:
    """Three published smallcases: minimum 1,400, 2,400 and 250 rupees."""
    for symbol, category, risk in (("TCS", "it", "high"), ("MARUTI", "auto", None), ("ITC", "staples", "low")):
        created(
            admin,
            name=f"All {symbol}",
            visibility="published",
            attributes={"category": category, "risk_level": risk, "region": "India"},
            constituents=[{"tradingsymbol": symbol, "weight_bps": 10_000}],
        )
    return ["All TCS", "All MARUTI", "All ITC"]


def names(client: TestClient, headers: dict[str, str], **params: Any) -> list[str]:
    return [item["name"] for item in get(client, headers, PATH, **params)["items"]]


def test_lists_are_filtered_and_sorted(client: TestClient, mine: dict[str, str], shelf: list[str]) -> None:
    assert set(names(client, mine)) == set(shelf)
    assert names(client, mine, category="auto") == ["All MARUTI"]
    assert names(client, mine, risk="low") == ["All ITC"]
    assert names(client, mine, own=True) == []
    assert set(names(client, mine, own=False)) == set(shelf)
    assert names(client, mine, sort="minimum_investment") == ["All ITC", "All TCS", "All MARUTI"]
    assert names(client, mine, sort="name") == sorted(shelf)
    assert names(client, mine, maximum_amount="1400.00", sort="minimum_investment") == ["All ITC", "All TCS"]
    assert names(client, mine, q="tcs", sort="return_1y") == ["All TCS"]
    [card] = get(client, mine, PATH, category="it")["items"]
    assert (card["minimum_investment"], card["shares"]) == ("1400.00", 1)
    assert card["return_1y"] is not None


def test_pages_of_a_computed_order_lose_and_repeat_nothing(
    client: TestClient, mine: dict[str, str], shelf: list[str]
) -> None:
    first = get(client, mine, PATH, sort="minimum_investment", limit=2)
    rest = get(client, mine, PATH, sort="minimum_investment", limit=2, cursor=first["next_cursor"])
    assert [item["name"] for item in first["items"] + rest["items"]] == ["All ITC", "All TCS", "All MARUTI"]
    assert rest["next_cursor"] is None
    answer = client.get(PATH, headers=mine, params={"sort": "name", "cursor": str(uuid4())})
    assert (answer.status_code, answer.json()["code"]) == (422, "cursor_invalid")


@pytest.mark.parametrize(
    "params", [{"sort": "luck"}, {"maximum_amount": "lots"}, {"risk": "none"}, {"category": "A B"}]
)
def test_impossible_filters_are_refused(client: TestClient, mine: dict[str, str], params: dict[str, str]) -> None:
    assert client.get(PATH, headers=mine, params=params).status_code == 422


def test_categories_and_regions_hold_published_ones_only(
    client: TestClient, mine: dict[str, str], shelf: list[str], created: Created
) -> None:
    created(mine, attributes={"category": "private_thing"})
    body = get(client, mine, f"{PATH}/categories/performance")
    assert [(row["category"], row["smallcases"]) for row in body["items"]] == [("auto", 1), ("it", 1), ("staples", 1)]
    assert all(row["measured"]["1y"] == 1 and row["returns"]["5y"] is None for row in body["items"])
    assert not body["is_partial"]
    regions = get(client, mine, f"{PATH}/regional")
    assert [(one["region"], len(one["smallcases"])) for one in regions["items"]] == [("India", 3)]
    assert get(client, mine, f"{PATH}/regional", region="Mars")["items"] == []


def test_strategies_and_universes_are_listed(client: TestClient, mine: dict[str, str]) -> None:
    schemes = {one["name"] for one in get(client, mine, f"{PATH}/strategies")["items"]}
    assert schemes == {"custom", "equal", "market_cap", "inverse_volatility", "momentum"}
    universes = {one["name"]: one["symbols"] for one in get(client, mine, f"{PATH}/universes")["items"]}
    assert len(universes["nifty_50"]) == 50
    assert set().union(*universes.values()) == set(universes["nifty_50"])


# --- publishing -------------------------------------------------------------------------------------------------------------


def test_publishing_needs_an_admin_the_newest_version_and_a_key(
    client: TestClient, admin: dict[str, str], mine: dict[str, str], created: Created, auth_headers: Headers
) -> None:
    path = f"{PATH}/{created(admin)['smallcase_id']}"
    body = {"version": 1, "reason": "ready"}
    assert client.post(f"{path}/publish", headers=keyed(mine), json=body).status_code == 403
    assert client.post(f"{path}/publish", headers=admin, json=body).status_code == 400
    late = client.post(f"{path}/publish", headers=keyed(admin), json={**body, "version": 2})
    assert (late.status_code, late.json()["code"]) == (409, "smallcase_changed")
    headers = keyed(admin)
    first = client.post(f"{path}/publish", headers=headers, json=body)
    assert (first.json()["version"], first.json()["visibility"]) == (2, "published")
    assert client.post(f"{path}/publish", headers=headers, json=body).content == first.content
    assert client.post(f"{path}/publish", headers=keyed(admin), json={**body, "version": 2}).json()["version"] == 2
    assert get(client, mine, path)["visibility"] == "published"
    other = auth_headers(uuid4(), roles=("admin",))
    gone = client.post(f"{path}/unpublish", headers=keyed(other), json={**body, "version": 2})
    assert (gone.status_code, gone.json()["version"]) == (200, 3)
    assert client.get(path, headers=mine).status_code == 404


def test_an_admin_can_not_publish_what_is_somebody_elses(
    client: TestClient, admin: dict[str, str], mine: dict[str, str], created: Created
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    answer = client.post(f"{path}/publish", headers=keyed(admin), json={"version": 1, "reason": "nice"})
    assert answer.status_code == 404


# --- schemes ------------------------------------------------------------------------------------------------------------------


def scheme(name: str, symbols: tuple[str, ...] = ("TCS", "ITC", "MARUTI"), **more: Any) -> dict[str, Any]:
    return {"weighting": {"scheme": name}, "constituents": [{"tradingsymbol": symbol} for symbol in symbols], **more}


def test_schemes_compute_whole_weights(
    client: TestClient, mine: dict[str, str], created: Created, charted: StaticMarketData
) -> None:
    for name in ("equal", "inverse_volatility", "momentum"):
        made = created(mine, **scheme(name))
        assert sum(one["weight_bps"] for one in made["constituents"]) == 10_000
        assert made["attributes"]["weighting"] == name
        assert made["attributes"]["weighting_note"]
    values = {"TCS": "600.00", "ITC": "300.00", "MARUTI": "100.00"}
    shares = [{"tradingsymbol": symbol, "market_value": value} for symbol, value in values.items()]
    made = created(mine, weighting={"scheme": "market_cap", "cap_bps": 5_000}, constituents=shares)
    assert [one["weight_bps"] for one in made["constituents"]] == [5_000, 3_750, 1_250]


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"constituents": [{"tradingsymbol": "TCS"}]}, 422, "weights_missing"),
        ({"weighting": {"scheme": "equal"}}, 422, "weights_not_taken"),
        (scheme("market_cap"), 422, "market_values_missing"),
        (scheme("market_cap", ("TCS",), constituents=[{"tradingsymbol": "TCS", "market_value": "1.00"}]), 422,
         "weight_cap_too_low"),
        (scheme("momentum", ("TCS", "TCS")), 422, "duplicate_constituent"),
        (scheme("momentum", ("TCS", "NOSUCH")), 422, "too_little_history"),
        (scheme("luck"), 422, "invalid_request"),
        ({"attributes": {"category": "Has Spaces"}}, 422, "invalid_request"),
        ({"attributes": {"luck": 1}}, 422, "invalid_request"),
    ],
)  # fmt: skip
def test_impossible_schemes_say_what_is_wrong(
    client: TestClient,
    mine: dict[str, str],
    basket: Callable[..., dict[str, Any]],
    charted: StaticMarketData,
    fields: dict[str, Any],
    status: int,
    code: str,
) -> None:
    answer = client.post(PATH, headers=keyed(mine), json=basket(**fields))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert names(client, mine) == []


def test_schemes_wait_for_candles_that_still_arrive(
    client: TestClient, mine: dict[str, str], basket: Callable[..., dict[str, Any]]
) -> None:
    answer = client.post(PATH, headers=keyed(mine), json=basket(**scheme("momentum")))
    assert (answer.status_code, answer.json()["code"]) == (503, "history_incomplete")
    assert int(answer.headers["retry-after"]) > 0


# --- a user's own investment --------------------------------------------------------------------------------------------------


def invested(db: Database, user_id: UUID, smallcase_id: str, fills: list[tuple[datetime, str, int, int, int]]) -> UUID:
    """An investment with filled legs of TCS: (instant, side, quantity, amount, charges)."""
    investment_id = uuid4()
    with db.transaction() as session:
        session.add(
            Investment(
                investment_id=investment_id,
                user_id=user_id,
                smallcase_id=UUID(smallcase_id),
                portfolio_id=uuid4(),
                version=1,
                status="active",
                created_at=fills[0][0],
            )
        )
        session.flush()
        for at, side, quantity, amount, charges in fills:
            order_id = uuid4()
            session.add(
                BasketOrder(
                    basket_order_id=order_id,
                    investment_id=investment_id,
                    user_id=user_id,
                    kind="INVEST",
                    stage="DONE",
                    status="filled",
                    kyc="approved",
                    queue_when_closed=False,
                    version=1,
                    wanted={},
                    submission_id=uuid4(),
                    submissions=1,
                    planned_cost_paise=amount,
                    planned_charges_paise=charges,
                    created_at=at,
                    due_at=at,
                    drives=0,
                )
            )
            session.flush()
            session.add(
                BasketLeg(
                    order_id=uuid4(),
                    basket_order_id=order_id,
                    investment_id=investment_id,
                    submission_id=uuid4(),
                    position=0,
                    exchange="NSE",
                    tradingsymbol="TCS",
                    side=side,
                    quantity=quantity,
                    price_paise=amount // quantity,
                    state="FILLED",
                    order_version=1,
                    filled_quantity=quantity,
                    amount_paise=amount,
                    charges_paise=charges,
                    updated_at=at,
                )
            )
    return investment_id


def test_own_return_is_the_xirr_of_the_fills_with_charges(
    client: TestClient,
    auth_headers: Headers,
    created: Created,
    db: Database,
    clock: FixedClock,
    market: StaticMarketData,
) -> None:
    user_id = uuid4()
    mine = auth_headers(user_id)
    made = created(mine)
    now = clock.now()
    fills = [
        (now - timedelta(days=730), "BUY", 10, 10_000_00, 100_00),
        (now - timedelta(days=365), "SELL", 2, 2_500_00, 25_00),
    ]
    investment_id = invested(db, user_id, made["smallcase_id"], fills)
    body = get(client, mine, f"/api/v1/investments/{investment_id}/performance")
    # 8 shares at 1,400 are left.
    assert (body["current_value"], body["invested"], body["returned"]) == ("11200.00", "10000.00", "2500.00")
    assert (body["profit"], body["charges"], body["flows"]) == ("3575.00", "125.00", 2)
    days = [flow[0].date() for flow in fills] + [now.date()]
    assert body["xirr"] == pytest.approx(pyxirr.xirr(days, [-10_100.0, 2_475.0, 11_200.0]), abs=1e-9)
    assert body["note"] is None
    assert client.get(f"/api/v1/investments/{investment_id}/performance", headers=auth_headers()).status_code == 404
    del market.shares["NSE", "TCS"]
    unknown = get(client, mine, f"/api/v1/investments/{investment_id}/performance")
    assert (unknown["xirr"], unknown["current_value"]) == (None, None)
    assert "price" in unknown["note"]


def test_an_investment_of_today_has_no_yearly_rate(
    client: TestClient, auth_headers: Headers, created: Created, db: Database, clock: FixedClock
) -> None:
    user_id = uuid4()
    mine = auth_headers(user_id)
    made = created(mine)
    investment_id = invested(db, user_id, made["smallcase_id"], [(clock.now(), "BUY", 1, 1_400_00, 1_00)])
    body = get(client, mine, f"/api/v1/investments/{investment_id}/performance")
    assert body["xirr"] is None
    assert "one day" in body["note"]
    assert body["profit"] == "-1.00"
