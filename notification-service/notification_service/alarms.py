"""Alarms of the platform: to the operators' chat at once, to every administrator as soon as user-service names them.

Kept as rows when they are heard; told here, outside that transaction, because who is an administrator is user-service's
to know.
"""

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import AppError
from common.logging import get_logger
from notification_service.desk import Desk
from notification_service.facts import Fact
from notification_service.kinds import RULES, Channel, Kind
from notification_service.models import NOBODY, Alarm
from notification_service.preferences import DEFAULTS
from notification_service.telling import queue, tell, write

log = get_logger(__name__)

BATCH = 50
RETRY_AFTER = timedelta(seconds=10)


def tell_due(desk: Desk) -> int:
    """Tell alarms that somebody has not been told of; answers how many were told completely."""
    now = desk.clock.now()
    with desk.db.transaction() as session:
        untold = sa.select(Alarm).where(
            sa.or_(Alarm.admins_told_at.is_(None), Alarm.chat_told_at.is_(None)), Alarm.due_at <= now
        )
        alarms = session.scalars(untold.order_by(Alarm.due_at).limit(BATCH)).all()
    if not alarms:
        return 0
    for alarm in alarms:
        if alarm.chat_told_at is None:
            _tell_chat(desk, alarm)
    try:
        admins = desk.directory.admins()
    except AppError as error:
        log.warning("alarm.admins_unknown", error=error.code, alarms=len(alarms))
        with desk.db.transaction() as session:
            later = sa.update(Alarm).where(Alarm.alarm_id.in_([one.alarm_id for one in alarms]))
            session.execute(later.values(due_at=now + RETRY_AFTER))
        return 0
    for alarm in alarms:
        _tell_admins(desk, alarm, admins)
    return len(alarms)


def _fact(alarm: Alarm, receiver: object) -> Fact:
    return Fact(f"{alarm.cause}:{receiver}", Kind(alarm.kind), alarm.data, alarm.subject)


def _tell_chat(desk: Desk, alarm: Alarm) -> None:
    now = desk.clock.now()
    fact = _fact(alarm, "chat")
    with desk.db.transaction() as session:
        if desk.settings.operators_chat.get_secret_value() and Channel.CHAT in RULES[fact.kind].defaults:
            notification_id = write(session, NOBODY, fact, occurred_at=alarm.occurred_at, in_app=False)
            if notification_id is not None:
                queue(session, notification_id, NOBODY, fact.kind, [(Channel.CHAT, NOBODY)], DEFAULTS, now)
        _mark(session, alarm, chat_told_at=now)


def _tell_admins(desk: Desk, alarm: Alarm, admins: list[UUID]) -> None:
    now = desk.clock.now()
    with desk.db.transaction() as session:
        for user_id in admins:
            tell(session, user_id, _fact(alarm, user_id), occurred_at=alarm.occurred_at, now=now)
        _mark(session, alarm, admins_told_at=now)


def _mark(session: Session, alarm: Alarm, **values: object) -> None:
    session.execute(sa.update(Alarm).where(Alarm.alarm_id == alarm.alarm_id).values(**values))
