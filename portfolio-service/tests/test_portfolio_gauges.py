"""What the room shows as metrics, from rows of a real database."""

from typing import Any

from prometheus_client import REGISTRY
from sqlalchemy import text

from portfolio_service import gauges
from portfolio_service.config import NAME


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"service": NAME, **labels})


def change(room: Any, statement: str) -> None:
    with room.db.transaction() as session:
        session.execute(text(statement))


def test_live_orders_and_the_oldest_without_an_answer(room: Any) -> None:
    user = room.customer()
    room.give(user, "50000")
    room.accepted(user, quantity=3)
    change(room, "UPDATE user_order SET accepted_at = clock_timestamp() - interval '2 minutes'")
    gauges.count_orders(room.db)
    assert gauge("saras_live_rows", kind="order", state="ACCEPTED") == 1
    assert 119 < (gauge("saras_oldest_unanswered_order_seconds") or 0) < 200
    change(room, "UPDATE user_order SET state = 'WORKING'")
    gauges.count_orders(room.db)
    assert gauge("saras_live_rows", kind="order", state="ACCEPTED") == 0
    assert gauge("saras_live_rows", kind="order", state="WORKING") == 1
    assert gauge("saras_oldest_unanswered_order_seconds") == 0


def test_a_ledger_that_does_not_add_up_shows_as_a_gauge(room: Any) -> None:
    user = room.customer()
    room.give(user, "50000")
    assert gauges.prove_ledger(room.db).ok
    assert gauge("saras_ledger_problems", rule="balance_is_replay") == 0
    change(room, "UPDATE account SET posted = posted + 1 WHERE NOT allow_negative")
    assert not gauges.prove_ledger(room.db).ok
    assert (gauge("saras_ledger_problems", rule="balance_is_replay") or 0) >= 1
    assert gauge("saras_ledger_problems", rule="asset_sums_to_zero") == 1
    assert (gauge("saras_ledger_checked_timestamp_seconds") or 0) > 0
