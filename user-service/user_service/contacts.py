"""Where users can be reached and who holds a role: what the room that tells people things asks for."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from user_service.models import User

CONTACTS_MAX = 100
HOLDERS_MAX = 200
"""More people than this are not told of one alarm; an installation has a handful of administrators."""


def of_users(session: Session, user_ids: Sequence[UUID]) -> Sequence[User]:
    """The active accounts among these ids; unknown, suspended and closed ones are absent."""
    return session.scalars(select(User).where(User.id.in_(user_ids), User.status == "active")).all()


def holders(session: Session, role: str) -> Sequence[UUID]:
    """Active accounts with a role, the oldest first."""
    statement = select(User.id).where(User.roles.contains([role]), User.status == "active")
    return session.scalars(statement.order_by(User.created_at, User.id).limit(HOLDERS_MAX)).all()
