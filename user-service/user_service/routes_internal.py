"""What other rooms ask: published keys, live sessions, tokens for mails, addresses. The gateway never routes /internal."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from common.auth import require_service
from common.db import SessionDep
from user_service import administration, contacts, mail_tokens, sessions
from user_service.access import RoomDep
from user_service.account_states import ROLES
from user_service.schemas import ContactsAnswer, HoldersAnswer, MailTokenAnswer, SessionAnswer, StandingAnswer

router = APIRouter()

JWKS_MAX_AGE_S = 300


@router.get("/.well-known/jwks.json", tags=["auth"])
def jwks(room: RoomDep, response: Response) -> dict[str, Any]:
    """The public keys of access tokens (RFC 7517)."""
    response.headers["Cache-Control"] = f"public, max-age={JWKS_MAX_AGE_S}"
    return room.keys.jwks()


@router.get("/internal/v1/sessions/{session_id}", include_in_schema=False)
def session_state(
    session_id: UUID, _: Annotated[str, Depends(require_service("api-gateway"))], session: SessionDep, room: RoomDep
) -> SessionAnswer:
    """Whether a session is live, with roles, KYC and status as they are now; inactive also when there is none."""
    return SessionAnswer.model_validate(sessions.state_of(session, session_id, room.now()), from_attributes=True)


@router.get("/internal/v1/mail-tokens/{token_id}", include_in_schema=False)
def mail_token(
    token_id: UUID,
    _: Annotated[str, Depends(require_service("notification-service"))],
    session: SessionDep,
    room: RoomDep,
    response: Response,
) -> MailTokenAnswer:
    """The token that a PasswordResetRequested or EmailVerificationRequested event names; 404 once it is used."""
    response.headers["Cache-Control"] = "no-store"
    row, token = mail_tokens.token_for_mail(session, room, token_id)
    return MailTokenAnswer.model_validate({"token": token, "purpose": row.purpose, "expires_at": row.expires_at})


@router.get("/internal/v1/standing/{user_id}", include_in_schema=False)
def standing_of(
    user_id: UUID,
    _: Annotated[str, Depends(require_service("portfolio-service", "smallcase-service"))],
    session: SessionDep,
    response: Response,
) -> StandingAnswer:
    """Whether an account may trade, for those who act for its user; 404 when there is none."""
    response.headers["Cache-Control"] = "no-store"
    user, _record = administration.get_user(session, user_id)
    return StandingAnswer(status=user.status, kyc=user.kyc_status)


@router.get("/internal/v1/contacts", include_in_schema=False)
def contacts_of(
    user_id: Annotated[list[UUID], Query(min_length=1, max_length=contacts.CONTACTS_MAX)],
    _: Annotated[str, Depends(require_service("notification-service"))],
    session: SessionDep,
    response: Response,
) -> ContactsAnswer:
    """Addresses of users; those without an active account are absent."""
    response.headers["Cache-Control"] = "no-store"
    return ContactsAnswer.of(contacts.of_users(session, user_id))


@router.get("/internal/v1/role-holders", include_in_schema=False)
def role_holders(
    role: Annotated[str, Query(pattern=f"^({'|'.join(ROLES)})$")],
    _: Annotated[str, Depends(require_service("notification-service"))],
    session: SessionDep,
) -> HoldersAnswer:
    """Who holds a role now: whom an alarm of the platform is for."""
    return HoldersAnswer(user_ids=list(contacts.holders(session, role)))
