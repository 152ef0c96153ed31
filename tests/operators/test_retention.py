"""What may go goes and nothing else: messages once all have acted on them, notifications with their deliveries."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from common import retention
from common.catching_up import cursor
from common.db import Database
from common.events import CashMoved, readers_of
from common.outbox import claim, inbox, outbox, record
from common.testing_servers import empty
from notification_service.models import Delivery, DeliveryAttempt, Notification
from scripts import saras
from scripts.embedded_environment import PREFIXES
from scripts.saras_cli.retention import ROOMS

NOW = datetime.now(UTC)
SOURCE = "portfolio-service"


def days(number: float) -> datetime:
    return NOW - timedelta(days=number)


@pytest.fixture
def rooms(service_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saras, "configure", lambda *_, **__: None)
    opened = {}
    for room in ROOMS:
        opened[room] = service_database(room.replace("-", "_"), pool_size=1)
        empty(opened[room])
        monkeypatch.setenv(f"{PREFIXES[room]}DATABASE_URL", opened[room].url)
    return opened


def run(*words: str) -> dict[tuple[str, str], Any]:
    answer = CliRunner().invoke(saras.build(["retention"]), ["retention", "run", "--json", *words])
    assert answer.exit_code == 0, answer.output
    return {(line["room"], line["age"]): line for line in json.loads(answer.stdout)["lines"]}


def say(db: Database, age_days: float, *, sent: bool = True) -> UUID:
    event = CashMoved(user_id=uuid4(), portfolio_id=uuid4(), kind="TOPUP", amount_paise=1, transfer_id=uuid4())
    with db.transaction() as session:
        message_id = record(session, event, source=SOURCE, aggregate_id="x")
    with db.transaction() as session:
        at = days(age_days)
        session.execute(
            sa.update(outbox)
            .where(outbox.c.message_id == message_id)
            .values(recorded_at=at, sent_at=at if sent else None)
        )
    return message_id


def take(db: Database, consumer: str, message_id: UUID, age_days: float) -> None:
    with db.transaction() as session:
        claim(session, consumer, [message_id])
        session.execute(sa.update(inbox).where(inbox.c.message_id == message_id).values(handled_at=days(age_days)))


def caught_up(rooms: dict[str, Database], age_days: float, *, but: str = "") -> None:
    for room in readers_of(SOURCE):
        if room != but:
            with rooms[room].transaction() as session:
                values = {"consumer": room, "source": SOURCE, "handled_before": days(age_days)}
                session.execute(sa.insert(cursor).values(values))


def ids(db: Database, table: sa.Table) -> set[UUID]:
    with db.session() as session:
        return set(session.scalars(sa.select(table.c.message_id)))


def test_messages_go_when_everybody_has_acted_on_them(rooms: dict[str, Database]) -> None:
    old, young, unsent = say(rooms[SOURCE], 40), say(rooms[SOURCE], 20), say(rooms[SOURCE], 40, sent=False)
    caught_up(rooms, 0)
    assert run()[SOURCE, "outbox"]["rows"] == 1
    assert ids(rooms[SOURCE], outbox) == {old, young, unsent}, "counting deletes nothing"
    assert run("--apply", "--yes")[SOURCE, "outbox"]["rows"] == 1
    assert ids(rooms[SOURCE], outbox) == {young, unsent}


def test_a_room_that_was_away_keeps_messages_in_their_outbox(rooms: dict[str, Database]) -> None:
    first, second = say(rooms[SOURCE], 50), say(rooms[SOURCE], 40)
    caught_up(rooms, 45)
    line = run("--apply", "--yes")[SOURCE, "outbox"]
    assert (line["rows"], "caught up only to" in line["remark"]) == (1, True)
    assert ids(rooms[SOURCE], outbox) == {second}
    assert first


def test_a_room_that_never_compared_keeps_everything(rooms: dict[str, Database]) -> None:
    kept = say(rooms[SOURCE], 400)
    caught_up(rooms, 0, but="analytics-service")
    line = run("--apply", "--yes")[SOURCE, "outbox"]
    assert (line["rows"], line["remark"]) == (0, "analytics-service has never caught up")
    assert ids(rooms[SOURCE], outbox) == {kept}


def test_a_mark_stays_as_long_as_its_message_can_come_again(rooms: dict[str, Database]) -> None:
    recorded, gone, young = say(rooms[SOURCE], 90), uuid4(), uuid4()
    consumer = "notification-service"
    for message_id, age in ((recorded, 89), (gone, 89), (young, 30)):
        take(rooms[consumer], consumer, message_id, age)
    # No cursor: the outbox keeps its message, so the mark of it has to stay as well.
    assert run("--apply", "--yes")[consumer, "inbox"]["rows"] == 1
    assert ids(rooms[consumer], inbox) == {recorded, young}


@pytest.mark.parametrize(
    ("passed", "expected"),
    [
        ({}, days(30)),
        ({"a": NOW, "b": NOW}, days(30)),
        ({"a": NOW, "b": None}, None),
        ({"a": NOW, "b": days(35)}, days(35) - retention.CURSOR_MARGIN),
    ],
)
def test_an_outbox_is_never_emptied_ahead_of_a_consumer(passed: Any, expected: Any) -> None:
    assert retention.safe_before(days(30), passed) == expected


def test_notifications_go_with_their_ended_deliveries(rooms: dict[str, Database]) -> None:
    db = rooms["notification-service"]

    def notification(age_days: float, status: str | None) -> UUID:
        at = days(age_days)
        with db.transaction() as session:
            told = Notification(
                user_id=uuid4(), cause=uuid4().hex, kind="order.filled", title="t", text="t", subject={}, data={},
                in_app=True, occurred_at=at,
            )  # fmt: skip
            session.add(told)
            session.flush()
            if status is not None:
                ended = at if status not in ("queued", "sending") else None
                delivery = Delivery(
                    notification_id=told.notification_id, user_id=told.user_id, kind="order.filled", channel="email",
                    contact_id=uuid4(), provider="smtp", status=status, due_at=at, give_up_at=at, created_at=at,
                    ended_at=ended,
                )  # fmt: skip
                session.add(delivery)
                session.flush()
                session.add(DeliveryAttempt(delivery_id=delivery.delivery_id, number=1, started_at=at))
            return told.notification_id

    kept = {notification(400, "queued"), notification(100, "delivered"), notification(10, None)}
    for status in ("delivered", "failed", None):
        notification(400, status)
    assert run()["notification-service", "notifications"]["rows"] == 3
    assert run("--apply", "--yes")["notification-service", "notifications"]["rows"] == 3
    with db.session() as session:
        assert set(session.scalars(sa.select(Notification.notification_id))) == kept
        assert session.scalar(sa.select(sa.func.count()).select_from(DeliveryAttempt)) == 2


def test_old_answers_and_raw_messages_go(rooms: dict[str, Database]) -> None:
    with rooms[SOURCE].transaction() as session:
        session.execute(
            sa.text("INSERT INTO idempotency_key (owner_id, key, request_hash, created_at) VALUES (:o, 'k', 'h', :at)"),
            [{"o": uuid4(), "at": days(age)} for age in (91, 89)],
        )
    with rooms["trade-executor"].transaction() as session:
        session.execute(
            sa.text(
                "INSERT INTO broker_event (account, kind, sha256, received_on, body, authentic, received_at)"
                " VALUES ('pool', 'postback', :sha, :day, '{}', true, :at)"
            ),
            [{"sha": uuid4().bytes, "day": days(age).date(), "at": days(age)} for age in (366, 364)],
        )
    done = run("--apply", "--yes")
    assert (done[SOURCE, "keys"]["rows"], done["trade-executor", "evidence"]["rows"]) == (1, 1)
    assert {line["rows"] for line in run().values()} == {0}
