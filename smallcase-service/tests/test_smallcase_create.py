"""POST /api/v1/smallcases over a real database: one smallcase per key, nothing written for a refused body."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from common.auth import Authenticator
from common.clock import FixedClock
from common.db import Database
from common.testing import StaticMarketData, client_for
from smallcase_service.app import create_app
from smallcase_service.config import NAME, Settings
from smallcase_service.models import Smallcase
from smallcase_service.portfolio_orders import PortfolioOrders

PATH = "/api/v1/smallcases"
Headers = Callable[..., dict[str, str]]
Basket = Callable[..., dict[str, Any]]


def count(db: Database) -> int:
    with db.session() as session:
        return session.execute(select(func.count()).select_from(Smallcase)).scalar_one()


def keyed(headers: dict[str, str], key: str = "key-1") -> dict[str, str]:
    return {**headers, "Idempotency-Key": key}


def weights(*bps: int) -> list[dict[str, Any]]:
    return [
        {"tradingsymbol": symbol, "weight_bps": weight} for symbol, weight in zip(("TCS", "ITC"), bps, strict=False)
    ]


def test_anonymous_caller_is_refused(client: TestClient, basket: Basket) -> None:
    assert client.post(PATH, headers=keyed({}), json=basket()).status_code == 401


def test_smallcase_is_made_with_its_composition(client: TestClient, auth_headers: Headers, basket: Basket) -> None:
    answer = client.post(PATH, headers=keyed(auth_headers()), json=basket())
    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"{PATH}/{body['smallcase_id']}"
    assert body == {
        "smallcase_id": body["smallcase_id"],
        "version": 1,
        "name": "Three of a kind",
        "description": "An example",
        "visibility": "private",
        "attributes": {
            "category": "other",
            "theme": "",
            "region": "India",
            "risk_level": None,
            "benchmark": "NIFTY 50",
            "rationale": "",
            "rebalancing_frequency": "none",
            "expense_ratio_bps": 0,
            "weighting": "custom",
            "weighting_note": "named by the maker",
        },
        "is_own": True,
        "created_at": "2026-11-23T10:00:00+05:30",
        "changed_at": "2026-11-23T10:00:00+05:30",
        "constituents": [{**one, "rationale": ""} for one in basket()["constituents"]],
    }


def test_same_key_makes_one_smallcase_and_gives_one_answer(
    client: TestClient, auth_headers: Headers, basket: Basket, db: Database, market: StaticMarketData
) -> None:
    user_id = uuid4()
    headers = keyed(auth_headers(user_id))
    first = client.post(PATH, headers=headers, json=basket())
    market.shares.clear()  # delisted meanwhile: the answer given stays the answer
    again = client.post(PATH, headers=headers, json=basket())
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert count(db) == 1
    other = client.post(PATH, headers=headers, json=basket(name="Another"))
    assert other.status_code == 409
    assert other.json()["code"] == "idempotency_key_reused"


def test_key_belongs_to_its_user(client: TestClient, auth_headers: Headers, basket: Basket, db: Database) -> None:
    answers = [client.post(PATH, headers=keyed(auth_headers(uuid4())), json=basket()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert count(db) == 2


def test_key_is_required(client: TestClient, auth_headers: Headers, basket: Basket, db: Database) -> None:
    answer = client.post(PATH, headers=auth_headers(), json=basket())
    assert answer.status_code == 400
    assert answer.json()["code"] == "idempotency_key_required"
    assert count(db) == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"constituents": weights(5_000, 4_999)}, "weights_not_whole"),
        ({"constituents": weights(5_000, 5_001)}, "weights_not_whole"),
        ({"constituents": [*weights(5_000), *weights(5_000)]}, "duplicate_constituent"),
        ({"constituents": [{"tradingsymbol": "NOSUCH", "weight_bps": 10_000}]}, "unknown_instrument"),
        ({"constituents": []}, "invalid_request"),
        ({"constituents": weights(10_001)}, "invalid_request"),
        ({"constituents": weights(10_000, 0)}, "invalid_request"),
        ({"constituents": [{"tradingsymbol": "TCS", "weight_bps": 10_000.0}]}, "invalid_request"),
        ({"constituents": [{"tradingsymbol": "TCS'--", "weight_bps": 10_000}]}, "invalid_request"),
        ({"constituents": [{"tradingsymbol": f"S{n}", "weight_bps": 1} for n in range(51)]}, "invalid_request"),
        ({"name": "  "}, "invalid_request"),
        ({"name": "a\x00b"}, "invalid_request"),
        ({"visibility": "secret"}, "invalid_request"),
        ({"owner_id": "00000000-0000-4000-8000-000000000000"}, "invalid_request"),
    ],
    ids=str,
)
def test_bad_body_is_refused_and_writes_nothing(
    client: TestClient, auth_headers: Headers, basket: Basket, db: Database, fields: dict[str, Any], code: str
) -> None:
    headers = keyed(auth_headers(uuid4()))
    answer = client.post(PATH, headers=headers, json=basket(**fields))
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    assert count(db) == 0
    assert client.post(PATH, headers=headers, json=basket()).status_code == 201  # the key is still free


def test_every_unknown_share_is_named(client: TestClient, auth_headers: Headers, basket: Basket) -> None:
    shares = [{"tradingsymbol": symbol, "weight_bps": bps} for symbol, bps in (("AAA", 1), ("TCS", 2), ("BBB", 9_997))]
    answer = client.post(PATH, headers=keyed(auth_headers()), json=basket(constituents=shares))
    assert answer.json()["instruments"] == ["NSE:AAA", "NSE:BBB"]


def test_one_share_on_two_exchanges_is_two_constituents(
    client: TestClient, auth_headers: Headers, basket: Basket
) -> None:
    shares = [{"exchange": exchange, "tradingsymbol": "TCS", "weight_bps": 5_000} for exchange in ("NSE", "BSE")]
    answer = client.post(PATH, headers=keyed(auth_headers()), json=basket(constituents=shares))
    assert answer.status_code == 201


def test_publishing_is_for_the_operator(
    client: TestClient, auth_headers: Headers, basket: Basket, db: Database
) -> None:
    refused = client.post(PATH, headers=keyed(auth_headers()), json=basket(visibility="published"))
    assert refused.status_code == 403
    assert count(db) == 0
    taken = client.post(PATH, headers=keyed(auth_headers(roles=("admin",))), json=basket(visibility="published"))
    assert taken.status_code == 201
    assert taken.json()["visibility"] == "published"


def test_publishing_needs_the_second_factor_where_it_is_mandatory(
    db: Database,
    authenticator: Callable[..., Authenticator],
    market: StaticMarketData,
    nobody: PortfolioOrders,
    clock: FixedClock,
    auth_headers: Headers,
    basket: Basket,
) -> None:
    strict = authenticator(NAME, admin_needs_mfa=True)
    app = create_app(
        Settings(database_url=db.url), db=db, authenticator=strict, market=market, portfolio=nobody, clock=clock
    )
    answer = client_for(app).post(
        PATH, headers=keyed(auth_headers(roles=("admin",))), json=basket(visibility="published")
    )
    assert answer.status_code == 403
    assert answer.json()["code"] == "mfa_required"


def test_made_smallcase_belongs_to_the_caller(
    client: TestClient, auth_headers: Headers, basket: Basket, db: Database
) -> None:
    user_id = uuid4()
    body = client.post(PATH, headers=keyed(auth_headers(user_id)), json=basket()).json()
    with db.session() as session:
        smallcase = session.get_one(Smallcase, UUID(body["smallcase_id"]))
    assert smallcase.owner_id == user_id


def test_nothing_is_made_while_market_data_is_silent(
    silent_client: TestClient, client: TestClient, auth_headers: Headers, basket: Basket, db: Database
) -> None:
    headers = keyed(auth_headers(uuid4()))
    answer = silent_client.post(PATH, headers=headers, json=basket())
    assert (answer.status_code, answer.json()["code"]) == (503, "peer_unavailable")
    assert count(db) == 0
    assert client.post(PATH, headers=headers, json=basket()).status_code == 201
