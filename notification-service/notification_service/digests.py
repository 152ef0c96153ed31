"""Daily summaries: messages that their user wants together become one notification, sent where they would have gone."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.clock import to_ist
from common.db import Database
from common.logging import get_logger
from notification_service import preferences
from notification_service.delivery_states import Status, check
from notification_service.facts import Fact
from notification_service.kinds import Channel, Kind
from notification_service.models import Delivery, Notification
from notification_service.telling import Place, queue, write

log = get_logger(__name__)

ITEMS_MAX = 50
"""How many messages a summary lists; the others are counted."""
ROWS_MAX = 1_000
"""How many deliveries one summary takes in; what is left makes another one."""
USERS_PER_ROUND = 100


def send_due(db: Database, now: datetime) -> int:
    """Make the summaries that are due, each user's in a transaction of its own; answers how many."""
    with db.session() as session:
        users = _users(session, now)
    made = 0
    for user_id in users:
        with db.transaction() as session:
            made += _summarise(session, user_id, now)
    return made


def _users(session: Session, now: datetime) -> Sequence[UUID]:
    return session.scalars(
        sa.select(Delivery.user_id)
        .where(Delivery.status == Status.QUEUED, Delivery.digest, Delivery.due_at <= now)
        .group_by(Delivery.user_id)
        .order_by(sa.func.min(Delivery.due_at))
        .limit(USERS_PER_ROUND)
    ).all()


def _summarise(session: Session, user_id: UUID, now: datetime) -> int:
    # One worker a user. No row is locked before this lock is held, so workers never wait for each other in a circle.
    alone = sa.select(sa.func.pg_try_advisory_xact_lock(sa.func.hashtextextended(f"digest:{user_id}", 0)))
    if not session.scalar(alone):
        return 0
    rows = session.scalars(
        sa.select(Delivery)
        .where(Delivery.user_id == user_id, Delivery.status == Status.QUEUED, Delivery.digest, Delivery.due_at <= now)
        .order_by(Delivery.created_at, Delivery.delivery_id)
        .limit(ROWS_MAX)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if not rows:
        return 0
    by_contents: dict[tuple[UUID, ...], list[Place]] = defaultdict(list)
    by_place: dict[Place, list[Delivery]] = defaultdict(list)
    for row in rows:
        by_place[Channel(row.channel), row.contact_id].append(row)
    for place, held in by_place.items():
        by_contents[tuple(row.notification_id for row in held)].append(place)
    # Channels that were to get the same messages share a summary.
    for notification_ids, places in by_contents.items():
        summary = _write(session, user_id, notification_ids, now)
        queue(session, summary, user_id, Kind.DIGEST, places, preferences.of_user(session, user_id), now)
        for place in places:
            for row in by_place[place]:
                check(Status(row.status), Status.MERGED)
                row.status, row.merged_into, row.ended_at = Status.MERGED, summary, now
    log.info("digest.made", user_id=str(user_id), messages=len(rows), summaries=len(by_contents))
    return len(by_contents)


def _write(session: Session, user_id: UUID, notification_ids: tuple[UUID, ...], now: datetime) -> UUID:
    told = {
        one.notification_id: one
        for one in session.scalars(
            sa.select(Notification).where(Notification.notification_id.in_(notification_ids[:ITEMS_MAX]))
        )
    }
    items = [{"title": told[key].title, "text": told[key].text} for key in notification_ids[:ITEMS_MAX]]
    data = {"day": to_ist(now).strftime("%d %b %Y"), "total": len(notification_ids), "items": items}
    # The first message names the summary: it is in no other one.
    fact = Fact(f"digest:{notification_ids[0]}:{len(notification_ids)}:{now.isoformat()}", Kind.DIGEST, data)
    summary = write(session, user_id, fact, occurred_at=now, in_app=False)
    if summary is None:
        raise AssertionError("unreachable: the messages of a summary are locked and in no other one")
    return summary
