"""Twilio's callbacks: believed when signed, in any order, also before or instead of our own answer."""

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from twilio.request_validator import RequestValidator

from common.auth import Authenticator
from common.clock import FixedClock
from common.db import Database
from common.events import OrderUpdated
from common.testing import client_for
from notification_service import contact_points, loop
from notification_service.app import create_app
from notification_service.config import NAME, Settings
from notification_service.delivering import deliver
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.models import Delivery
from notification_service.providers.sms import CALLBACK_PATH, TwilioSms, callback_url
from notification_service.testing import WireServer

TOKEN = "twilio-test-token"
BASE = "http://127.0.0.1:8000"


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


@pytest.fixture
def sms(wire: WireServer) -> TwilioSms:
    return TwilioSms(
        account_sid="AC0", auth_token=TOKEN, sender="+15005550006", public_url=BASE, base_url=wire.url, timeout_s=1
    )


@pytest.fixture
def desk(make_desk: Callable[..., Desk], sms: TwilioSms) -> Desk:
    return make_desk({Channel.SMS: sms})


@pytest.fixture
def queued(
    db: Database,
    sealer: Any,
    settings: Settings,
    clock: FixedClock,
    consume: Any,
    order_updated: Callable[..., OrderUpdated],
) -> UUID:
    """An SMS that waits."""
    user_id = uuid4()
    with db.transaction() as session:
        point = contact_points.add(
            session, sealer, settings, user_id=user_id, channel=Channel.SMS, address="+919876543210", label="",
            now=clock.now(),
        )  # fmt: skip
        point.verified_at = clock.now()
        session.execute(sa.delete(Delivery))
    consume(order_updated(user_id=user_id, status="REJECTED", filled_quantity=0, amount_paise=0))
    with db.session() as session:
        return session.scalars(sa.select(Delivery.delivery_id).where(Delivery.channel == "sms")).one()


def row(db: Database, delivery_id: UUID) -> Any:
    with db.session() as session:
        return session.get(Delivery, delivery_id)


def call(client: TestClient, delivery_id: UUID, sid: str, status: str, *, token: str = TOKEN, **more: str) -> Any:
    fields = {"MessageSid": sid, "MessageStatus": status, "AccountSid": "AC0", "To": "+919876543210", **more}
    signature = RequestValidator(token).compute_signature(callback_url(BASE, delivery_id), fields)
    return client.post(
        f"{CALLBACK_PATH}?delivery={delivery_id}",
        content=urlencode(fields),
        headers={"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"},
    )


def test_a_delivered_sms_is_told_and_repeats_change_nothing(client: TestClient, desk: Desk, queued: UUID) -> None:
    deliver(desk, Channel.SMS)
    sid = row(desk.db, queued).provider_id
    for status, expected in (
        ("queued", "sent"), ("sent", "sent"), ("delivered", "delivered"), ("sent", "delivered"), ("failed", "delivered"),
    ):  # fmt: skip
        assert call(client, queued, sid, status).status_code == 200
        assert row(desk.db, queued).status == expected


def test_an_sms_that_did_not_arrive_says_why(client: TestClient, desk: Desk, queued: UUID) -> None:
    deliver(desk, Channel.SMS)
    call(client, queued, row(desk.db, queued).provider_id, "undelivered", ErrorCode="30003")
    found = row(desk.db, queued)
    assert (found.status, found.error_code) == ("failed", "twilio_30003")


@pytest.mark.parametrize("how", ["another token", "changed fields", "another delivery", "no signature", "noise"])
def test_a_forged_callback_is_refused(client: TestClient, desk: Desk, queued: UUID, how: str) -> None:
    deliver(desk, Channel.SMS)
    sid = row(desk.db, queued).provider_id
    path = f"{CALLBACK_PATH}?delivery={queued}"
    fields = {"MessageSid": sid, "MessageStatus": "failed"}
    good = RequestValidator(TOKEN).compute_signature(callback_url(BASE, queued), fields)
    if how == "another token":
        answer = call(client, queued, sid, "failed", token="guessed")
    elif how == "changed fields":
        body = urlencode({**fields, "MessageStatus": "delivered"})
        answer = client.post(path, content=body, headers={"X-Twilio-Signature": good})
    elif how == "another delivery":
        answer = client.post(
            f"{CALLBACK_PATH}?delivery={uuid4()}", content=urlencode(fields), headers={"X-Twilio-Signature": good}
        )
    elif how == "no signature":
        answer = client.post(path, content=urlencode(fields))
    else:
        answer = client.post(path, content=b"\xff" * 100, headers={"X-Twilio-Signature": good})
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "callback_not_authentic"
    assert row(desk.db, queued).status == "sent"


def test_a_callback_that_is_too_large_is_not_read(client: TestClient, queued: UUID) -> None:
    answer = client.post(f"{CALLBACK_PATH}?delivery={queued}", content=b"a=" + b"x" * 20_000)
    assert answer.status_code == 413


def test_a_callback_may_be_quicker_than_our_own_answer(
    client: TestClient, make_desk: Callable[..., Desk], sms: TwilioSms, queued: UUID
) -> None:
    class Slow:
        def send(self, message: Any) -> str | None:
            sid = sms.send(message)
            assert call(client, queued, str(sid), "delivered").status_code == 200
            return sid

        def close(self) -> None:
            """Nothing is open."""

    desk = make_desk({Channel.SMS: Slow()})
    deliver(desk, Channel.SMS)
    assert row(desk.db, queued).status == "delivered"


def test_a_callback_settles_an_attempt_whose_worker_died(
    client: TestClient,
    make_desk: Callable[..., Desk],
    sms: TwilioSms,
    wire: WireServer,
    queued: UUID,
    clock: FixedClock,
) -> None:
    class Killed(BaseException):
        """kill -9"""

    class Dying:
        def send(self, message: Any) -> str | None:
            self.sid = sms.send(message)
            raise Killed

        def close(self) -> None:
            """Nothing is open."""

    dying = Dying()
    with pytest.raises(Killed):
        deliver(make_desk({Channel.SMS: dying}), Channel.SMS)
    desk = make_desk({Channel.SMS: sms})
    clock.advance(61)
    loop.sweep_rows(desk)
    assert row(desk.db, queued).status == "queued", "its outcome is unknown, so it would be tried once more"
    assert call(client, queued, str(dying.sid), "sent").status_code == 200
    clock.advance(3_600)
    deliver(desk, Channel.SMS)
    assert row(desk.db, queued).status == "sent"
    assert len(wire.taken) == 1


def test_without_an_account_every_callback_is_refused(
    db: Database, market: Any, authenticator: Callable[..., Authenticator], clock: FixedClock, queued: UUID
) -> None:
    bare = client_for(
        create_app(Settings(database_url=db.url), db=db, authenticator=authenticator(NAME), market=market, clock=clock)
    )
    assert call(bare, queued, "SM1", "delivered", token="").status_code == 403
