"""Telling people: notifications and their deliveries, written once per cause in the transaction of the message.

However many are told at once, everything is read and written by one statement a table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.bulk import array_of, given, insertion
from common.logging import bound, get_logger
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

_NOTIFICATIONS = cast(sa.Table, Notification.__table__)
_DELIVERIES = cast(sa.Table, Delivery.__table__)


@dataclass(frozen=True)
class News:
    """A fact for one person."""

    user_id: UUID
    fact: Fact
    occurred_at: datetime
    now: datetime
    """When it is told: a daily summary lists what has waited for it in this order."""
    correlation_id: str | None = None
    """What its log line names; None leaves what is bound."""


def tell(session: Session, user_id: UUID, fact: Fact, *, occurred_at: datetime, now: datetime) -> bool:
    """Tell one person one fact, as `tell_all` does; answers whether it is new."""
    return tell_all(session, [News(user_id, fact, occurred_at, now)]) == 1


def tell_all(session: Session, news: Sequence[News]) -> int:
    """Write notifications with their deliveries, but none whose cause was told before, also when its user has deleted it.

    The first of several with one cause counts. Answers how many are new. Raises jinja2.UndefinedError when a fact's data
    do not fill its template; then nothing is written.
    """
    chosen = preferences.of_users(session, {one.user_id for one in news})
    rows = [
        _notification(
            one.user_id,
            one.fact,
            occurred_at=one.occurred_at,
            in_app=chosen[one.user_id].is_on(one.fact.kind, Channel.IN_APP),
        )
        for one in news
    ]
    ids = _write(session, rows)
    new = [(one, row["notification_id"]) for one, row in zip(news, rows, strict=True) if row["notification_id"] in ids]
    places = _places(session, {one.user_id for one, _ in new})
    told = [
        (one, notification_id, [to for to in places[one.user_id] if chosen[one.user_id].is_on(one.fact.kind, to[0])])
        for one, notification_id in new
    ]
    deliveries: list[dict[str, Any]] = []
    for one, notification_id, to in told:
        deliveries += _deliveries(notification_id, one.user_id, one.fact.kind, to, chosen[one.user_id], one.now)
    _queue(session, deliveries)
    for one, _, to in told:
        with bound(correlation_id=one.correlation_id):
            log.info(
                "notification.told",
                user_id=str(one.user_id),
                kind=one.fact.kind,
                cause=one.fact.cause,
                deliveries=len(to),
            )
    return len(told)


def raise_alarm(session: Session, fact: Fact, *, occurred_at: datetime, now: datetime) -> None:
    """Keep a fact for the operators; who they are is asked later, outside this transaction (`alarms`)."""
    statement = insert(Alarm).values(
        cause=fact.cause, kind=fact.kind, data=fact.data, subject=fact.subject, occurred_at=occurred_at, due_at=now
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=[Alarm.cause]))


def write(session: Session, user_id: UUID, fact: Fact, *, occurred_at: datetime, in_app: bool) -> UUID | None:
    """Write a notification alone; None when its cause was told before."""
    row = _notification(user_id, fact, occurred_at=occurred_at, in_app=in_app)
    return next(iter(_write(session, [row])), None)


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
    _queue(session, _deliveries(notification_id, user_id, kind, places, chosen, now))


def provider_of(channel: Channel, contact_id: UUID) -> str:
    """Whose outage stops a delivery: one provider a channel, but everybody's own server for chats and web push."""
    return f"{channel}:{contact_id}" if channel in (Channel.CHAT, Channel.WEB_PUSH) else channel.value


def _notification(user_id: UUID, fact: Fact, *, occurred_at: datetime, in_app: bool) -> dict[str, Any]:
    # What is secret (a code, a token) is not in a fact's data, so neither here nor in the app.
    shown = words_of(fact.kind, fact.data) if in_app or not RULES[fact.kind].fixed else None
    return {
        "notification_id": uuid4(),
        "user_id": user_id,
        "cause": fact.cause,
        "kind": fact.kind,
        "title": shown.title if shown else "",
        "text": shown.text if shown else "",
        "subject": fact.subject,
        "data": fact.data,
        "in_app": in_app,
        "occurred_at": occurred_at,
    }


def _deliveries(
    notification_id: UUID, user_id: UUID, kind: Kind, places: Iterable[Place], chosen: Preferences, now: datetime
) -> list[dict[str, Any]]:
    digest = chosen.in_digest(kind)
    due_at = chosen.next_digest(now) if digest else chosen.earliest(kind, now)
    return [
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


def _write(session: Session, rows: Sequence[Mapping[str, Any]]) -> set[UUID]:
    """Write notifications; answers the ids of those whose cause was not told before, by an earlier row neither."""
    if not rows:
        return set()
    statement = insertion(_NOTIFICATIONS, tuple(rows[0])).on_conflict_do_nothing(index_elements=["cause"])
    return set(session.scalars(statement.returning(_NOTIFICATIONS.c.notification_id), given(rows)))


def _queue(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        session.execute(insertion(_DELIVERIES, tuple(rows[0])).on_conflict_do_nothing(), given(rows))


def _places(session: Session, user_ids: Iterable[UUID]) -> Mapping[UUID, Sequence[Place]]:
    """Where each of the users can be reached."""
    # The e-mail address is user-service's to know; it is asked for when the mail is written.
    places: dict[UUID, list[Place]] = {user_id: [(Channel.EMAIL, NOBODY)] for user_id in user_ids}
    if places:
        statement = sa.select(ContactPoint.user_id, ContactPoint.channel, ContactPoint.contact_id).where(
            ContactPoint.user_id == sa.any_(array_of(places)),
            ContactPoint.verified_at.is_not(None),
            ContactPoint.removed_at.is_(None),
        )
        for row in session.execute(statement):
            places[row.user_id].append((Channel(row.channel), row.contact_id))
    return places
