"""Finding and reading smallcases: own and published ones, live prices, validation."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.testing import StaticMarketData

PATH = "/api/v1/smallcases"
ABSENT = "00000000-0000-4000-8000-000000000000"
Headers = Callable[..., dict[str, str]]
Created = Callable[..., dict[str, Any]]


@pytest.fixture
def admin(auth_headers: Headers) -> dict[str, str]:
    return auth_headers(roles=("admin",))


@pytest.fixture
def mine(auth_headers: Headers) -> dict[str, str]:
    return auth_headers(uuid4())


def names(client: TestClient, headers: dict[str, str], **params: Any) -> list[str]:
    answer = client.get(PATH, headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["items"]]


@pytest.mark.parametrize("path", [PATH, f"{PATH}/{ABSENT}", f"{PATH}/{ABSENT}/versions"])
def test_anonymous_caller_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401


def test_composition_shows_prices_and_the_minimum_of_the_published_example(
    client: TestClient, mine: dict[str, str], created: Created
) -> None:
    made = created(mine)
    answer = client.get(f"{PATH}/{made['smallcase_id']}", headers=mine)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["minimum_investment"] == "11500.00"
    assert (body["validation"]["valid"], body["validation"]["problems"]) == (True, [])
    assert {warning["code"] for warning in body["validation"]["warnings"]} == {"liquidity_unknown"}
    assert body["expected_returns"] is None, "there are no candles"
    assert body["constituents"][0] == {
        "exchange": "NSE",
        "tradingsymbol": "TCS",
        "weight_bps": 5_000,
        "rationale": "",
        "name": "TCS Ltd.",
        "price": "1400.00",
        "price_at": "2026-11-23T10:00:00+05:30",
        "minimum_quantity": 4,
        "minimum_weight_bps": 4_870,
    }
    assert {key: body[key] for key in made if key != "constituents"} == {
        key: made[key] for key in made if key != "constituents"
    }


def test_minimum_moves_with_the_prices(
    client: TestClient, mine: dict[str, str], created: Created, market: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    market.shares["NSE", "MARUTI"] = 1200_00
    # Anchor 6,000: 2.14, 7.2 and 1 shares.
    assert client.get(path, headers=mine).json()["minimum_investment"] == "5750.00"


def test_share_that_left_the_market_makes_the_smallcase_invalid(
    client: TestClient, mine: dict[str, str], created: Created, market: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    del market.shares["NSE", "ITC"]
    body = client.get(path, headers=mine).json()
    assert body["minimum_investment"] is None
    assert not body["validation"]["valid"]
    assert body["validation"]["problems"] == [
        {
            "code": "unknown_instrument",
            "message": "NSE:ITC is not traded any more.",
            "exchange": "NSE",
            "tradingsymbol": "ITC",
        }
    ]
    assert [share["price"] for share in body["constituents"]] == ["1400.00", None, "2400.00"]


def test_share_without_a_price_makes_the_smallcase_invalid(
    client: TestClient, mine: dict[str, str], created: Created, market: StaticMarketData
) -> None:
    path = f"{PATH}/{created(mine)['smallcase_id']}"
    market.shares["NSE", "TCS"] = 0
    body = client.get(path, headers=mine).json()
    assert [problem["code"] for problem in body["validation"]["problems"]] == ["price_missing"]
    assert body["minimum_investment"] is None


def test_composition_is_still_readable_while_market_data_is_silent(
    silent_client: TestClient, mine: dict[str, str], created: Created
) -> None:
    answer = silent_client.get(f"{PATH}/{created(mine)['smallcase_id']}", headers=mine)
    assert answer.status_code == 200
    assert [problem["code"] for problem in answer.json()["validation"]["problems"]] == ["prices_unavailable"]
    assert [share["weight_bps"] for share in answer.json()["constituents"]] == [5_000, 3_000, 2_000]


@pytest.mark.parametrize("suffix", ["", "/versions"])
def test_foreign_private_smallcase_looks_absent(
    client: TestClient, mine: dict[str, str], auth_headers: Headers, created: Created, suffix: str
) -> None:
    foreign = created(auth_headers(uuid4()))["smallcase_id"]
    answers = [client.get(f"{PATH}/{smallcase_id}{suffix}", headers=mine) for smallcase_id in (foreign, ABSENT)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["code"] == answers[1].json()["code"] == "smallcase_not_found"
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


def test_published_smallcase_is_for_everybody(
    client: TestClient, mine: dict[str, str], admin: dict[str, str], created: Created
) -> None:
    published = created(admin, visibility="published")["smallcase_id"]
    body = client.get(f"{PATH}/{published}", headers=mine).json()
    assert (body["is_own"], body["visibility"], body["minimum_investment"]) == (False, "published", "11500.00")


def test_list_shows_own_and_published_ones_newest_first(
    client: TestClient,
    mine: dict[str, str],
    admin: dict[str, str],
    auth_headers: Headers,
    created: Created,
    clock: FixedClock,
) -> None:
    for headers, fields in (
        (mine, {"name": "Mine"}),
        (admin, {"name": "For all", "visibility": "published"}),
        (admin, {"name": "The operator's draft"}),
        (auth_headers(uuid4()), {"name": "Somebody else's"}),
        (mine, {"name": "Mine too"}),
    ):
        clock.advance(1)
        created(headers, **fields)
    assert names(client, mine) == ["Mine too", "For all", "Mine"]


def test_search_finds_parts_of_name_and_description_and_takes_wildcards_literally(
    client: TestClient, mine: dict[str, str], created: Created
) -> None:
    created(mine, name="Banking giants", description="Large lenders")
    created(mine, name="IT exporters", description="100% dollar income")
    assert names(client, mine, q="BANK") == ["Banking giants"]
    assert names(client, mine, q="dollar") == ["IT exporters"]
    assert names(client, mine, q="0%") == ["IT exporters"]
    assert names(client, mine, q="_") == []
    assert names(client, mine, q="nothing like it") == []


def test_pages_cover_all_rows_once_although_instants_tie(
    client: TestClient, mine: dict[str, str], created: Created
) -> None:
    made = {created(mine, name=f"Number {number}")["smallcase_id"] for number in range(5)}
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(PATH, headers=mine, params=params).json()
        seen += [item["smallcase_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert len(seen) == 5
    assert set(seen) == made


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (PATH, {"limit": 0}),
        (PATH, {"limit": 101}),
        (PATH, {"q": ""}),
        (PATH, {"q": "a\x00"}),
        (PATH, {"q": "x" * 101}),
        (PATH, {"cursor": ABSENT}),
        (PATH, {"cursor": "x"}),
        (f"{PATH}/not-an-id", {}),
        (f"{PATH}/{ABSENT}/versions", {"before": 0}),
        (f"{PATH}/{ABSENT}/versions", {"before": 2**31}),
    ],
    ids=str,
)
def test_bad_parameters_are_refused(
    client: TestClient, mine: dict[str, str], path: str, params: dict[str, Any]
) -> None:
    answer = client.get(path, headers=mine, params=params)
    assert answer.status_code == 422
    assert answer.json()["code"] in {"invalid_request", "cursor_invalid"}


def test_cursor_of_a_foreign_private_smallcase_is_unknown(
    client: TestClient, mine: dict[str, str], auth_headers: Headers, created: Created
) -> None:
    foreign = created(auth_headers(uuid4()))["smallcase_id"]
    answer = client.get(PATH, headers=mine, params={"cursor": foreign})
    assert answer.json()["code"] == "cursor_invalid"
