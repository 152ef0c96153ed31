"""What must hold between the rooms' databases: nobody has acted on what its sender does not know of.

The other direction is no fault: what a room has not yet received it takes by itself (`common.catching_up`), and is only
counted. Everything is read as sorted ids through cursors of the servers, so memory does not grow with the books.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import merge
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from common.db import Database
from common.events import REGISTRY

SHOWN_MAX = 20
READ_ROWS = 5_000
LOOK_BACK = timedelta(days=1)
"""Inboxes are compared this far back: older messages may have left their outbox by retention (at least a week old)."""
TIMEOUT = "600s"


@dataclass
class Finding:
    """One rule between two rooms: how many rows were compared, and ids that break it (the first SHOWN_MAX)."""

    rule: str
    compared: int = 0
    broken: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.broken == 0


@dataclass
class CrossRoom:
    """All rules, and how many messages each room has still to catch up on."""

    findings: list[Finding]
    to_catch_up: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return all(finding.ok for finding in self.findings)


_KNOWN = (
    (
        "orders at the executor are orders of portfolio-service",
        ("trade-executor", "SELECT order_id FROM child_order ORDER BY 1"),
        ("portfolio-service", "SELECT order_id FROM user_order ORDER BY 1"),
    ),
    (
        "booked allocations are the executor's, to the share and the paisa",
        (
            "portfolio-service",
            "SELECT allocation_id, order_id, quantity, amount_paise FROM order_allocation ORDER BY 1",
        ),
        ("trade-executor", "SELECT allocation_id, order_id, quantity, amount_paise FROM allocation ORDER BY 1"),
    ),
    (
        "orders in the read model are orders of portfolio-service",
        ("analytics-service", "SELECT order_id FROM order_fact ORDER BY 1"),
        ("portfolio-service", "SELECT order_id FROM user_order ORDER BY 1"),
    ),
    (
        "answered legs of baskets are orders of portfolio-service",
        ("smallcase-service", "SELECT order_id FROM basket_leg WHERE order_version > 0 ORDER BY 1"),
        ("portfolio-service", "SELECT order_id FROM user_order ORDER BY 1"),
    ),
)


def check(databases: Mapping[str, Database], taken_at: datetime) -> CrossRoom:
    """Compare the rooms' databases, which nobody writes to meanwhile."""
    findings = []
    for rule, (behind, has), (ahead, knows) in _KNOWN:
        finding = Finding(rule)
        with _rows(databases[behind], has) as left, _rows(databases[ahead], knows) as right:
            for row in _unmatched(left, right, finding):
                _break(finding, row[0])
        findings.append(finding)
    to_catch_up = {}
    for room in _consumers():
        finding = Finding(f"messages taken by {room} are in an outbox")
        _compare_messages(databases, room, taken_at - LOOK_BACK, finding)
        findings.append(finding)
        to_catch_up[room] = _owed(databases, room)
    return CrossRoom(findings, to_catch_up)


def _consumers() -> list[str]:
    return sorted({room for event in REGISTRY.values() for room in event.consumers})


def _producers(consumer: str) -> dict[str, list[str]]:
    """Room -> the names of its facts that the consumer acts on."""
    found: dict[str, list[str]] = {}
    for name, event in REGISTRY.items():
        if consumer in event.consumers:
            for room in event.producers:
                found.setdefault(room, []).append(name)
    return found


def _compare_messages(databases: Mapping[str, Database], consumer: str, since: datetime, finding: Finding) -> None:
    inbox = "SELECT message_id FROM inbox WHERE consumer = :consumer AND handled_at >= :since ORDER BY 1"
    sent = "SELECT message_id FROM outbox WHERE type = ANY(:types) ORDER BY 1"
    with (
        _rows(databases[consumer], inbox, consumer=consumer, since=since) as taken,
        _outboxes(databases, consumer, sent) as known,
    ):
        for row in _unmatched(taken, known, finding):
            _break(finding, row[0])


def _owed(databases: Mapping[str, Database], consumer: str) -> int:
    sent = "SELECT message_id FROM outbox WHERE type = ANY(:types) ORDER BY 1"
    inbox = "SELECT message_id FROM inbox WHERE consumer = :consumer ORDER BY 1"
    with _outboxes(databases, consumer, sent) as known, _rows(databases[consumer], inbox, consumer=consumer) as taken:
        return sum(1 for _ in _unmatched(known, taken, Finding("")))


@contextmanager
def _outboxes(databases: Mapping[str, Database], consumer: str, statement: str) -> Iterator[Iterator[Any]]:
    with ExitStack() as stack:
        streams = [
            stack.enter_context(_rows(databases[room], statement, types=types))
            for room, types in sorted(_producers(consumer).items())
        ]
        yield merge(*streams)


@contextmanager
def _rows(database: Database, statement: str, **values: Any) -> Iterator[Iterator[tuple[Any, ...]]]:
    with database.engine.connect() as connection:
        connection.execute(sa.text(f"SET LOCAL statement_timeout = '{TIMEOUT}'"))
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        result = connection.execution_options(yield_per=READ_ROWS).execute(sa.text(statement), values)
        yield (tuple(row) for row in result)


def _unmatched(left: Iterator[Any], right: Iterator[Any], finding: Finding) -> Iterator[Any]:
    """Rows of the left that the right does not have as they are; both sorted by their first column, an id."""
    other = next(right, None)
    for row in left:
        finding.compared += 1
        while other is not None and other[0] < row[0]:
            other = next(right, None)
        if other is None or other != row:
            yield row


def _break(finding: Finding, key: UUID) -> None:
    finding.broken += 1
    if len(finding.examples) < SHOWN_MAX:
        finding.examples.append(str(key))
