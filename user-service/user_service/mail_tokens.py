"""Single-use tokens that travel by mail: resetting a password, verifying an address.

The event that asks notification-service to write the mail carries the token's id, not the token; that room fetches the
token over its internal route when it sends. So neither the database nor the bus ever holds a usable token.
"""

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from common import outbox
from common.errors import AppError, NotFound
from common.events import EmailVerificationRequested, PasswordResetRequested
from user_service import audit
from user_service.context import Room
from user_service.emails import email_key
from user_service.models import MailToken, User
from user_service.sessions import Origin
from user_service.tokens import token_hash

Purpose = Literal["reset_password", "verify_email"]
LIFETIMES = {"reset_password": timedelta(hours=1), "verify_email": timedelta(hours=24)}
MAILS_PER_HOUR_MAX = 5
SOURCE = "user-service"


class InvalidMailToken(AppError):
    """Unknown, expired, or used before."""

    default_code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("This link is not valid any more; ask for a new one.")


def request_reset(session: Session, room: Room, email: str, origin: Origin) -> str | None:
    """Ask for a reset mail; the same statements run whether or not there is such an account.

    Answers the token for development's answer body; the caller must not show it elsewhere.
    """
    now = room.now()
    user = session.scalars(select(User).where(User.email_key == email_key(email))).one_or_none()
    person = user if user is not None else _nobody(email)
    entitled = person.status == "active" and may_mail(session, person.id, "reset_password", now)
    with session.begin_nested() as attempt:
        row = _issue(session, room, person.id, "reset_password", now)
        event = PasswordResetRequested(
            user_id=person.id,
            email=person.email,
            full_name=person.full_name,
            mail_token_id=row.id,
            expires_at=row.expires_at,
            occurred_at=now,
        )
        outbox.record(session, event, source=SOURCE, aggregate_id=person.id)
        token = room.sealer.mail_token(row.id)
        if user is None or not entitled:
            attempt.rollback()
    audit.record_security_event(
        session,
        kind=audit.PASSWORD_RESET_REQUESTED,
        user_id=user.id if user else None,
        address=origin.address,
        now=now,
    )
    return token if user is not None and entitled else None


def request_verification(session: Session, room: Room, user: User, now: datetime) -> str | None:
    """Ask for a mail that verifies the user's address; None when it is verified or enough mails were sent."""
    if user.email_verified_at is not None or not may_mail(session, user.id, "verify_email", now):
        return None
    row = _issue(session, room, user.id, "verify_email", now)
    event = EmailVerificationRequested(
        user_id=user.id,
        email=user.email,
        full_name=user.full_name,
        mail_token_id=row.id,
        expires_at=row.expires_at,
        occurred_at=now,
    )
    outbox.record(session, event, source=SOURCE, aggregate_id=user.id)
    return room.sealer.mail_token(row.id)


def may_mail(session: Session, user_id: UUID, purpose: Purpose, now: datetime) -> bool:
    """Whether another mail of this kind may be asked for: nobody's inbox is flooded through us."""
    recent = select(func.count()).where(
        MailToken.user_id == user_id, MailToken.purpose == purpose, MailToken.created_at > now - timedelta(hours=1)
    )
    return (session.scalar(recent) or 0) < MAILS_PER_HOUR_MAX


def owner_of(session: Session, token: str, purpose: Purpose, now: datetime) -> User:
    """The user a live token belongs to; raises InvalidMailToken."""
    statement = (
        select(User)
        .join(MailToken, MailToken.user_id == User.id)
        .where(
            MailToken.token_hash == token_hash(token),
            MailToken.purpose == purpose,
            MailToken.used_at.is_(None),
            MailToken.expires_at > now,
            User.status == "active",
        )
    )
    user = session.scalars(statement).one_or_none()
    if user is None:
        raise InvalidMailToken
    return user


def use(session: Session, token: str, purpose: Purpose, now: datetime) -> UUID:
    """Use a token up together with its siblings; answers the user's id; raises InvalidMailToken (also the loser's)."""
    statement = (
        update(MailToken)
        .where(
            MailToken.token_hash == token_hash(token),
            MailToken.purpose == purpose,
            MailToken.used_at.is_(None),
            MailToken.expires_at > now,
        )
        .values(used_at=now)
        .returning(MailToken.user_id)
    )
    user_id = session.scalar(statement)
    if user_id is None:
        raise InvalidMailToken
    siblings = update(MailToken).where(MailToken.user_id == user_id, MailToken.purpose == purpose)
    session.execute(siblings.where(MailToken.used_at.is_(None)).values(used_at=now))
    return user_id


def verify_email(session: Session, token: str, origin: Origin, now: datetime) -> None:
    """Mark the address of the token's owner as verified; raises InvalidMailToken."""
    user_id = use(session, token, "verify_email", now)
    session.get_one(User, user_id).email_verified_at = now
    audit.record_security_event(session, kind=audit.EMAIL_VERIFIED, user_id=user_id, address=origin.address, now=now)


def token_for_mail(session: Session, room: Room, token_id: UUID) -> tuple[MailToken, str]:
    """A live token by its id, for the room that sends the mail; raises NotFound."""
    row = session.get(MailToken, token_id)
    if row is None or row.used_at is not None or row.expires_at <= room.now():
        raise NotFound("There is no live mail token with this id.")
    return row, room.sealer.mail_token(row.id)


def _issue(session: Session, room: Room, user_id: UUID, purpose: Purpose, now: datetime) -> MailToken:
    token_id = uuid4()
    row = MailToken(
        id=token_id,
        user_id=user_id,
        purpose=purpose,
        token_hash=token_hash(room.sealer.mail_token(token_id)),
        created_at=now,
        expires_at=now + LIFETIMES[purpose],
    )
    session.add(row)
    session.flush()
    return row


def _nobody(email: str) -> User:
    # Never added to the session: it gives the decoy's statements something to write.
    return User(id=uuid4(), email=email, full_name="nobody", status="active")
