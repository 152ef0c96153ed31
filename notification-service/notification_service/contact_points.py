"""Contact points: phones, devices and chats of users, sealed at rest, shown masked, used only after a verification.

A code proves that a phone or chat is the user's own; it is derived from the contact point with the sealing key, so neither
the database nor a message on its way holds it. Device tokens and browser subscriptions come from the signed-in app itself.
"""

import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import Conflict, NotFound, TooManyRequests, Unavailable, Unprocessable
from common.sealing import SealBroken, Sealer
from notification_service import addresses
from notification_service.addresses import AddressNotUsable
from notification_service.config import Settings
from notification_service.facts import Fact
from notification_service.kinds import Channel, Kind
from notification_service.models import ContactPoint
from notification_service.preferences import DEFAULTS
from notification_service.telling import queue, write

TABLE, COLUMN = "contact_point", "sealed"
CODE_LIFE = timedelta(minutes=10)
CODE_PAUSE = timedelta(seconds=60)
"""Between two codes for one contact point."""
CODES_MAX = 5
WRONG_CODES_MAX = 5
BY_CODE = frozenset({Channel.SMS, Channel.CHAT})
"""Channels whose addresses are verified by a code sent there."""


class ContactPointNotFound(NotFound):
    """Absent, removed, or somebody else's."""


class ContactPointInvalid(Unprocessable):
    """The address is not one of its channel."""


class ContactPointExists(Conflict):
    """The user has this one already."""


class TooManyContactPoints(Conflict):
    """The user has as many as allowed."""


class CodeWrong(Unprocessable):
    """Not the newest code, or it is too old."""


class CodesExhausted(Conflict):
    """Too many codes were sent or guessed wrongly; remove the contact point and add it again."""


class SealingNotSetUp(Unavailable):
    """This installation has no keys to seal addresses with."""


def needed(sealer: Sealer | None) -> Sealer:
    """The sealer; raises SealingNotSetUp."""
    if sealer is None:
        raise SealingNotSetUp("Contact points are not set up here: the operator has to set NOTIFICATION_SEAL_KEYS.")
    return sealer


def listed(session: Session, user_id: UUID) -> Sequence[ContactPoint]:
    """The user's contact points, oldest first; their number is bounded."""
    statement = sa.select(ContactPoint).where(*_own(user_id)).order_by(ContactPoint.created_at, ContactPoint.contact_id)
    return session.scalars(statement).all()


def _own(user_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return ContactPoint.user_id == user_id, ContactPoint.removed_at.is_(None)


def add(
    session: Session,
    sealer: Sealer,
    settings: Settings,
    *,
    user_id: UUID,
    channel: Channel,
    address: str,
    label: str,
    now: datetime,
) -> ContactPoint:
    """Add one and send its code where it needs one.

    Raises ContactPointInvalid, ContactPointExists, TooManyContactPoints.
    """
    try:
        spelled = addresses.canonical(
            channel,
            address,
            push_hosts=settings.web_push_hosts,
            webhook_hosts=settings.webhook_hosts,
            plain_http=settings.in_development,
        )
    except AddressNotUsable as error:
        raise ContactPointInvalid(f"This address cannot be used: {error}.") from None
    # One user's additions one after the other, so that the limit holds.
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"contacts:{user_id}", 0))))
    present = listed(session, user_id)
    if len(present) >= settings.contact_points_max:
        raise TooManyContactPoints(f"You have {len(present)} contact points, which is the most; remove one first.")
    fingerprint = fingerprint_of(sealer, user_id, channel, spelled)
    if any(one.channel == channel and one.fingerprint == fingerprint for one in present):
        raise ContactPointExists("You have added this address before.")
    contact_id = uuid4()
    point = ContactPoint(
        contact_id=contact_id,
        user_id=user_id,
        channel=channel,
        label=label,
        masked=addresses.masked(channel, spelled),
        sealed=sealer.seal(spelled, table=TABLE, row=str(contact_id), column=COLUMN),
        fingerprint=fingerprint,
        codes=0,
        wrong_codes=0,
        verified_at=None if channel in BY_CODE else now,
        created_at=now,
    )
    session.add(point)
    session.flush()
    if channel in BY_CODE:
        _send_code(session, point, now)
    return point


def send_code(session: Session, user_id: UUID, contact_id: UUID, now: datetime) -> ContactPoint:
    """Send another code. Raises ContactPointNotFound, CodesExhausted, TooManyRequests."""
    point = _locked(session, user_id, contact_id)
    if point.verified_at is not None or Channel(point.channel) not in BY_CODE:
        return point
    if point.codes >= CODES_MAX:
        raise CodesExhausted("Too many codes were sent; remove this contact point and add it again.")
    if point.code_sent_at is not None and now < point.code_sent_at + CODE_PAUSE:
        wait = int((point.code_sent_at + CODE_PAUSE - now).total_seconds()) + 1
        raise TooManyRequests("A code was sent a moment ago; wait for it.", retry_after=wait)
    _send_code(session, point, now)
    return point


def verify(session: Session, sealer: Sealer, user_id: UUID, contact_id: UUID, code: str, now: datetime) -> bool:
    """Whether the code is the newest one; a right one verifies the contact point, a wrong one is counted.

    Raises ContactPointNotFound, CodesExhausted. The caller commits before it answers.
    """
    point = _locked(session, user_id, contact_id)
    if point.verified_at is not None:
        return True
    if point.wrong_codes >= WRONG_CODES_MAX:
        raise CodesExhausted("Too many wrong codes; remove this contact point and add it again.")
    sent_at = point.code_sent_at
    right = code_of(sealer, contact_id, point.codes)
    if sent_at is None or now >= sent_at + CODE_LIFE or not hmac.compare_digest(code.encode(), right.encode()):
        point.wrong_codes += 1
        return False
    point.verified_at = now
    return True


def remove(session: Session, user_id: UUID, contact_id: UUID, now: datetime) -> None:
    """Remove one; its address is forgotten. Raises ContactPointNotFound."""
    point = _locked(session, user_id, contact_id)
    _forget(point, "removed by its user", now)


def retire(session: Session, contact_id: UUID, why: str, now: datetime) -> None:
    """Remove one that its provider does not know any more; nothing when it is gone already."""
    point = session.scalars(
        sa.select(ContactPoint)
        .where(ContactPoint.contact_id == contact_id, ContactPoint.removed_at.is_(None))
        .with_for_update()
    ).one_or_none()
    if point is not None:
        _forget(point, why, now)


def _forget(point: ContactPoint, why: str, now: datetime) -> None:
    point.removed_at, point.removed_why = now, why
    point.sealed = point.fingerprint = ""


def opened(session: Session, sealer: Sealer | None, contact_id: UUID) -> str | None:
    """The address of a live contact point; None when it is gone or cannot be opened."""
    point = session.get(ContactPoint, contact_id)
    if point is None or point.removed_at is not None or sealer is None:
        return None
    try:
        return sealer.open(point.sealed, table=TABLE, row=str(contact_id), column=COLUMN)
    except SealBroken:
        return None


def code_of(sealer: Sealer, contact_id: UUID, number: int) -> str:
    """The six digits of a contact point's code; the same for every attempt to send it."""
    return f"{int(_keyed(sealer, f'code:{contact_id}:{number}')[:12], 16) % 1_000_000:06d}"


def fingerprint_of(sealer: Sealer, user_id: UUID, channel: Channel, address: str) -> str:
    """What tells whether a user has an address already, without telling the address."""
    return _keyed(sealer, f"{user_id}:{channel}:{address}")


def _keyed(sealer: Sealer, text: str) -> str:
    return hmac.digest(sealer.derived(b"notification-service/contact-points"), text.encode(), sha256).hex()


def _send_code(session: Session, point: ContactPoint, now: datetime) -> None:
    point.codes += 1
    point.code_sent_at = now
    fact = Fact(
        f"contact:{point.contact_id}:{point.codes}",
        Kind.CONTACT_VERIFICATION,
        {"contact_id": str(point.contact_id), "number": point.codes, "minutes": int(CODE_LIFE.total_seconds()) // 60},
    )
    notification_id = write(session, point.user_id, fact, occurred_at=now, in_app=False)
    if notification_id is not None:
        place = (Channel(point.channel), point.contact_id)
        queue(session, notification_id, point.user_id, fact.kind, [place], DEFAULTS, now)


def _locked(session: Session, user_id: UUID, contact_id: UUID) -> ContactPoint:
    statement = sa.select(ContactPoint).where(ContactPoint.contact_id == contact_id, *_own(user_id)).with_for_update()
    point = session.scalars(statement).one_or_none()
    if point is None:
        raise ContactPointNotFound("You have no such contact point.")
    return point
