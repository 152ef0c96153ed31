"""What operators see and are told: alarms, deliveries with their history, providers that fail, templates."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from common.clock import FixedClock
from common.db import Database
from common.events import BreakOpened, OrderUpdated, TradingHalted
from notification_service import loop
from notification_service.delivering import deliver
from notification_service.desk import Desk
from notification_service.kinds import Channel, Kind
from notification_service.models import Delivery, Notification
from notification_service.providers.base import Refused, Unreachable
from notification_service.providers.chat import ChatMessages
from notification_service.samples import SAMPLES
from notification_service.testing import WireServer

PATH = "/api/v1/admin/notifications"
Consume = Callable[..., UUID]


class Edge:
    """A provider that fails when told to."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def send(self, message: Any) -> str | None:
        if self.failure is not None:
            raise self.failure
        return "an-id"

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def admin(auth_headers: Any) -> dict[str, str]:
    headers: dict[str, str] = auth_headers(roles=["admin"])
    return headers


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def halted(**fields: Any) -> TradingHalted:
    return TradingHalted(**{"account": "pool", "state": "HALTED", "actor": "reconciliation", "reason": "B10", **fields})


def broken(severity: int = 1) -> BreakOpened:
    return BreakOpened(break_id=uuid4(), kind="overfilled", key="block:1", severity=severity, detail="12 of 10 shares")


def mails(db: Database) -> list[Any]:
    with db.session() as session:
        statement = sa.select(Delivery.user_id, Delivery.kind).where(Delivery.channel == "email")
        return sorted(tuple(row) for row in session.execute(statement))


# --- alarms --------------------------------------------------------------------------------------------------------------


def test_every_administrator_is_told_of_an_alarm_once(
    make_desk: Callable[..., Desk], users: Any, consume: Consume, client: TestClient, auth_headers: Any
) -> None:
    users.administrators = [uuid4(), uuid4()]
    desk, event = make_desk({}), halted()
    for _ in range(3):
        consume(event)
        loop.sweep_rows(desk)
    assert mails(desk.db) == sorted((one, "trading_state") for one in users.administrators)
    for one in users.administrators:
        [shown] = client.get("/api/v1/notifications", headers=auth_headers(one)).json()["items"]
        assert shown["title"] == "Trading is halted: account pool"
    assert client.get("/api/v1/notifications", headers=auth_headers(uuid4())).json()["items"] == []

    consume(halted(state="ACTIVE", actor="two people", occurred_at=event.occurred_at + timedelta(seconds=1)))
    loop.sweep_rows(desk)
    assert len(mails(desk.db)) == 4


def test_a_break_that_stops_trading_is_mailed_another_one_is_shown(
    make_desk: Callable[..., Desk], users: Any, consume: Consume
) -> None:
    users.administrators = [uuid4()]
    desk = make_desk({})
    consume(broken(severity=1))
    consume(broken(severity=2))
    loop.sweep_rows(desk)
    assert mails(desk.db) == [(users.administrators[0], "break_serious")]
    with desk.db.session() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Notification)) == 2


def test_an_alarm_reaches_the_chat_also_when_user_service_is_away(
    make_desk: Callable[..., Desk], users: Any, consume: Consume, clock: FixedClock, wire: WireServer
) -> None:
    chats = ChatMessages(webhook_hosts=["127.0.0.1"], plain_http=True, timeout_s=1)
    from pydantic import SecretStr

    desk = make_desk({Channel.CHAT: chats}, operators_chat=SecretStr(f"json://127.0.0.1:{wire.port}/hook"))
    users.administrators, users.is_away = [uuid4()], True
    consume(broken())
    for _ in range(3):
        loop.sweep_rows(desk)
        deliver(desk, Channel.CHAT)
    assert [call.json["title"] for call in wire.taken] == ["Books disagree, trading stops: overfilled"]
    assert mails(desk.db) == []
    users.is_away = False
    clock.advance(11)
    for _ in range(3):
        loop.sweep_rows(desk)
        deliver(desk, Channel.CHAT)
    assert len(mails(desk.db)) == len(wire.taken) == 1


# --- deliveries -----------------------------------------------------------------------------------------------------------


def test_operators_find_a_delivery_with_its_history_and_queue_it_again(
    make_desk: Callable[..., Desk],
    consume: Consume,
    order_updated: Callable[..., OrderUpdated],
    client: TestClient,
    admin: dict[str, str],
    auth_headers: Any,
) -> None:
    edge, user_id = Edge(), uuid4()
    desk = make_desk({Channel.EMAIL: edge})
    consume(order_updated(user_id=user_id))
    consume(order_updated())
    edge.failure = Refused("receiver_refused", "550 no such user")
    deliver(desk, Channel.EMAIL)
    answer = client.get(f"{PATH}/deliveries", headers=admin, params={"user_id": str(user_id), "status": "failed"})
    [found] = answer.json()["items"]
    assert (found["channel"], found["error_code"], found["attempts"]) == ("email", "receiver_refused", 1)
    path = f"{PATH}/deliveries/{found['delivery_id']}"
    [attempt] = client.get(path, headers=admin).json()["history"]
    assert (attempt["outcome"], attempt["error"]) == ("refused", "550 no such user")

    edge.failure = None
    assert client.put(f"{path}/retry", headers=admin).json()["status"] == "queued"
    deliver(desk, Channel.EMAIL)
    sent = client.get(path, headers=admin).json()
    assert (sent["status"], sent["provider_id"], len(sent["history"])) == ("sent", "an-id", 2)
    assert client.put(f"{path}/retry", headers=admin).json()["code"] == "delivery_not_ended"
    assert client.get(f"{PATH}/deliveries/{uuid4()}", headers=admin).status_code == 404
    for method, where in (("GET", path), ("PUT", f"{path}/retry"), ("GET", f"{PATH}/deliveries")):
        assert client.request(method, where, headers=auth_headers(user_id)).status_code == 403

    mine = client.get("/api/v1/notifications", headers=auth_headers(user_id)).json()["items"][0]
    own = client.get(f"/api/v1/notifications/{mine['notification_id']}", headers=auth_headers(user_id)).json()
    assert [(way["channel"], way["status"]) for way in own["deliveries"]] == [("email", "sent")]
    assert client.get(f"/api/v1/notifications/{mine['notification_id']}", headers=auth_headers()).status_code == 404


def test_pages_of_deliveries_hold_each_once(
    consume: Consume, order_updated: Callable[..., OrderUpdated], client: TestClient, admin: dict[str, str]
) -> None:
    for _ in range(7):
        consume(order_updated())
    seen, cursor = [], None
    for _ in range(4):
        params = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"{PATH}/deliveries", headers=admin, params=params).json()
        seen += [item["delivery_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert len(seen) == len(set(seen)) == 7
    wrong = client.get(f"{PATH}/deliveries", headers=admin, params={"cursor": str(uuid4())})
    assert wrong.json()["code"] == "cursor_invalid"


def test_operators_see_what_fails(
    make_desk: Callable[..., Desk],
    consume: Consume,
    order_updated: Callable[..., OrderUpdated],
    client: TestClient,
    admin: dict[str, str],
) -> None:
    edge = Edge()
    edge.failure = Unreachable("not_connected", "ConnectionRefusedError")
    desk = make_desk({Channel.EMAIL: edge})
    for _ in range(5):
        consume(order_updated())
    deliver(desk, Channel.EMAIL)
    report = client.get(f"{PATH}/channels", headers=admin).json()
    assert report["last_day"] == [{"channel": "email", "status": "queued", "deliveries": 5}]
    [failing] = report["failing"]
    assert (failing["provider"], failing["failures"], failing["error_code"]) == ("email", 3, "not_connected")
    loop.publish(desk)
    assert (
        'saras_live_rows{kind="delivery_email",service="notification-service",state="queued"} 5.0'
        in client.get("/metrics").text
    )


# --- templates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_preview(client: TestClient, admin: dict[str, str], kind: Kind) -> None:
    shown = client.get(f"{PATH}/templates/{kind}/preview", headers=admin).json()
    for part in ("title", "text", "mail_subject", "mail_text", "mail_html"):
        assert shown[part].strip()
        assert "None" not in shown[part]
        assert "{{" not in shown[part]
    assert shown["mail_html"].lstrip().startswith("<!DOCTYPE html>")
    assert "\n" not in shown["title"]


def test_templates_are_listed_for_administrators(client: TestClient, admin: dict[str, str], auth_headers: Any) -> None:
    items = client.get(f"{PATH}/templates", headers=admin).json()["items"]
    assert {item["kind"] for item in items} == set(SAMPLES) == set(Kind)
    for path in ("templates", "templates/order_filled/preview", "channels"):
        assert client.get(f"{PATH}/{path}", headers=auth_headers()).status_code == 403
        assert client.get(f"{PATH}/{path}").status_code == 401
    assert client.get(f"{PATH}/templates/no_such_kind/preview", headers=admin).status_code == 422
