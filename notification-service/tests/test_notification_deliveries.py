"""A fact on its way out: once per channel, tried again from rows, given up in the end, and never in another one's way."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FixedClock
from common.db import Database
from common.events import CashMoved, EmailVerificationRequested, OrderUpdated, PasswordResetRequested
from common.sealing import Sealer
from notification_service import contact_points, deliveries, loop
from notification_service.config import Settings
from notification_service.delivering import deliver, due_channels
from notification_service.delivery_states import MOVES, IllegalMove, Status, check, sources_of
from notification_service.desk import Desk
from notification_service.kinds import Channel
from notification_service.models import Circuit, ContactPoint, Delivery, DeliveryAttempt, Notification
from notification_service.peers import Contact
from notification_service.providers.base import Message, OutcomeUnknown, Provider
from notification_service.providers.chat import ChatMessages
from notification_service.providers.mail import SmtpMail, SmtpServer
from notification_service.providers.sms import TwilioSms
from notification_service.retrying import JITTER, Pauses
from notification_service.testing import MailServer, WireServer, always

Make = Callable[..., OrderUpdated]
Consume = Callable[..., UUID]
MakeDesk = Callable[..., Desk]


class Refusing:
    """No server at all: a provider's edge that a test steers call by call."""

    def __init__(self) -> None:
        self.calls: list[Message] = []
        self.answers: list[Exception] = []
        self.during: Callable[[], None] = lambda: None

    def send(self, message: Message) -> str | None:
        self.calls.append(message)
        self.during()
        if self.answers:
            raise self.answers.pop(0)
        return f"id-{len(self.calls)}"

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def wire() -> Iterator[WireServer]:
    with WireServer() as server:
        yield server


def smtp(mails: MailServer, clock: FixedClock) -> SmtpMail:
    server = SmtpServer("127.0.0.1", mails.port, "none", None, None, 1.0)
    return SmtpMail(server, sender="no-reply@saras.example", clock=clock)


def sms(wire: WireServer) -> TwilioSms:
    return TwilioSms(
        account_sid="AC0", auth_token="twilio-test-token", sender="+15005550006",
        public_url="http://127.0.0.1:8000", base_url=wire.url, timeout_s=1.0,
    )  # fmt: skip


@pytest.fixture
def desk(make_desk: MakeDesk, mails: MailServer, clock: FixedClock) -> Desk:
    """Mail over a real SMTP server."""
    return make_desk({Channel.EMAIL: smtp(mails, clock)})


def add_contact(
    db: Database, sealer: Sealer, settings: Settings, clock: FixedClock, user_id: UUID, channel: Channel, address: str
) -> UUID:
    """A verified contact point."""
    with db.transaction() as session:
        point = contact_points.add(
            session, sealer, settings, user_id=user_id, channel=channel, address=address, label="", now=clock.now()
        )
        point.verified_at = clock.now()
        # Its code is not what these tests are about.
        session.execute(sa.delete(Delivery))
        return point.contact_id


def rows(db: Database, *columns: Any) -> list[Any]:
    with db.session() as session:
        return list(session.execute(sa.select(*columns)).all())


def statuses(db: Database) -> Counter[str]:
    return Counter(row.status for row in rows(db, Delivery.status))


def outcomes(db: Database) -> list[str | None]:
    with db.session() as session:
        return list(session.scalars(sa.select(DeliveryAttempt.outcome).order_by(DeliveryAttempt.attempt_id)))


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_fact_is_mailed_once_however_often_it_is_said(
    desk: Desk, mails: MailServer, consume: Consume, order_updated: Make
) -> None:
    event = order_updated()
    for message_id in (None, None, uuid4()):
        consume(event, message_id)
        deliver(desk, Channel.EMAIL)
    [mail] = mails.taken
    assert mail["To"] == f"{event.user_id}@example.com"
    [row] = rows(desk.db, Delivery.status, Delivery.provider_id, Delivery.delivery_id)
    assert (row.status, row.provider_id) == ("sent", f"<{row.delivery_id}@saras.example>")


def test_workers_at_once_send_each_delivery_once(
    make_desk: MakeDesk, mails: MailServer, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    for _ in range(40):
        consume(order_updated())
    desks = [make_desk({Channel.EMAIL: smtp(mails, clock)}) for _ in range(4)]
    made: list[int] = []
    threads = [
        threading.Thread(target=lambda desk=desk: made.append(deliver(desk, Channel.EMAIL, budget_s=30)))
        for desk in desks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(made) == len(mails.taken) == 40
    assert set(Counter(mails.named()).values()) == {1}
    assert statuses(desks[0].db) == {"sent": 40}


def test_the_database_takes_no_second_delivery_to_one_place(desk: Desk, consume: Consume, order_updated: Make) -> None:
    consume(order_updated())
    copied = sa.text(
        "INSERT INTO delivery SELECT gen_random_uuid(), notification_id, user_id, kind, channel, contact_id, provider,"
        " status, digest, due_at, give_up_at, attempts, tries, unknowns, lease_until, provider_id, error_code, error,"
        " merged_into, created_at, sent_at, ended_at FROM delivery"
    )
    with pytest.raises(sa.exc.IntegrityError, match="uq_delivery_notification_id_channel_contact_id"):
        with desk.db.transaction() as session:
            session.execute(copied)


# --- again, and no more ---------------------------------------------------------------------------------------------------


def test_a_busy_server_is_asked_again_later_and_in_the_end_given_up(
    make_desk: MakeDesk, mails: MailServer, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    # A circuit that never opens: this is about one delivery.
    desk = make_desk({Channel.EMAIL: smtp(mails, clock)}, tries_max=4, circuit_failures=100)
    mails.answer = always("busy")
    consume(order_updated())
    pauses = []
    for _ in range(4):
        assert deliver(desk, Channel.EMAIL) == 1
        assert deliver(desk, Channel.EMAIL) == 0, "not before its time"
        [row] = rows(desk.db, Delivery.due_at)
        pauses.append((row.due_at - clock.now()).total_seconds())
        clock.set(max(clock.now(), row.due_at))
    for number, pause in enumerate(pauses[:3]):
        longest = 10 * 2**number
        assert longest * (1 - JITTER) <= pause <= longest
    [row] = rows(desk.db, Delivery.status, Delivery.error_code, Delivery.attempts)
    assert tuple(row) == ("gave_up", "data_refused", 4)
    assert outcomes(desk.db) == ["busy"] * 4
    clock.advance(86_400)
    assert deliver(desk, Channel.EMAIL) == 0


def test_a_refused_mail_is_not_tried_again(
    desk: Desk, mails: MailServer, consume: Consume, order_updated: Make
) -> None:
    mails.receiver_answer = "550 5.1.1 No such user"
    consume(order_updated())
    assert deliver(desk, Channel.EMAIL) == 1
    [row] = rows(desk.db, Delivery.status, Delivery.error_code)
    assert tuple(row) == ("failed", "receiver_refused")


def test_news_that_are_too_old_are_not_sent(
    desk: Desk, mails: MailServer, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    consume(order_updated())
    clock.advance(25 * 3600)
    assert deliver(desk, Channel.EMAIL) == 0
    [row] = rows(desk.db, Delivery.status, Delivery.error_code)
    assert tuple(row) == ("gave_up", "too_old")
    assert mails.taken == []


def test_a_kind_of_a_later_release_waits_for_it_and_blocks_nothing(
    desk: Desk, mails: MailServer, consume: Consume, order_updated: Make
) -> None:
    consume(order_updated())
    with desk.db.transaction() as session:
        session.execute(sa.update(Delivery).values(kind="kind_of_tomorrow"))
    consume(order_updated())
    assert deliver(desk, Channel.EMAIL) == 1
    assert statuses(desk.db) == {"queued": 1, "sent": 1}


# --- a worker that dies ---------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """What kill -9 looks like from inside: nothing after it runs."""


@pytest.mark.parametrize("when", ["before the call", "after the call"])
def test_a_dead_worker_leaves_one_unknown_attempt_and_the_mail_keeps_its_name(
    make_desk: MakeDesk, mails: MailServer, clock: FixedClock, consume: Consume, order_updated: Make, when: str
) -> None:
    real = smtp(mails, clock)

    class Dying:
        def send(self, message: Message) -> str | None:
            if when == "after the call":
                real.send(message)
            raise Killed

        def close(self) -> None:
            """Nothing is open."""

    for _ in range(3):
        consume(order_updated())
    with pytest.raises(Killed):
        deliver(make_desk({Channel.EMAIL: Dying()}), Channel.EMAIL)
    assert statuses(desk_db := make_desk({}).db) == {"sending": 1, "queued": 2}, "one at a time"

    survivor = make_desk({Channel.EMAIL: real})
    assert deliver(survivor, Channel.EMAIL) == 2
    loop.sweep_rows(survivor)
    assert statuses(desk_db)["sending"] == 1, "its lease is not over"
    clock.advance(survivor.settings.lease_seconds + 1)
    loop.sweep_rows(survivor)
    clock.advance(60)
    assert deliver(survivor, Channel.EMAIL) == 1
    assert statuses(desk_db) == {"sent": 3}
    assert outcomes(desk_db).count("unknown") == 1
    # At least once at the provider's edge; a repeat is the same mail by its name.
    sent = Counter(mails.named())
    assert len(sent) == 3
    assert sorted(sent.values()) == ([1, 1, 2] if when == "after the call" else [1, 1, 1])


def test_an_outcome_that_stays_unknown_is_not_tried_a_third_time(
    make_desk: MakeDesk, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    edge = Refusing()
    edge.answers = [OutcomeUnknown("no_answer", "x") for _ in range(5)]
    desk = make_desk({Channel.EMAIL: edge}, circuit_failures=100)
    consume(order_updated())
    for _ in range(5):
        deliver(desk, Channel.EMAIL)
        clock.advance(1_000)
    assert len(edge.calls) == 2
    assert {call.delivery_id for call in edge.calls} == {edge.calls[0].delivery_id}
    [row] = rows(desk.db, Delivery.status, Delivery.error_code, Delivery.unknowns)
    assert tuple(row) == ("gave_up", "outcome_unknown", 2)


def test_an_answer_after_the_lease_counts_and_nothing_is_sent_again(
    make_desk: MakeDesk, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    edge = Refusing()
    desk = make_desk({Channel.EMAIL: edge})

    def meanwhile() -> None:
        clock.advance(desk.settings.lease_seconds + 1)
        loop.sweep_rows(desk)

    edge.during = meanwhile
    consume(order_updated())
    deliver(desk, Channel.EMAIL)
    assert statuses(desk.db) == {"sent": 1}
    clock.advance(3_600)
    assert deliver(desk, Channel.EMAIL) == 0
    assert outcomes(desk.db) == ["sent"]


# --- a provider that is away ------------------------------------------------------------------------------------------------


def test_an_outage_uses_up_no_tries_and_blocks_no_other_channel(
    make_desk: MakeDesk,
    mails: MailServer,
    wire: WireServer,
    clock: FixedClock,
    consume: Consume,
    order_updated: Make,
    sealer: Sealer,
    settings: Settings,
) -> None:
    desk = make_desk({Channel.EMAIL: smtp(mails, clock), Channel.SMS: sms(wire)}, tries_max=3)
    users = [uuid4() for _ in range(6)]
    for user_id in users:
        add_contact(desk.db, sealer, settings, clock, user_id, Channel.SMS, "+9198765432" + str(user_id.int)[-2:])
    mails.stop()
    for user_id in users:
        consume(order_updated(user_id=user_id, status="REJECTED", filled_quantity=0, amount_paise=0))
    assert due_channels(desk) == [Channel.EMAIL, Channel.SMS]
    attempts = deliver(desk, Channel.EMAIL)
    assert attempts == desk.settings.circuit_failures, "then it is left alone"
    assert deliver(desk, Channel.SMS) == 6
    assert len(wire.taken) == 6

    probes = 0
    for _ in range(200):  # half an hour
        clock.advance(10)
        probes += deliver(desk, Channel.EMAIL)
    assert 20 <= probes <= 60, "asked now and then, with one message each"
    assert statuses(desk.db)["gave_up"] == 0
    mails.start()
    clock.advance(desk.settings.circuit_max_seconds)
    for _ in range(20):
        deliver(desk, Channel.EMAIL)
        clock.advance(60)
    assert statuses(desk.db) == {"sent": 12}
    assert set(Counter(mails.named()).values()) == {1}
    assert rows(desk.db, Circuit.failures) == [(0,)]


def test_of_a_failing_provider_one_worker_asks_at_a_time(
    make_desk: MakeDesk, clock: FixedClock, consume: Consume, order_updated: Make
) -> None:
    edge = Refusing()
    desk = make_desk({Channel.EMAIL: edge}, circuit_failures=1)
    for _ in range(5):
        consume(order_updated())
    from notification_service.providers.base import Unreachable

    edge.answers = [Unreachable("away", "x")]
    assert deliver(desk, Channel.EMAIL) == 1
    clock.advance(11)
    others: list[int] = []
    edge.during = lambda: others.append(deliver(desk, Channel.EMAIL)) if len(edge.calls) == 2 else None
    assert deliver(desk, Channel.EMAIL) == 5, "the probe was answered, so the others follow"
    assert others == [0]


def test_one_users_dead_webhook_is_no_other_users_trouble(
    make_desk: MakeDesk,
    wire: WireServer,
    clock: FixedClock,
    consume: Consume,
    order_updated: Make,
    sealer: Sealer,
    settings: Settings,
) -> None:
    chats = ChatMessages(webhook_hosts=["127.0.0.1"], plain_http=True, timeout_s=0.5)
    desk = make_desk({Channel.CHAT: chats}, circuit_failures=1)
    dead, alive = uuid4(), uuid4()
    add_contact(desk.db, sealer, settings, clock, dead, Channel.CHAT, "json://127.0.0.1:1/hook")
    add_contact(desk.db, sealer, settings, clock, alive, Channel.CHAT, f"json://127.0.0.1:{wire.port}/hook")
    for user_id in (dead, dead, alive, alive):
        consume(order_updated(user_id=user_id))
    assert deliver(desk, Channel.CHAT) == 3
    assert len(wire.taken) == 2


def test_a_device_that_is_gone_is_asked_no_more(
    make_desk: MakeDesk,
    wire: WireServer,
    clock: FixedClock,
    consume: Consume,
    order_updated: Make,
    sealer: Sealer,
    settings: Settings,
) -> None:
    user_id = uuid4()
    desk = make_desk({Channel.SMS: sms(wire)})
    add_contact(desk.db, sealer, settings, clock, user_id, Channel.SMS, "+919876543210")
    wire.status, wire.error = 400, {"code": 21610, "message": "unsubscribed"}
    consume(order_updated(user_id=user_id, status="FAILED", filled_quantity=0, amount_paise=0))
    deliver(desk, Channel.SMS)
    [row] = rows(desk.db, ContactPoint.removed_why, ContactPoint.sealed)
    assert tuple(row) == ("twilio_21610", "")
    consume(order_updated(user_id=user_id, status="FAILED", filled_quantity=0, amount_paise=0))
    assert Counter(row.channel for row in rows(desk.db, Delivery.channel)) == {"email": 2, "sms": 1}


def test_without_user_service_mails_wait(
    desk: Desk, mails: MailServer, clock: FixedClock, users: Any, consume: Consume, order_updated: Make
) -> None:
    consume(order_updated())
    users.is_away = True
    deliver(desk, Channel.EMAIL)
    assert statuses(desk.db) == {"queued": 1}
    users.is_away = False
    clock.advance(60)
    deliver(desk, Channel.EMAIL)
    assert len(mails.taken) == 1


def test_a_channel_that_is_not_set_up_says_so(make_desk: MakeDesk, consume: Consume, order_updated: Make) -> None:
    desk = make_desk({})
    consume(order_updated())
    deliver(desk, Channel.EMAIL)
    [row] = rows(desk.db, Delivery.status, Delivery.error_code)
    assert tuple(row) == ("failed", "channel_not_set_up")


# --- to whom ----------------------------------------------------------------------------------------------------------


def test_only_account_mails_go_to_an_address_that_is_not_verified(
    desk: Desk, mails: MailServer, clock: FixedClock, users: Any, consume: Consume, order_updated: Make
) -> None:
    user_id, token_id = uuid4(), uuid4()
    users.people[user_id] = Contact(user_id, "new@example.com", False, "Asha Rao")
    users.tokens[token_id] = "t" * 43
    consume(order_updated(user_id=user_id))
    consume(
        EmailVerificationRequested(
            user_id=user_id, email="new@example.com", full_name="Asha Rao", mail_token_id=token_id,
            expires_at=clock.now() + timedelta(hours=24),
        )
    )  # fmt: skip
    deliver(desk, Channel.EMAIL)
    [mail] = mails.taken
    assert mail["Subject"] == "Verify your e-mail address"
    assert f"http://127.0.0.1:8000/verify-email#token={'t' * 43}" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert {row.error_code for row in rows(desk.db, Delivery.error_code)} == {None, "address_not_verified"}


def test_a_token_is_in_its_mail_and_nowhere_else(
    desk: Desk, mails: MailServer, clock: FixedClock, users: Any, consume: Consume, client: Any, auth_headers: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    user_id, token_id, token = uuid4(), uuid4(), f"canary-{uuid4().hex}"
    users.tokens[token_id] = token
    event = PasswordResetRequested(
        user_id=user_id, email="a@example.com", full_name="Asha", mail_token_id=token_id,
        expires_at=clock.now() + timedelta(hours=1),
    )  # fmt: skip
    consume(event)
    deliver(desk, Channel.EMAIL)
    assert token in mails.taken[0].get_body(("plain",)).get_content()  # type: ignore[union-attr]
    with desk.db.session() as session:
        names = session.scalars(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
        dump = "".join(str(session.scalars(sa.text(f'SELECT t::text FROM "{name}" t')).all()) for name in names)  # noqa: S608
    shown = client.get("/api/v1/notifications", headers=auth_headers(user_id)).text
    admin = client.get("/api/v1/admin/notifications/deliveries", headers=auth_headers(roles=["admin"])).text
    assert str(user_id) in admin
    for place in (dump, shown, admin, caplog.text):
        assert token not in place

    used = event.model_copy(update={"mail_token_id": uuid4()})
    consume(used)
    deliver(desk, Channel.EMAIL)
    assert len(mails.taken) == 1, "a token that was used opens nothing, so its mail is not written"


def test_no_message_shows_a_full_account_number(
    desk: Desk, mails: MailServer, consume: Consume, order_updated: Make
) -> None:
    reason = "Demat 1208160012345678, bank 5010 0123 4567 8901, PAN ABCPR1234K: insufficient holdings on 2026-11-23."
    event = order_updated(status="REJECTED", filled_quantity=0, amount_paise=0, reason=reason)
    consume(event)
    deliver(desk, Channel.EMAIL)
    [row] = rows(desk.db, Notification.text)
    [mail] = mails.taken
    said = [row.text, *(mail.get_body((form,)).get_content() for form in ("plain", "html"))]  # type: ignore[union-attr]
    for text in said:
        for secret in ("1208160012345678", "0123 4567", "ABCPR1234K"):
            assert secret not in text
        assert "...5678" in text
        assert "...234K" in text
        assert "2026-11-23" in text


def test_money_in_and_out_is_mailed_in_indian_notation(desk: Desk, mails: MailServer, consume: Consume) -> None:
    ids = {"user_id": uuid4(), "portfolio_id": uuid4(), "transfer_id": uuid4()}
    consume(CashMoved(**ids, kind="DEPOSIT", amount_paise=1_23_456_78))
    deliver(desk, Channel.EMAIL)
    assert mails.taken[0]["Subject"] == "₹1,23,456.78 deposited"


# --- rules --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.1, 60), st.floats(60, 3_600))
def test_pauses_grow_to_a_bound_and_jitter_shortens_only(
    failures: int, chance: float, first: float, longest: float
) -> None:
    pauses = Pauses(first, longest)
    full, shortened = pauses.after(failures), pauses.after(failures, chance)
    assert full <= timedelta(seconds=longest)
    assert full <= pauses.after(failures + 1)
    assert full * (1 - JITTER) - timedelta(milliseconds=1) <= shortened <= full


@pytest.mark.parametrize("source", Status)
@pytest.mark.parametrize("target", Status)
def test_a_delivery_moves_only_as_the_table_says(source: Status, target: Status) -> None:
    if (source, target) in MOVES:
        check(source, target)
        assert source in sources_of(target)
    else:
        with pytest.raises(IllegalMove):
            check(source, target)


def test_what_has_arrived_or_was_summarised_is_over() -> None:
    assert {target for source, target in MOVES if source in (Status.DELIVERED, Status.MERGED)} == set()


def test_claims_ask_little_of_the_database(
    desk: Desk, clock: FixedClock, consume: Consume, order_updated: Make, count_of: Any
) -> None:
    consume(order_updated())
    with count_of(desk.db) as statements, desk.db.transaction() as session:
        assert deliveries.claim(session, Channel.EMAIL, desk.settings, clock.now()) is not None
    assert len(statements) <= 7, statements


@pytest.fixture
def count_of() -> Any:
    from common.db import count_statements

    return count_statements


_: type[Provider] = Refusing
