"""Administrators are made here and nowhere else: there is no default account and no default password."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from common.clock import Clock, SystemClock
from common.db import Database
from common.errors import NotFound
from user_service import audit, two_factor
from user_service.account_states import ROLES
from user_service.emails import email_key, parse_email
from user_service.hashing import password_context
from user_service.models import User
from user_service.passwords import check_new_password, prepare
from user_service.registration import add_user
from user_service.sessions import revoke_sessions

GENERATED_PASSWORD_BYTES = 18
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class CreatedAdmin:
    """The new account; `password` is set only when it was generated, and is shown once."""

    user_id: UUID
    email: str
    password: str | None


def create_admin(
    db: Database,
    email: str,
    password: str | None = None,
    roles: Sequence[str] = ("admin",),
    *,
    clock: Clock | None = None,
) -> CreatedAdmin:
    """Create an account with roles above `user`; a password is generated unless one is given.

    Raises ValueError (address, role), WeakPassword, EmailTaken. Outside development its first sign-in can do nothing
    but set up the second factor.
    """
    if unknown := set(roles) - set(ROLES):
        raise ValueError(f"unknown role: {', '.join(sorted(unknown))}; known: {', '.join(ROLES)}")
    address = parse_email(email)
    generated = secrets.token_urlsafe(GENERATED_PASSWORD_BYTES) if password is None else None
    chosen = generated or password or ""
    check_new_password(chosen, email=address)
    now = (clock or SystemClock()).now()
    with db.transaction() as session:
        user = add_user(
            session,
            email=address,
            password_hash=str(password_context().hash(prepare(chosen))),
            full_name=address.partition("@")[0],
            phone=None,
            roles=tuple(sorted({"user", *roles})),
            now=now,
            verified_at=now,
        )
        audit.record_admin_action(
            session,
            actor_id=None,
            action="admin_created",
            target=user.id,
            address=COMMAND_LINE,
            now=now,
            roles=sorted(user.roles),
        )
    return CreatedAdmin(user.id, address, generated)


def reset_totp(db: Database, email: str, *, clock: Clock | None = None) -> UUID:
    """Take away a lost second factor and end all sessions; raises NotFound. For operators who know the person."""
    now = (clock or SystemClock()).now()
    with db.transaction() as session:
        user = session.scalars(
            select(User).where(User.email_key == email_key(parse_email(email))).with_for_update()
        ).one_or_none()
        if user is None:
            raise NotFound("There is no user with this e-mail address.")
        two_factor.remove_factor(session, user.id)
        revoke_sessions(session, user.id, reason="totp_reset", now=now)
        audit.record_admin_action(
            session, actor_id=None, action="totp_reset", target=user.id, address=COMMAND_LINE, now=now
        )
    return user.id
