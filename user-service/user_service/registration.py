"""New accounts."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common import outbox
from common.errors import Conflict
from common.events import UserRegistered
from user_service import mail_tokens
from user_service.context import Room
from user_service.emails import email_key
from user_service.models import User
from user_service.passwords import check_new_password

SOURCE = "user-service"


class EmailTaken(Conflict):
    """There is an account with this address."""

    def __init__(self) -> None:
        super().__init__("There is an account with this e-mail address already; sign in or reset its password.")


def register(room: Room, *, email: str, password: str, full_name: str, phone: str | None) -> User:
    """Create an account of role `user`; raises WeakPassword, LoginBusy, EmailTaken."""
    check_new_password(password, email=email)
    password_hash = room.hashing.hash(password)
    now = room.now()
    with room.db.transaction() as session:
        user = add_user(
            session,
            email=email,
            password_hash=password_hash,
            full_name=full_name,
            phone=phone,
            roles=("user",),
            now=now,
        )
        mail_tokens.request_verification(session, room, user, now)
    return user


def add_user(
    session: Session,
    *,
    email: str,
    password_hash: str,
    full_name: str,
    phone: str | None,
    roles: tuple[str, ...],
    now: datetime,
    verified_at: datetime | None = None,
) -> User:
    """Write the account and its UserRegistered event; the unique key decides races; raises EmailTaken."""
    user_id: UUID = uuid4()
    statement = (
        insert(User)
        .values(
            id=user_id,
            email=email,
            email_key=email_key(email),
            full_name=full_name,
            phone=phone,
            password_hash=password_hash,
            roles=list(roles),
            status="active",
            kyc_status="none",
            email_verified_at=verified_at,
            login_count=0,
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing(index_elements=["email_key"])
    )
    user = session.scalars(statement.returning(User)).one_or_none()
    if user is None:
        raise EmailTaken
    event = UserRegistered(user_id=user_id, email=email, full_name=full_name, occurred_at=now)
    outbox.record(session, event, source=SOURCE, aggregate_id=user_id)
    return user
