"""Trades that belong to no user: posted once to the house, and part of what the broker is compared with."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from common.events import HouseFilled

HOUSE_FILL = UUID(int=77)


def told(room: Any, **changes: Any) -> HouseFilled:
    now = room.clock.now()
    values = {
        "house_fill_id": HOUSE_FILL, "account": "pool", "exchange": "NSE", "tradingsymbol": "INFY", "side": "BUY",
        "quantity": 7, "amount_paise": 10_500_00, "why": "ghost", "broker_order_id": "1", "broker_trade_id": "2",
        "executed_at": now, "trading_date": now.date(), **changes,
    }  # fmt: skip
    return HouseFilled.model_validate(values)


@pytest.fixture
def totals(room: Any, service_identity: Any) -> Any:
    def ask(caller: str = "trade-executor") -> Any:
        headers = {"Authorization": f"Bearer {service_identity(caller).token('portfolio-service')}"}
        return room.client.get("/internal/v1/ledger/totals", headers=headers)

    return ask


def by_asset(response: Any) -> dict[str, tuple[int, int, int, int]]:
    assert response.status_code == 200, response.text
    return {
        row["asset"]: (row["users"], row["house"], row["to_market"], row["from_market"])
        for row in response.json()["assets"]
    }


def test_a_house_fill_is_posted_once_however_often_it_is_told(room: Any, totals: Any) -> None:
    for _ in range(3):
        room.tell(told(room))
    assert by_asset(totals()) == {"NSE:INFY": (0, 7, 0, 7), "INR": (0, -10_500_00, 10_500_00, 0)}
    room.tell(told(room, house_fill_id=uuid4(), side="SELL", amount_paise=10_000_00))
    assert by_asset(totals()) == {"NSE:INFY": (0, 0, 7, 7), "INR": (0, -500_00, 10_500_00, 10_000_00)}
    room.sound()


@pytest.mark.parametrize("change", [{"quantity": 8}, {"amount_paise": 1}, {"side": "SELL"}, {"amount_paise": 0}])
def test_a_house_fill_told_with_other_figures_is_a_break_and_posts_nothing(
    room: Any, totals: Any, change: dict[str, Any]
) -> None:
    room.tell(told(room))
    before = by_asset(totals())
    room.tell(told(room, **change))
    assert by_asset(totals()) == before
    with room.db.session() as session:
        from portfolio_service.models import LedgerBreak

        assert [(row.kind, row.severity) for row in session.query(LedgerBreak)] == [("house_fill_changed", 1)]
    room.sound()


def test_totals_are_those_of_users_and_house_together(room: Any, totals: Any) -> None:
    user = room.customer()
    room.bought(user, "INFY", 10, 1_500_00)
    sale = room.accepted(user, side="SELL", quantity=4)
    room.tell(room.allocation(sale, 4, 4 * 1_501_00))
    room.tell(told(room, quantity=3, amount_paise=4_500_00))
    found = by_asset(totals())
    assert found["NSE:INFY"] == (6, 3, 4, 13)
    assert found["INR"][1:] == (-4_500_00, 15_000_00 + 4_500_00, 6_004_00)


def test_only_the_executor_reads_the_totals(room: Any, totals: Any) -> None:
    assert totals("smallcase-service").status_code == 403
    assert room.client.get("/internal/v1/ledger/totals").status_code == 401
    assert "/internal/v1/ledger/totals" not in room.client.get("/openapi.json").json()["paths"]
