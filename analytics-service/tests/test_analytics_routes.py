"""/api/v1/analytics over a real database: who may see what, and what the figures are."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from analytics_service.app import create_app
from analytics_service.config import NAME, Settings
from common.auth import Authenticator
from common.clock import FixedClock
from common.db import Database
from common.events import BasketUpdated, CashMoved, OrderUpdated, OrderWorking
from common.testing import client_for

PATH = "/api/v1/analytics"
PLATFORM = f"{PATH}/platform"
START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
Make = Callable[..., OrderUpdated]
Consume = Callable[..., UUID]
Headers = Callable[..., dict[str, str]]


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def story(order_updated: Make, consume: Consume, user_id: UUID) -> None:
    """A deposit, a withdrawal, a bought and partly sold share, a rejected order; and another user's order before."""
    for kind, amount in (("TOPUP", 1_00_000_00), ("DEPOSIT", 50_000_50), ("WITHDRAWAL", 10_000_00)):
        consume(CashMoved(user_id=user_id, portfolio_id=uuid4(), kind=kind, amount_paise=amount, transfer_id=uuid4()))
    bought: dict[str, Any] = {"user_id": user_id, "order_id": uuid4()}
    consume(order_updated(**bought, order_version=2, status="WORKING", last_fill_quantity=0, last_fill_amount_paise=0,
                          last_fill_charges_paise=0))  # fmt: skip
    consume(order_updated(**bought, order_version=3, last_fill_amount_paise=12_345_60))
    consume(
        order_updated(
            user_id=user_id,
            side="SELL",
            last_fill_quantity=4,
            last_fill_amount_paise=6_000_00,
            last_fill_charges_paise=4_80,
        )
    )
    nothing = {"last_fill_quantity": 0, "last_fill_amount_paise": 0, "last_fill_charges_paise": 0}
    consume(order_updated(user_id=user_id, status="REJECTED", reason_code="rms_margin", tradingsymbol="TCS", **nothing))
    consume(order_updated(tradingsymbol="INFY", trading_date=date(2026, 11, 20), last_fill_amount_paise=99_999_00))


@pytest.mark.parametrize("path", [PATH, PLATFORM])
def test_anonymous_caller_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401


@pytest.mark.usefixtures("story")
def test_own_summary_adds_up(client: TestClient, auth_headers: Headers, user_id: UUID) -> None:
    answer = client.get(PATH, headers=auth_headers(user_id))
    assert answer.status_code == 200, answer.text
    body = answer.json()
    # Without closes shares are worth what they were last traded at; put in were 1,40,000.50.
    assert body.pop("performance")["put_in"] == "140000.50"
    assert body == {
        "user_id": str(user_id),
        "as_of": "2026-11-23T10:00:00+05:30",
        "deposits": "150000.50",
        "withdrawals": "10000.00",
        "traded": {"bought": "12345.60", "sold": "6000.00", "charges": "20.00", "trade_count": 2},
        "orders_by_status": {"FILLED": 2, "REJECTED": 1},
        "shares": [
            {
                "exchange": "NSE",
                "tradingsymbol": "RELIANCE",
                "quantity": 6,
                "bought_quantity": 10,
                "sold_quantity": 4,
                "bought": "12345.60",
                "sold": "6000.00",
                "net_cost": "6345.60",
                "charges": "20.00",
            }
        ],
    }


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("role", ["admin", "ops"])
def test_operator_sees_what_the_user_sees(client: TestClient, auth_headers: Headers, user_id: UUID, role: str) -> None:
    own = client.get(PATH, headers=auth_headers(user_id), params={"user_id": str(user_id)})
    seen = client.get(PATH, headers=auth_headers(roles=(role,)), params={"user_id": str(user_id)})
    assert seen.status_code == 200
    assert seen.json() == own.json()


@pytest.mark.usefixtures("story")
def test_other_users_summary_looks_absent(client: TestClient, auth_headers: Headers, user_id: UUID) -> None:
    answers = [client.get(PATH, headers=auth_headers(), params={"user_id": str(other)}) for other in (user_id, uuid4())]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert {answer.json()["code"] for answer in answers} == {"user_not_found"}
    assert str(user_id) not in answers[0].text


def test_user_without_history_gets_zeros(client: TestClient, auth_headers: Headers) -> None:
    body = client.get(PATH, headers=auth_headers()).json()
    assert body["traded"] == {"bought": "0.00", "sold": "0.00", "charges": "0.00", "trade_count": 0}
    assert (body["deposits"], body["orders_by_status"], body["shares"]) == ("0.00", {}, [])


def test_operator_needs_the_second_factor_where_it_is_mandatory(
    db: Database, authenticator: Callable[..., Authenticator], clock: FixedClock, auth_headers: Headers
) -> None:
    strict = authenticator(NAME, admin_needs_mfa=True)
    client = client_for(create_app(Settings(database_url=db.url), db=db, authenticator=strict, clock=clock))
    for path, params in ((PATH, {"user_id": str(uuid4())}), (PLATFORM, {})):
        refused = client.get(path, headers=auth_headers(roles=("admin",)), params=params)
        assert refused.status_code == 403
        assert refused.json()["code"] == "mfa_required"
        taken = client.get(path, headers=auth_headers(roles=("admin",), mfa=True), params=params)
        assert taken.status_code == 200


@pytest.mark.usefixtures("story")
def test_platform_counts_all_users(client: TestClient, auth_headers: Headers) -> None:
    answer = client.get(PLATFORM, headers=auth_headers(roles=("ops",)))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "as_of": "2026-11-23T10:00:00+05:30",
        "users_active": 2,
        "traded": {"bought": "112344.60", "sold": "6000.00", "charges": "35.20", "trade_count": 3},
        "orders_by_status": {"FILLED": 3, "REJECTED": 1},
        "top_shares": [
            {"exchange": "NSE", "tradingsymbol": "INFY", "quantity": 10, "volume": "99999.00", "trade_count": 1},
            {"exchange": "NSE", "tradingsymbol": "RELIANCE", "quantity": 14, "volume": "18345.60", "trade_count": 2},
        ],
        "reject_reasons": {"rms_margin": 1},
        "reject_rate": 0.25,
        "aggregation": {"user_legs": 0, "blocks": 0, "ratio": None},
        "top_smallcases": [],
    }


@pytest.mark.usefixtures("story")
def test_platform_can_start_at_a_day_and_show_fewer_shares(client: TestClient, auth_headers: Headers) -> None:
    headers = auth_headers(roles=("admin",))
    recent = client.get(PLATFORM, headers=headers, params={"since": "2026-11-23"}).json()
    assert recent["users_active"] == 1
    assert [share["tradingsymbol"] for share in recent["top_shares"]] == ["RELIANCE"]
    first = client.get(PLATFORM, headers=headers, params={"top": 1}).json()
    assert [share["tradingsymbol"] for share in first["top_shares"]] == ["INFY"]


def test_platform_counts_users_orders_per_block(
    client: TestClient, auth_headers: Headers, order_updated: Make, consume: Consume
) -> None:
    blocks = [uuid4(), uuid4()]
    for number in range(5):
        order_id = uuid4()
        consume(order_updated(order_id=order_id, trading_date=date(2026, 11, 20 + 3 * (number % 2))))
        for _ in range(2):  # told twice
            consume(OrderWorking(order_id=order_id, block_id=blocks[number % 2]))
    headers = auth_headers(roles=("ops",))
    whole = client.get(PLATFORM, headers=headers).json()["aggregation"]
    recent = client.get(PLATFORM, headers=headers, params={"since": "2026-11-21"}).json()["aggregation"]
    assert whole == {"user_legs": 5, "blocks": 2, "ratio": 2.5}
    assert recent == {"user_legs": 2, "blocks": 1, "ratio": 2.0}


def test_smallcases_are_summed_by_investment_and_by_smallcase(
    client: TestClient, auth_headers: Headers, consume: Consume, user_id: UUID
) -> None:
    smallcase_id, other_user = uuid4(), uuid4()
    investments = {user_id: uuid4(), other_user: uuid4()}

    def tell(who: UUID, minutes: int, basket: UUID | None = None, **fields: Any) -> None:
        consume(
            BasketUpdated(
                basket_order_id=basket or uuid4(), user_id=who, investment_id=investments[who],
                smallcase_id=smallcase_id, smallcase_name="Banks", occurred_at=START + timedelta(minutes=minutes),
                **{"kind": "INVEST", "status": "filled", "orders": 2, "orders_filled": 2, "bought_paise": 1_000_00,
                   "sold_paise": 0, "charges_paise": 5_00, **fields},
            )
        )  # fmt: skip

    mended = uuid4()
    tell(user_id, 2, mended, orders_filled=2)
    tell(user_id, 1, mended, status="needs_repair", orders_filled=1, bought_paise=500_00)  # an older word comes later
    tell(user_id, 3, kind="PARTIAL_EXIT", bought_paise=0, sold_paise=300_00)
    tell(other_user, 4)
    [mine] = client.get(f"{PATH}/smallcases", headers=auth_headers(user_id)).json()["items"]
    assert mine == {
        "smallcase_id": str(smallcase_id), "smallcase_name": "Banks", "investment_id": str(investments[user_id]),
        "investors": 1, "baskets": 2, "orders": 4, "orders_filled": 4, "bought": "1000.00", "sold": "300.00",
        "net_invested": "700.00", "charges": "10.00",
    }  # fmt: skip
    [all_of_it] = client.get(PLATFORM, headers=auth_headers(roles=("ops",))).json()["top_smallcases"]
    assert (all_of_it["investors"], all_of_it["bought"], all_of_it["investment_id"]) == (2, "2000.00", None)
    foreign = client.get(f"{PATH}/smallcases", headers=auth_headers(), params={"user_id": str(user_id)})
    assert foreign.status_code == 404


def test_platform_is_for_operators(client: TestClient, auth_headers: Headers) -> None:
    answer = client.get(PLATFORM, headers=auth_headers())
    assert answer.status_code == 403
    assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (PATH, {"user_id": "me"}),
        (PLATFORM, {"top": 0}),
        (PLATFORM, {"top": 101}),
        (PLATFORM, {"since": "yesterday"}),
    ],
)
def test_bad_parameters_are_refused(
    client: TestClient, auth_headers: Headers, path: str, params: dict[str, Any]
) -> None:
    answer = client.get(path, headers=auth_headers(roles=("admin",)), params=params)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
