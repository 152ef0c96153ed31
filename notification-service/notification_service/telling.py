"""Telling somebody: the notification and its deliveries, written once per cause in the transaction of the message."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.logging import get_logger
from notification_service import preferences
from notification_service.delivery_states import Status
from notification_service.facts import Fact
from notification_service.kinds import RULES, Channel, Kind
from notification_service.models import NOBODY, Alarm, ContactPoint, Delivery, Notification
from notification_service.preferences import Preferences
from notification_service.wording import words_of

log = get_logger(__name__)

LIFE = timedelta(hours=24)
"""How long a message may be on its way, from when it first may go out; older news help nobody."""
Place = tuple[Channel, UUID]
"""A channel and the contact point in it."""


def tell(session: Session, user_id: UUID, fact: Fact, *, occurred_at: datetime, now: datetime) -> bool:
    """Write a notification with its deliveries unless its cause was told before, also when the user has deleted it.

    Answers whether it is new. Raises jinja2.UndefinedError when the fact's data do not fill its template.
    """
    chosen = preferences.of_user(session, user_id)
    notification_id = write(
        session, user_id, fact, occurred_at=occurred_at, in_app=chosen.is_on(fact.kind, Channel.IN_APP)
    )
    if notification_id is None:
        return False
    places = [place for place in _places(session, user_id) if chosen.is_on(fact.kind, place[0])]
    queue(session, notification_id, user_id, fact.kind, places, chosen, now)
    log.info("notification.told", user_id=str(user_id), kind=fact.kind, cause=fact.cause, deliveries=len(places))
    return True


def raise_alarm(session: Session, fact: Fact, *, occurred_at: datetime, now: datetime) -> None:
    """Keep a fact for the operators; who they are is asked later, outside this transaction (`alarms`)."""
    statement = insert(Alarm).values(
        cause=fact.cause, kind=fact.kind, data=fact.data, subject=fact.subject, occurred_at=occurred_at, due_at=now
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=[Alarm.cause]))


def write(session: Session, user_id: UUID, fact: Fact, *, occurred_at: datetime, in_app: bool) -> UUID | None:
    """Write the notification alone; None when its cause was told before."""
    # What is secret (a code, a token) is not in a fact's data, so neither here nor in the app.
    shown = words_of(fact.kind, fact.data) if in_app or not RULES[fact.kind].fixed else None
    statement = (
        insert(Notification)
        .values(
            user_id=user_id,
            cause=fact.cause,
            kind=fact.kind,
            title=shown.title if shown else "",
            text=shown.text if shown else "",
            subject=fact.subject,
            data=fact.data,
            in_app=in_app,
            occurred_at=occurred_at,
        )
        .on_conflict_do_nothing(index_elements=[Notification.cause])
        .returning(Notification.notification_id)
    )
    return session.scalars(statement).one_or_none()


def queue(
    session: Session,
    notification_id: UUID,
    user_id: UUID,
    kind: Kind,
    places: Iterable[Place],
    chosen: Preferences,
    now: datetime,
) -> None:
    """Write the deliveries of a notification, one a place, due when its user's preferences allow."""
    digest = chosen.in_digest(kind)
    due_at = chosen.next_digest(now) if digest else chosen.earliest(kind, now)
    rows: list[dict[str, Any]] = [
        {
            "delivery_id": uuid4(),
            "notification_id": notification_id,
            "user_id": user_id,
            "kind": kind,
            "channel": channel,
            "contact_id": contact_id,
            "provider": provider_of(channel, contact_id),
            "status": Status.QUEUED,
            "digest": digest,
            "due_at": due_at,
            "give_up_at": due_at + LIFE,
            "attempts": 0,
            "tries": 0,
            "unknowns": 0,
            "created_at": now,
        }
        for channel, contact_id in places
    ]
    if rows:
        session.execute(insert(Delivery).values(rows).on_conflict_do_nothing())


def provider_of(channel: Channel, contact_id: UUID) -> str:
    """Whose outage stops a delivery: one provider a channel, but everybody's own server for chats and web push."""
    return f"{channel}:{contact_id}" if channel in (Channel.CHAT, Channel.WEB_PUSH) else channel.value


def _places(session: Session, user_id: UUID) -> list[Place]:
    statement = select(ContactPoint.channel, ContactPoint.contact_id).where(
        ContactPoint.user_id == user_id, ContactPoint.verified_at.is_not(None), ContactPoint.removed_at.is_(None)
    )
    found: list[Place] = [(Channel(row.channel), row.contact_id) for row in session.execute(statement)]
    # The e-mail address is user-service's to know; it is asked for when the mail is written.
    return [(Channel.EMAIL, NOBODY), *found]
