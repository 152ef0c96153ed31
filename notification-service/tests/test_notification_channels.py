"""Contact points: verified by a code that only the place itself gets, sealed, masked, each user's own."""

import base64
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from common.auth import Authenticator
from common.clock import FixedClock
from common.db import Database
from common.events import OrderUpdated
from common.sealing import Sealer
from common.testing import client_for
from notification_service import contact_points, key_rotation
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.delivering import deliver
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.models import ContactPoint
from notification_service.providers.sms import TwilioSms
from notification_service.testing import WireServer

PATH = "/api/v1/notifications/channels"
NUMBER = "+919876543210"
SEAL_KEY, NEW_KEY = (base64.b64encode(bytes([number]) * 32).decode() for number in (5, 6))
SUBSCRIPTION = (
    '{"endpoint": "https://fcm.googleapis.com/fcm/send/abc", "expirationTime": null,'
    ' "keys": {"p256dh": "BNcRdreALRFXTkOOUHK1EtK2wtaz5Ry4YfYCA_0QTpQtUbVlUls0VJXg7A8u-Ts1XbjhazAkj7I99e8QcYP7DkM",'
    ' "auth": "tBHItJI5svbpez7KI4CCXg"}}'
)


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def desk(make_desk: Callable[..., Desk], wire: WireServer) -> Desk:
    sms = TwilioSms(
        account_sid="AC0", auth_token="t", sender="+15005550006", public_url="http://x", base_url=wire.url, timeout_s=1
    )
    return make_desk({Channel.SMS: sms})


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def mine(auth_headers: Any, user_id: UUID) -> dict[str, str]:
    headers: dict[str, str] = auth_headers(user_id)
    return headers


def add(client: TestClient, headers: dict[str, str], channel: str = "sms", address: str = NUMBER, **more: Any) -> Any:
    return client.post(
        PATH,
        headers={**headers, "Idempotency-Key": more.pop("key", uuid4().hex)},
        json={"channel": channel, "address": address, **more},
    )


def code_in(wire: WireServer) -> str:
    text = wire.taken[-1].form["Body"]
    return text.partition("Your code is ")[2][:6]


def test_a_phone_is_verified_by_the_code_it_gets_and_then_told_things(
    client: TestClient, mine: dict[str, str], user_id: UUID, desk: Desk, wire: WireServer,
    consume: Any, order_updated: Callable[..., OrderUpdated],
) -> None:  # fmt: skip
    added = add(client, mine, address="98765 43210", label="My phone")
    assert added.status_code == 201, added.text
    point = added.json()
    assert (point["address"], point["verified"]) == ("+91 ...3210", False)
    consume(order_updated(user_id=user_id, status="REJECTED", filled_quantity=0, amount_paise=0))
    deliver(desk, Channel.SMS)
    assert len(wire.taken) == 1, "the code and nothing else"
    assert wire.taken[0].form["To"] == NUMBER
    code = code_in(wire)

    path = f"{PATH}/{point['contact_id']}/verify"
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    assert client.put(path, headers=mine, json={"code": wrong}).json()["code"] == "code_wrong"
    assert client.put(path, headers=mine, json={"code": code}).status_code == 204
    assert client.get(PATH, headers=mine).json()["items"][0]["verified"] is True
    consume(order_updated(user_id=user_id, status="REJECTED", filled_quantity=0, amount_paise=0))
    deliver(desk, Channel.SMS)
    assert "was rejected" in wire.taken[-1].form["Body"]


def test_guessing_a_code_ends_soon_also_when_guesses_come_at_once(
    client: TestClient, mine: dict[str, str], desk: Desk, wire: WireServer
) -> None:
    point = add(client, mine).json()
    deliver(desk, Channel.SMS)
    code = code_in(wire)
    path = f"{PATH}/{point['contact_id']}/verify"
    wrong = [f"{(int(code) + step) % 1_000_000:06d}" for step in range(1, 13)]
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda guess=guess: answers.append(client.put(path, headers=mine, json={"code": guess}).status_code)
        )
        for guess in wrong
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [409] * 7 + [422] * 5
    assert client.put(path, headers=mine, json={"code": code}).json()["code"] == "codes_exhausted"


def test_a_code_is_good_for_ten_minutes_and_a_new_one_replaces_it(
    client: TestClient, mine: dict[str, str], desk: Desk, wire: WireServer, clock: FixedClock
) -> None:
    point = add(client, mine).json()
    path = f"{PATH}/{point['contact_id']}"
    deliver(desk, Channel.SMS)
    first = code_in(wire)
    soon = client.put(f"{path}/code", headers=mine)
    assert soon.status_code == 429
    assert soon.headers["retry-after"] == "61"
    clock.advance(61)
    assert client.put(f"{path}/code", headers=mine).status_code == 202
    deliver(desk, Channel.SMS)
    second = code_in(wire)
    assert first != second
    assert client.put(f"{path}/verify", headers=mine, json={"code": first}).status_code == 422
    clock.advance(601)
    assert client.put(f"{path}/verify", headers=mine, json={"code": second}).status_code == 422
    for _ in range(3):
        assert client.put(f"{path}/code", headers=mine).status_code == 202
        clock.advance(61)
    assert client.put(f"{path}/code", headers=mine).json()["code"] == "codes_exhausted"


def test_an_address_is_sealed_at_rest_and_masked_in_answers(
    client: TestClient, mine: dict[str, str], db: Database, user_id: UUID, settings: Settings, sealer: Any
) -> None:
    secrets = {
        "sms": NUMBER, "push": "d" * 20 + "canary" + "e" * 20, "web_push": SUBSCRIPTION,
        "chat": "tgram://123456789:abcdefg_hijklmnop/12315544",
    }  # fmt: skip
    for channel, address in secrets.items():
        answer = add(client, mine, channel, address)
        assert answer.status_code == 201, answer.text
    shown = client.get(PATH, headers=mine)
    with db.session() as session:
        names = session.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        dump = "".join(str(session.scalars(sa.text(f'SELECT t::text FROM "{name}" t')).all()) for name in names)  # noqa: S608
        for point in contact_points.listed(session, user_id):
            assert contact_points.opened(session, sealer, point.contact_id)
    for secret in (NUMBER[3:], "canary", "tBHItJI5svbpez7KI4CCXg", "abcdefg_hijklmnop"):
        assert secret not in dump
        assert secret not in shown.text
    masked = {item["channel"]: item["address"] for item in shown.json()["items"]}
    assert masked == {"sms": "+91 ...3210", "push": "...eeee", "web_push": "fcm.googleapis.com", "chat": "tgram://..."}
    assert shown.json()["web_push_key"] == "a-public-key"


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("sms", "12345"), ("sms", "+0123456789"), ("sms", "call me"), ("push", "short"), ("push", "x" * 30 + "\x00"),
        ("web_push", "{}"), ("web_push", "[" * 1_500), ("web_push", '{"endpoint": 1, "keys": {}}'),
        ("web_push", SUBSCRIPTION.replace("https://fcm.googleapis.com", "https://evil.example")),
        ("web_push", SUBSCRIPTION.replace("https://fcm.googleapis.com", "http://fcm.googleapis.com")),
        ("web_push", SUBSCRIPTION.replace("https://fcm.googleapis.com", "https://fcm.googleapis.com:22")),
        ("web_push", SUBSCRIPTION.replace("fcm.googleapis.com", "a@fcm.googleapis.com.evil.example")),
        ("web_push", SUBSCRIPTION.replace("fcm.googleapis.com", "169.254.169.254")),
        ("chat", "http://127.0.0.1:9010/"), ("chat", "jsons://evil.example/"), ("chat", "mailto://a:b@example.com"),
        ("email", "a@example.com"), ("in_app", "x"),
    ],
)  # fmt: skip
def test_what_is_no_address_of_its_channel_is_refused(
    client: TestClient, mine: dict[str, str], channel: str, address: str
) -> None:
    answer = add(client, mine, channel, address)
    assert answer.status_code == 422, answer.text
    assert "evil" not in answer.text


def test_the_same_address_is_not_added_twice_and_their_number_is_bounded(
    client: TestClient, mine: dict[str, str], auth_headers: Any
) -> None:
    assert add(client, mine, key="k-1").status_code == 201
    assert add(client, mine, key="k-1").status_code == 201, "the same request again is the same answer"
    assert add(client, mine, address="9876543210").json()["code"] == "contact_point_exists"
    assert add(client, auth_headers(uuid4())).status_code == 201, "of another user it may be"
    for number in range(9):
        assert add(client, mine, address=f"+91987654310{number}").status_code == 201
    assert add(client, mine, address="+919800000000").json()["code"] == "too_many_contact_points"


def test_contact_points_are_each_users_own(client: TestClient, mine: dict[str, str], auth_headers: Any) -> None:
    point = add(client, mine).json()
    other, path = auth_headers(uuid4()), f"{PATH}/{point['contact_id']}"
    assert client.get(PATH, headers=other).json()["items"] == []
    for method, where, body in (
        ("DELETE", path, None), ("PUT", f"{path}/code", None), ("PUT", f"{path}/verify", {"code": "123456"}),
    ):  # fmt: skip
        assert client.request(method, where, headers=other, json=body).status_code == 404
        assert client.request(method, where, json=body).status_code == 401
    assert client.delete(path, headers=mine).status_code == 204
    assert client.delete(path, headers=mine).status_code == 404
    assert add(client, mine).status_code == 201


def test_a_removed_address_is_forgotten_and_gets_nothing_that_waits(
    client: TestClient, mine: dict[str, str], db: Database, desk: Desk, wire: WireServer
) -> None:
    point = add(client, mine).json()
    client.delete(f"{PATH}/{point['contact_id']}", headers=mine)
    deliver(desk, Channel.SMS)
    assert wire.taken == []
    with db.session() as session:
        assert session.scalars(sa.select(ContactPoint.sealed)).all() == [""]


def test_without_sealing_keys_nothing_is_added(
    db: Database, market: Any, authenticator: Callable[..., Authenticator], clock: FixedClock, mine: dict[str, str]
) -> None:
    bare = client_for(
        create_app(Settings(database_url=db.url), db=db, authenticator=authenticator(NAME), market=market, clock=clock)
    )
    answer = add(bare, mine)
    assert (answer.status_code, answer.json()["code"]) == (503, "sealing_not_set_up")
    assert bare.get(PATH, headers=mine).json()["items"] == []


def test_the_key_of_addresses_is_replaced_and_the_old_one_may_go(
    client: TestClient, mine: dict[str, str], db: Database, user_id: UUID, sealer: Any
) -> None:
    for number in range(5):
        add(client, mine, address=f"+91987654310{number}")
    both = Sealer.from_base64({1: SEAL_KEY, 2: NEW_KEY}, current=2)
    assert key_rotation.rotate(db, both).resealed == 5
    assert key_rotation.rotate(db, both).resealed == 0
    new = Sealer.from_base64({2: NEW_KEY}, current=2)
    with db.session() as session:
        points = contact_points.listed(session, user_id)
        addresses = {contact_points.opened(session, new, one.contact_id) for one in points}
        assert addresses == {f"+91987654310{number}" for number in range(5)}
        assert {contact_points.opened(session, sealer, one.contact_id) for one in points} == {None}
        for one in points:
            address = contact_points.opened(session, new, one.contact_id)
            assert one.fingerprint == contact_points.fingerprint_of(new, user_id, Channel.SMS, str(address))
    lost = Sealer.from_base64({3: SEAL_KEY}, current=3)
    assert len(key_rotation.rotate(db, lost).unreadable) == 5
