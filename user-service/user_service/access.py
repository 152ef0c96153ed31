"""Who is calling this room: a valid token whose session is still live, with the roles the account has now.

Other rooms believe a token until it expires; here the database is at hand, so a revoked session ends at once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy import select

from common.auth import AdminUser, CurrentUser, MfaRequired, current_user
from common.errors import Forbidden
from user_service.context import Room
from user_service.models import AuthSession, User
from user_service.sessions import Origin, SessionRevoked

ADDRESS_LENGTH_MAX = 64


@dataclass(frozen=True)
class SignedIn:
    """The caller, read from the database."""

    user_id: UUID
    session_id: UUID
    email: str
    roles: frozenset[str]
    mfa: bool
    authenticated_at: datetime


async def get_room(request: Request) -> Room:
    """Dependency: the collaborators of this room."""
    room: Room = request.app.state.room
    return room


RoomDep = Annotated[Room, Depends(get_room)]


async def get_origin(request: Request, room: RoomDep) -> Origin:
    """Dependency: address and client of the request; believes as many proxies as the settings name."""
    address = request.client.host if request.client else "unknown"
    hops = room.settings.proxy_hops
    if hops:
        header = ",".join(request.headers.getlist("x-forwarded-for"))
        forwarded = [part.strip() for part in header.split(",") if part.strip()]
        # Each proxy of ours appends the address it saw; what stands further left was written by the client.
        if forwarded:
            address = forwarded[-min(hops, len(forwarded))]
    return Origin(address[:ADDRESS_LENGTH_MAX], request.headers.get("user-agent", ""))


OriginDep = Annotated[Origin, Depends(get_origin)]


def signed_in_or_enrolling(room: RoomDep, claims: Annotated[CurrentUser, Depends(current_user)]) -> SignedIn:
    """Dependency: a live session, also of an administrator who has yet to set up the second factor."""
    statement = (
        select(User.email, User.roles, AuthSession.mfa, AuthSession.authenticated_at)
        .join(AuthSession, AuthSession.user_id == User.id)
        .where(
            AuthSession.id == claims.session_id,
            User.id == claims.user_id,
            User.status == "active",
            AuthSession.revoked_at.is_(None),
            AuthSession.expires_at > room.now(),
        )
    )
    # A transaction of its own: endpoints that check passwords must not hold a connection meanwhile.
    with room.db.transaction() as session:
        row = session.execute(statement).one_or_none()
    if row is None:
        raise SessionRevoked
    return SignedIn(
        user_id=claims.user_id,
        session_id=claims.session_id,
        email=row.email,
        roles=frozenset(row.roles),
        mfa=row.mfa,
        authenticated_at=row.authenticated_at,
    )


Enrolling = Annotated[SignedIn, Depends(signed_in_or_enrolling)]


async def signed_in(room: RoomDep, caller: Enrolling) -> SignedIn:
    """Dependency: a live session that may act; raises MfaRequired for one that must set up its second factor first."""
    if room.must_enrol(caller.roles, caller.mfa):
        raise MfaRequired("Set up your second factor first: POST /api/v1/auth/totp/setup.")
    return caller


Member = Annotated[SignedIn, Depends(signed_in)]


async def signed_in_admin(caller: Member, _: AdminUser) -> SignedIn:
    """Dependency: an administrator, by the token and by the account as it is now."""
    if "admin" not in caller.roles:
        raise Forbidden("This needs the role admin.")
    return caller


Admin = Annotated[SignedIn, Depends(signed_in_admin)]
