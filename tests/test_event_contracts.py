"""Who states a fact and who acts on it stands in its contract, and the rooms do just that.

A consumer missing from a contract could not catch up; one too many could read what is none of its business.
"""

import ast
from pathlib import Path

import analytics_service.consumers
import notification_service.consumers
import portfolio_service.consumers
import smallcase_service.consumers
import trade_executor.consumers
from common.backlog import Backlog
from common.catching_up import comparisons_of
from common.config import ServiceSettings
from common.events import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
HANDLERS = {
    "analytics-service": analytics_service.consumers.HANDLERS,
    "notification-service": notification_service.consumers.HANDLERS,
    "portfolio-service": portfolio_service.consumers.HANDLERS,
    "smallcase-service": smallcase_service.consumers.HANDLERS,
    "trade-executor": trade_executor.consumers.HANDLERS,
}


def test_every_room_handles_what_its_contracts_say() -> None:
    handled = {name: {event.type_name() for event in handlers} for name, handlers in HANDLERS.items()}
    declared: dict[str, set[str]] = {name: set() for name in HANDLERS}
    for name, event in REGISTRY.items():
        for room in event.consumers:
            declared[room].add(name)
    assert declared == handled


def test_every_fact_is_stated_by_the_rooms_in_its_contract() -> None:
    """Events that a room's code makes (`OrderClosed(...)`, `OrderUpdated.model_validate(...)`) are those it states."""
    stated: dict[str, set[str]] = {name: set() for name in REGISTRY}
    for path in ROOT.glob("*-*/*_*/**/*.py"):
        room = path.relative_to(ROOT).parts[0]
        if path.name == "testing.py" or "tests" in path.parts or room == "kite-simulator":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                made = node.func
                if isinstance(made, ast.Attribute) and made.attr == "model_validate":
                    made = made.value
                name = made.attr if isinstance(made, ast.Attribute) else getattr(made, "id", "")
                if name in stated:
                    stated[name].add(room)
    declared = {name: set(event.producers) for name, event in REGISTRY.items()}
    assert stated == declared


def test_every_consumer_has_an_address_for_every_source() -> None:
    identity = type("Identity", (), {"name": "room"})()
    settings = ServiceSettings()
    for name, handlers in HANDLERS.items():
        identity.name = name
        comparisons = comparisons_of(settings, None, identity, handlers=handlers, backlog=Backlog())  # type: ignore[arg-type]
        assert [one.source_name for one in comparisons] == sorted(
            {room for event in handlers for room in event.producers}
        )
