"""What people choose: channels, quiet hours on an Indian clock, daily summaries. Put off is not lost."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from common.clock import FixedClock, to_ist
from common.db import Database
from common.events import BreakOpened, OrderUpdated, PasswordResetRequested
from notification_service import digests, loop
from notification_service.delivering import deliver
from notification_service.desk import Desk
from notification_service.kinds import CHOSEN_KINDS, DIGEST_KINDS, RULES, Channel, Kind
from notification_service.models import Delivery, Notification
from notification_service.providers.base import Message
from notification_service.quiet import QuietHours, next_at, not_before

PATH = "/api/v1/notifications/preferences"
Make = Callable[..., OrderUpdated]
Consume = Callable[..., UUID]
clock_times = st.times().map(lambda at: at.replace(second=0, microsecond=0))
instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


class Post:
    """Keeps what goes out."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> str | None:
        self.sent.append(message)
        return None

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def user_id() -> UUID:
    return uuid4()


@pytest.fixture
def mine(auth_headers: Any, user_id: UUID) -> dict[str, str]:
    headers: dict[str, str] = auth_headers(user_id)
    return headers


@pytest.fixture
def post() -> Post:
    return Post()


@pytest.fixture
def desk(make_desk: Callable[..., Desk], post: Post) -> Desk:
    return make_desk({Channel.EMAIL: post})


def choose(client: TestClient, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    answer = client.put(PATH, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    chosen: dict[str, Any] = answer.json()
    return chosen


def ist(hour: int, minute: int = 0, day: int = 23) -> datetime:
    return (datetime(2026, 11, day, hour, minute, tzinfo=UTC) - timedelta(hours=5, minutes=30)).astimezone(UTC)


# --- choices -------------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_kinds(client: TestClient, mine: dict[str, str]) -> None:
    shown = client.get(PATH, headers=mine).json()
    assert set(shown["channels"]) == set(CHOSEN_KINDS)
    assert shown["channels"]["order_filled"] == {
        "in_app": True, "email": True, "sms": False, "push": True, "web_push": True, "chat": True,
    }  # fmt: skip
    assert shown["quiet_hours"] is None
    assert shown["digest"] == {"at": "18:00", "kinds": []}


def test_a_choice_decides_where_a_message_goes_and_put_replaces_all(
    client: TestClient,
    mine: dict[str, str],
    user_id: UUID,
    desk: Desk,
    post: Post,
    consume: Consume,
    order_updated: Make,
) -> None:
    choose(client, mine, channels={"order_filled": {"email": False}})
    consume(order_updated(user_id=user_id))
    deliver(desk, Channel.EMAIL)
    assert post.sent == []
    assert client.get("/api/v1/notifications/unread-count", headers=mine).json() == {"unread": 1}

    choose(client, mine, channels={"order_filled": {"in_app": False}})
    consume(order_updated(user_id=user_id))
    deliver(desk, Channel.EMAIL)
    assert len(post.sent) == 1
    assert client.get("/api/v1/notifications/unread-count", headers=mine).json() == {"unread": 1}
    assert choose(client, mine)["channels"]["order_filled"]["in_app"] is True


@pytest.mark.parametrize(
    "body",
    [
        {"channels": {"password_reset": {"email": False}}},
        {"channels": {"no_such_kind": {"email": False}}},
        {"channels": {"order_filled": {"pigeon": True}}},
        {"quiet_hours": {"start": "22:00", "end": "22:00"}},
        {"quiet_hours": {"start": "22:00"}},
        {"quiet_hours": {"start": "25:00", "end": "07:00"}},
        {"quiet_hours": {"start": "22:00:30", "end": "07:00"}},
        {"digest": {"kinds": ["break_serious"]}},
        {"digest": {"kinds": ["email_verification"]}},
        {"digest": {"at": "noon"}},
        {"unknown": 1},
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(client: TestClient, mine: dict[str, str], body: Any) -> None:
    assert client.put(PATH, headers=mine, json=body).status_code == 422
    assert client.put(PATH, json=body).status_code == 401


def test_choices_are_each_users_own(client: TestClient, mine: dict[str, str], auth_headers: Any) -> None:
    choose(client, mine, quiet_hours={"start": "22:00", "end": "07:00"})
    assert client.get(PATH, headers=auth_headers(uuid4())).json()["quiet_hours"] is None
    assert client.get(PATH, headers=mine).json()["quiet_hours"] == {"start": "22:00", "end": "07:00"}


# --- quiet hours -----------------------------------------------------------------------------------------------------------


@given(clock_times, clock_times, instants)
def test_quiet_hours_end_within_a_day_and_nothing_goes_out_in_them(start: time, end: time, instant: datetime) -> None:
    if start == end:
        with pytest.raises(ValueError, match="end"):
            QuietHours(start, end)
        return
    quiet = QuietHours(start, end)
    earliest = not_before(instant, quiet)
    assert not quiet.covers(earliest)
    assert instant <= earliest <= instant + timedelta(days=1)
    if not quiet.covers(instant):
        assert earliest == instant
    else:
        assert to_ist(earliest).time() == end
    # Every minute of a day is quiet or it is not: both halves of the clock together are a day.
    assert quiet.covers(instant) != QuietHours(end, start).covers(instant)


@given(clock_times, instants)
def test_the_next_time_of_day_is_the_first_one_after(at: time, instant: datetime) -> None:
    found = next_at(at, instant)
    assert instant < found <= instant + timedelta(days=1)
    assert to_ist(found).time() == at


@pytest.mark.parametrize(
    ("now", "goes_out"),
    [
        (ist(21, 59), ist(21, 59)),
        (ist(22), ist(7, day=24)),
        (ist(23, 59), ist(7, day=24)),
        (ist(0, day=24), ist(7, day=24)),
        (ist(6, 59, day=24), ist(7, day=24)),
        (ist(7, day=24), ist(7, day=24)),
    ],
)
def test_quiet_hours_go_over_midnight(
    client: TestClient, auth_headers: Any, user_id: UUID, clock: FixedClock, desk: Desk, post: Post, consume: Consume,
    order_updated: Make, now: datetime, goes_out: datetime,
) -> None:  # fmt: skip
    clock.set(now)
    choose(client, auth_headers(user_id), quiet_hours={"start": "22:00", "end": "07:00"})
    consume(order_updated(user_id=user_id))
    for instant in (now, goes_out - timedelta(seconds=1)):
        clock.set(max(now, instant))
        deliver(desk, Channel.EMAIL)
        assert len(post.sent) == (1 if goes_out <= clock.now() else 0)
    clock.set(goes_out)
    deliver(desk, Channel.EMAIL)
    assert len(post.sent) == 1, "put off, not lost"


def test_a_retry_waits_for_the_end_of_quiet_hours_too(
    client: TestClient, auth_headers: Any, user_id: UUID, clock: FixedClock, make_desk: Callable[..., Desk],
    consume: Consume, order_updated: Make,
) -> None:  # fmt: skip
    from notification_service.providers.base import Busy

    class Once(Post):
        def send(self, message: Message) -> str | None:
            if not self.sent:
                self.sent.append(message)
                raise Busy("busy", "later")
            return super().send(message)

    post = Once()
    desk = make_desk({Channel.EMAIL: post})
    clock.set(ist(21, 59))
    choose(client, auth_headers(user_id), quiet_hours={"start": "22:00", "end": "07:00"})
    clock.set(ist(21, 59) + timedelta(seconds=55))
    consume(order_updated(user_id=user_id))
    deliver(desk, Channel.EMAIL)
    for _ in range(9 * 60 - 1):
        clock.advance(60)
        deliver(desk, Channel.EMAIL)
        assert len(post.sent) == 1
    clock.set(ist(7, day=24))
    deliver(desk, Channel.EMAIL)
    assert len(post.sent) == 2


def test_what_cannot_wait_goes_out_at_night(
    client: TestClient,
    user_token: Any,
    user_id: UUID,
    clock: FixedClock,
    users: Any,
    desk: Desk,
    post: Post,
    consume: Consume,
) -> None:
    clock.set(ist(23))
    headers = {"Authorization": f"Bearer {user_token(user_id)}"}
    choose(client, headers, quiet_hours={"start": "22:00", "end": "07:00"})
    users.administrators, users.tokens = [user_id], {(token_id := uuid4()): "t" * 40}
    consume(
        PasswordResetRequested(
            user_id=user_id, email="a@example.com", full_name="A", mail_token_id=token_id,
            expires_at=clock.now() + timedelta(hours=1),
        )
    )  # fmt: skip
    consume(BreakOpened(break_id=uuid4(), kind="overfilled", key="b", severity=1, detail="more than ordered"))
    loop.sweep_rows(desk)
    deliver(desk, Channel.EMAIL)
    assert {message.title for message in post.sent} == {
        "Set a new password",
        "Books disagree, trading stops: overfilled",
    }


def test_taking_quiet_hours_back_lets_messages_go(
    client: TestClient, auth_headers: Any, user_id: UUID, clock: FixedClock, desk: Desk, post: Post, consume: Consume,
    order_updated: Make,
) -> None:  # fmt: skip
    clock.set(ist(23))
    headers = auth_headers(user_id)
    choose(client, headers, quiet_hours={"start": "22:00", "end": "07:00"})
    consume(order_updated(user_id=user_id))
    choose(client, headers)
    deliver(desk, Channel.EMAIL)
    assert len(post.sent) == 1


# --- the daily summary ---------------------------------------------------------------------------------------------------------


def test_chosen_kinds_come_once_a_day_together(
    client: TestClient, mine: dict[str, str], user_id: UUID, clock: FixedClock, desk: Desk, post: Post, consume: Consume,
    order_updated: Make,
) -> None:  # fmt: skip
    choose(client, mine, digest={"at": "18:00", "kinds": ["order_filled"]})
    for symbol in ("INFY", "TCS", "ITC"):
        event = order_updated(user_id=user_id, tradingsymbol=symbol)
        consume(event)
        consume(event)
    consume(order_updated(user_id=user_id, status="REJECTED", filled_quantity=0, amount_paise=0))
    loop.sweep_rows(desk)
    deliver(desk, Channel.EMAIL)
    assert [message.title for message in post.sent] == ["Order rejected: buy 10 RELIANCE"]
    assert client.get("/api/v1/notifications/unread-count", headers=mine).json() == {"unread": 4}, "the app has all"

    clock.set(ist(17, 59))
    loop.sweep_rows(desk)
    clock.set(ist(18))
    for _ in range(3):
        loop.sweep_rows(desk)
        deliver(desk, Channel.EMAIL)
    [_, summary] = post.sent
    assert summary.title == "3 messages of 23 Nov 2026"
    for symbol in ("INFY", "TCS", "ITC"):
        assert summary.text.count(f"Bought 10 {symbol}") == 1
    with desk.db.session() as session:
        counted = session.execute(sa.select(Delivery.kind, Delivery.status)).all()
    assert Counter(tuple(row) for row in counted) == {
        ("order_filled", "merged"): 3, ("order_rejected", "sent"): 1, ("digest", "sent"): 1,
    }  # fmt: skip

    consume(order_updated(user_id=user_id, tradingsymbol="SBIN"))
    clock.set(ist(18, day=24))
    loop.sweep_rows(desk)
    deliver(desk, Channel.EMAIL)
    assert post.sent[-1].title == "1 message of 24 Nov 2026"


def test_workers_at_once_make_one_summary(
    client: TestClient,
    mine: dict[str, str],
    user_id: UUID,
    clock: FixedClock,
    db: Database,
    consume: Consume,
    order_updated: Make,
) -> None:
    choose(client, mine, digest={"kinds": ["order_filled"]})
    for _ in range(30):
        consume(order_updated(user_id=user_id))
    clock.set(ist(18))
    made: list[int] = []
    threads = [threading.Thread(target=lambda: made.append(digests.send_due(db, clock.now()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digests.send_due(db, clock.now())
    with db.session() as session:
        summaries = session.scalars(sa.select(Notification).where(Notification.kind == Kind.DIGEST)).all()
        merged = session.scalars(sa.select(Delivery.merged_into).where(Delivery.status == "merged")).all()
    assert sum(one.data["total"] for one in summaries) == len(merged) == 30
    assert {one.notification_id for one in summaries} == set(merged)
    assert len(summaries) == 1
    assert len(made) == 4


def test_a_long_summary_lists_some_and_counts_the_others(
    client: TestClient, mine: dict[str, str], user_id: UUID, clock: FixedClock, desk: Desk, post: Post, consume: Consume,
    order_updated: Make, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(digests, "ITEMS_MAX", 5)
    choose(client, mine, digest={"kinds": ["order_filled"]})
    for _ in range(8):
        consume(order_updated(user_id=user_id))
    clock.set(ist(18))
    loop.sweep_rows(desk)
    deliver(desk, Channel.EMAIL)
    [summary] = post.sent
    assert summary.title == "8 messages of 23 Nov 2026"
    assert "and 3 more in the app" in summary.text


def test_rules_of_kinds_hold_together() -> None:
    assert set(RULES) == set(Kind)
    for kind, rule in RULES.items():
        assert not (rule.at_any_hour and kind in DIGEST_KINDS)
        assert not (rule.fixed and kind in CHOSEN_KINDS)
        if rule.group in ("security", "operations"):
            assert rule.at_any_hour, f"{kind} must not wait"
    assert date(2026, 11, 23).weekday() == 0
