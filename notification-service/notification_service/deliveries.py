"""Deliveries as rows: who may send which one now, and what became of it. No provider is called here.

A claim commits before the call and an outcome after it. A worker that dies between them leaves one attempt whose outcome
nobody knows: when its lease is over the delivery is tried once more (at least once at the provider's edge), and given up
when that outcome stays unknown too.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.logging import get_logger
from notification_service import circuits, contact_points, preferences
from notification_service.config import Settings
from notification_service.delivery_states import Status, check, sources_of
from notification_service.kinds import Channel, Kind
from notification_service.models import Circuit, Delivery, DeliveryAttempt, Notification
from notification_service.providers.base import (
    Busy,
    NotSendable,
    OutcomeUnknown,
    ProviderFailure,
    Refused,
    Unreachable,
)
from notification_service.retrying import UNKNOWN_MAX

log = get_logger(__name__)

DEFERRED_MAX = 200
"""How many deliveries one claim may put off to the end of their users' quiet hours."""
EXPIRED_BATCH = 200
UNKNOWN = "unknown"
OUTCOMES: dict[type[ProviderFailure], str] = {
    Refused: "refused",
    NotSendable: "refused",
    Busy: "busy",
    Unreachable: "unreachable",
    OutcomeUnknown: UNKNOWN,
}


@dataclass(frozen=True)
class Claim:
    """One delivery that its holder alone may send until its lease is over."""

    delivery_id: UUID
    number: int
    """Of this attempt."""
    notification_id: UUID
    user_id: UUID
    kind: Kind
    channel: Channel
    contact_id: UUID
    provider: str
    data: dict[str, Any]
    subject: dict[str, str]


def claim(session: Session, channel: Channel, settings: Settings, now: datetime) -> Claim | None:
    """Take the delivery of a channel that waits longest and may go out now; None when there is none."""
    resting = sa.select(Circuit.provider).where(Circuit.open_until > now)
    statement = (
        sa.select(Delivery)
        .where(
            Delivery.channel == channel,
            Delivery.status == Status.QUEUED,
            ~Delivery.digest,
            Delivery.due_at <= now,
            Delivery.provider.not_in(resting),
            # What a later release has queued waits for it, and keeps nothing behind it waiting.
            Delivery.kind.in_(tuple(Kind)),
        )
        .order_by(Delivery.due_at)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    for _ in range(DEFERRED_MAX):
        row = session.scalars(statement).one_or_none()
        if row is None:
            return None
        if row.give_up_at <= now:
            _end(row, Status.GAVE_UP, now, code=row.error_code or "too_old")
        elif (earliest := preferences.of_user(session, row.user_id).earliest(Kind(row.kind), now)) > now:
            row.due_at = earliest
            row.give_up_at = max(row.give_up_at, earliest + timedelta(seconds=settings.retry_max_seconds))
        elif not circuits.may_ask(session, row.provider, settings, now):
            # Somebody else is asking that provider; its rows are left out from the next claim on.
            return None
        else:
            return _claimed(session, row, settings, now)
        session.flush()
    return None


def _claimed(session: Session, row: Delivery, settings: Settings, now: datetime) -> Claim:
    check(Status(row.status), Status.SENDING)
    row.status = Status.SENDING
    row.lease_until = now + timedelta(seconds=settings.lease_seconds)
    row.attempts += 1
    session.add(DeliveryAttempt(delivery_id=row.delivery_id, number=row.attempts, started_at=now))
    told = session.get_one(Notification, row.notification_id)
    return Claim(
        row.delivery_id,
        row.attempts,
        row.notification_id,
        row.user_id,
        Kind(row.kind),
        Channel(row.channel),
        row.contact_id,
        row.provider,
        told.data,
        told.subject,
    )


def record_sent(session: Session, claim: Claim, provider_id: str | None, now: datetime) -> None:
    """The provider has taken it, also when the answer came after the lease."""
    _end_attempt(session, claim, now, "sent", provider_id=provider_id)
    circuits.answered(session, claim.provider, now)
    row = _locked(session, claim.delivery_id)
    # A callback may have been quicker; a later attempt may be under way and is not ours to end.
    if row.attempts != claim.number or row.status in (Status.SENT, Status.DELIVERED, Status.FAILED):
        return
    _end(row, Status.SENT, now, provider_id=provider_id)


def record_failed(session: Session, claim: Claim, failure: ProviderFailure, settings: Settings, now: datetime) -> None:
    """The call did not succeed: for good, for now, or nobody knows."""
    outcome = OUTCOMES[type(failure)]
    _end_attempt(session, claim, now, outcome, code=failure.code, error=failure.detail)
    resting = False
    if isinstance(failure, NotSendable):
        circuits.not_asked(session, claim.provider, now)
    elif isinstance(failure, Refused):
        # It answered: the provider works, the message or the address does not.
        circuits.answered(session, claim.provider, now)
        if failure.gone and claim.channel is not Channel.EMAIL:
            contact_points.retire(session, claim.contact_id, failure.code, now)
    else:
        resting = circuits.failed(session, claim.provider, failure.code, settings, now)
    row = _locked(session, claim.delivery_id)
    if row.attempts != claim.number or row.status != Status.SENDING:
        return
    row.error_code, row.error = failure.code, failure.detail
    if isinstance(failure, Refused):
        _end(row, Status.FAILED, now, code=failure.code)
        return
    # What fails while the provider takes nothing from anybody is no fault of this message.
    row.tries += not resting
    row.unknowns += outcome == UNKNOWN
    _again_or_never(session, row, settings, now)


def _again_or_never(session: Session, row: Delivery, settings: Settings, now: datetime) -> None:
    pause = settings.retries.after(max(row.tries, 1), random.random())  # noqa: S311  jitter, not a secret
    earliest = preferences.of_user(session, row.user_id).earliest(Kind(row.kind), now + pause)
    if row.unknowns > UNKNOWN_MAX:
        _end(row, Status.GAVE_UP, now, code="outcome_unknown")
    elif row.tries >= settings.tries_max or earliest >= row.give_up_at:
        _end(row, Status.GAVE_UP, now, code=row.error_code)
    else:
        check(Status(row.status), Status.QUEUED)
        row.status, row.lease_until, row.due_at = Status.QUEUED, None, earliest


def expire_leases(session: Session, settings: Settings, now: datetime) -> int:
    """Take deliveries back from workers that have said nothing within their lease; answers how many."""
    statement = (
        sa.select(Delivery)
        .where(Delivery.status == Status.SENDING, Delivery.lease_until <= now)
        .order_by(Delivery.lease_until)
        .limit(EXPIRED_BATCH)
        .with_for_update(skip_locked=True)
    )
    rows = session.scalars(statement).all()
    for row in rows:
        log.warning("delivery.worker_lost", delivery_id=str(row.delivery_id), channel=row.channel, number=row.attempts)
        session.execute(
            _attempt(row.delivery_id, row.attempts)
            .where(DeliveryAttempt.ended_at.is_(None))
            .values(ended_at=now, outcome=UNKNOWN, error_code="worker_lost")
        )
        row.error_code, row.error = "worker_lost", None
        row.tries += 1
        row.unknowns += 1
        _again_or_never(session, row, settings, now)
    return len(rows)


def reported(
    session: Session, delivery_id: UUID, provider_id: str, target: Status, now: datetime, *, code: str | None = None
) -> bool:
    """A provider tells what became of a message of a delivery; answers whether that is news.

    Reports may repeat, overtake each other, and come before our own call has returned.
    """
    row = session.scalars(
        sa.select(Delivery).where(Delivery.delivery_id == delivery_id).with_for_update()
    ).one_or_none()
    if row is None or row.status not in sources_of(target):
        return False
    if row.provider_id not in (None, provider_id):
        # Of another attempt: one that has arrived counts, whatever became of the others.
        if target is not Status.DELIVERED:
            return False
        log.warning("delivery.told_twice_perhaps", delivery_id=str(delivery_id))
    _end(row, target, now, code=code, provider_id=provider_id)
    return True


def retry(row: Delivery, now: datetime, life: timedelta) -> None:
    """Queue a delivery again that has failed or was given up, as if it were new. Raises IllegalMove."""
    check(Status(row.status), Status.QUEUED)
    row.status, row.due_at, row.give_up_at = Status.QUEUED, now, now + life
    row.tries = row.unknowns = 0
    row.error_code = row.error = row.ended_at = None


def _end(
    row: Delivery, target: Status, now: datetime, *, code: str | None = None, provider_id: str | None = None
) -> None:
    check(Status(row.status), target)
    row.status, row.lease_until = target, None
    row.provider_id = provider_id or row.provider_id
    if target in (Status.SENT, Status.DELIVERED):
        row.sent_at = row.sent_at or now
        row.error_code = row.error = None
    else:
        row.error_code = code or row.error_code
    row.ended_at = now


def _locked(session: Session, delivery_id: UUID) -> Delivery:
    return session.scalars(
        sa.select(Delivery)
        .where(Delivery.delivery_id == delivery_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def _attempt(delivery_id: UUID, number: int) -> sa.Update:
    return sa.update(DeliveryAttempt).where(
        DeliveryAttempt.delivery_id == delivery_id, DeliveryAttempt.number == number
    )


def _end_attempt(
    session: Session,
    claim: Claim,
    now: datetime,
    outcome: str,
    *,
    provider_id: str | None = None,
    code: str | None = None,
    error: str | None = None,
) -> None:
    values = {"ended_at": now, "outcome": outcome, "provider_id": provider_id, "error_code": code, "error": error}
    session.execute(_attempt(claim.delivery_id, claim.number).values(**values))
