"""The service as a process: settings, commands, schema, and a consumer on a real bus."""

import threading
from typing import Any

import pytest

from common.bus import LocalBus
from common.config import InvalidSettings
from common.consumers import run_consumer
from common.events import Envelope, OrderUpdated
from common.outbox import Relay
from common.testing import eventually
from portfolio_service import __main__ as command
from portfolio_service.config import NAME, Settings


def test_settings_are_named_when_they_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTFOLIO_ORDER_VALUE_MAX_RUPEES", "250000")
    assert Settings.load().limits().order_value_max_paise == 25_000_000
    monkeypatch.setenv("PORTFOLIO_ORDER_VALUE_MAX", "1")
    with pytest.raises(InvalidSettings, match="PORTFOLIO_ORDER_VALUE_MAX"):
        Settings.load()


def test_commands_say_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("PORTFOLIO_DATABASE_URL", raising=False)
    assert command.main(["migrate"]) == 1
    assert "PORTFOLIO_DATABASE_URL" in capsys.readouterr().err


def test_facts_over_the_bus_are_booked_and_told_on(room: Any, local_bus: LocalBus) -> None:
    """The executor's messages through bus and inbox, our answer through outbox and relay, each message doubled."""
    user = room.customer()
    room.give(user, "50000")
    order_ids = [room.accepted(user, quantity=3) for _ in range(4)]
    stop = threading.Event()
    told: list[Any] = []
    local_bus.declare(NAME, room.handlers)
    local_bus.declare("listener", [OrderUpdated])

    def envelope(event: Any) -> Envelope:
        return Envelope(
            type=event.type_name(),
            source="trade-executor",
            occurred_at=event.occurred_at,
            recorded_at=event.occurred_at,
            payload=event.model_dump(mode="json"),
        )

    messages = []
    for order_id in order_ids:
        messages += [
            envelope(room.closed(order_id, "FILLED", 3, 450_000)),
            envelope(room.allocation(order_id, 1, 150_000)),
            envelope(room.allocation(order_id, 2, 300_000)),
        ]

    def consume() -> None:
        run_consumer(local_bus, room.db, consumer=NAME, handlers=room.handlers, stop=stop)

    threads = [
        threading.Thread(target=consume),
        threading.Thread(target=Relay(room.db, local_bus, name=NAME).run, args=(stop,)),
        threading.Thread(target=lambda: local_bus.consume("listener", told.extend, stop)),
    ]
    for thread in threads:
        thread.start()
    try:
        assert local_bus.publish(messages) == {message.id for message in messages}
        local_bus.publish(messages)
        eventually(lambda: [room.row(order_id).state for order_id in order_ids] == ["FILLED"] * 4)
        eventually(lambda: len(told) == 8)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert local_bus.dead_letters(NAME) == []
    assert sorted({event.payload["order_id"] for event in told}) == sorted(map(str, order_ids))
    room.sound()
