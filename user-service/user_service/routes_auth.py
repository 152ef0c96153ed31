"""Signing up, in and out: /auth."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response, status

from common.auth import CurrentUser, current_user
from common.db import SessionDep
from common.errors import Unauthorized
from user_service import audit, registration, sessions, two_factor
from user_service.access import Enrolling, OriginDep, RoomDep
from user_service.login import Credentials, login
from user_service.login_form import openapi_body, read_credentials
from user_service.models import User
from user_service.schemas import (
    MeAnswer,
    RefreshBody,
    RegisterBody,
    TokenAnswer,
    TokenBody,
    TokenValidityAnswer,
    UserAnswer,
    user_fields,
)
from user_service.tokens import TokenPair

router = APIRouter(prefix="/api/v1", tags=["auth"])

Claims = Annotated[CurrentUser, Depends(current_user)]


def _token_answer(pair: TokenPair, response: Response) -> TokenAnswer:
    response.headers["Cache-Control"] = "no-store"
    return TokenAnswer(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        token_type="Bearer",  # noqa: S106  the scheme's name
        expires_in=pair.expires_in,
        totp_setup_required=pair.totp_setup_required,
    )


@router.post("/auth/register", status_code=status.HTTP_201_CREATED)
@router.post("/users/register", status_code=status.HTTP_201_CREATED, include_in_schema=False)
def register(body: RegisterBody, room: RoomDep) -> UserAnswer:
    """Create an account. 409 `email_taken`, 422 `weak_password`, 503 `login_busy`."""
    user = registration.register(
        room,
        email=body.email,
        password=body.password.get_secret_value(),
        full_name=body.full_name,
        phone=body.phone,
    )
    return UserAnswer.of(user)


@router.post("/auth/login", openapi_extra=openapi_body())
def sign_in(
    credentials: Annotated[Credentials, Depends(read_credentials)], room: RoomDep, origin: OriginDep, response: Response
) -> TokenAnswer:
    """Open a session. 401 `invalid_credentials`, `totp_required`, `invalid_totp`; 429 `too_many_attempts`."""
    return _token_answer(login(room, credentials, origin), response)


@router.post("/auth/refresh")
def refresh(body: RefreshBody, room: RoomDep, origin: OriginDep, response: Response) -> TokenAnswer:
    """Exchange a refresh token, once. 401 `refresh_token_reused` ends the whole session."""
    with room.db.transaction() as session:
        outcome = sessions.rotate(
            session,
            body.refresh_token.get_secret_value(),
            origin=origin,
            now=room.now(),
            lifetime=room.refresh_lifetime,
        )
    # Raised after the transaction: the revocation that comes with a refusal has to be committed.
    if isinstance(outcome, Unauthorized):
        raise outcome
    return _token_answer(room.token_pair(outcome), response)


@router.post("/auth/logout", status_code=status.HTTP_204_NO_CONTENT)
def logout(claims: Claims, session: SessionDep, room: RoomDep) -> None:
    """End this session; doing it again changes nothing."""
    sessions.revoke_session(session, claims.session_id, reason="logout", now=room.now())


@router.post("/auth/logout-all", status_code=status.HTTP_204_NO_CONTENT)
def logout_all(caller: Enrolling, session: SessionDep, room: RoomDep, origin: OriginDep) -> None:
    """End all sessions of the caller, this one too."""
    now = room.now()
    count = sessions.revoke_sessions(session, caller.user_id, reason="logout_all", now=now)
    audit.record_security_event(
        session, kind=audit.SESSIONS_REVOKED, user_id=caller.user_id, address=origin.address, now=now, count=count
    )


@router.get("/auth/me")
def me(caller: Enrolling, session: SessionDep, room: RoomDep) -> MeAnswer:
    """The caller's account and this session."""
    return MeAnswer(
        **user_fields(session.get_one(User, caller.user_id)),
        session_id=caller.session_id,
        mfa=caller.mfa,
        totp_enabled=two_factor.is_enabled(session, caller.user_id),
        totp_setup_required=room.must_enrol(caller.roles, caller.mfa),
    )


@router.post("/auth/validate-token")
@router.post("/users/validate-token", include_in_schema=False)
def validate_token(body: TokenBody, session: SessionDep, room: RoomDep) -> TokenValidityAnswer:
    """Whether an access token is good and its session live; no reason is given when it is not."""
    try:
        claims = room.access_tokens.verify(body.token.get_secret_value())
    except Unauthorized:
        return TokenValidityAnswer(valid=False)
    state = sessions.state_of(session, claims.session_id, room.now())
    if not state.active:
        return TokenValidityAnswer(valid=False)
    return TokenValidityAnswer(
        valid=True,
        user_id=claims.user_id,
        session_id=claims.session_id,
        roles=sorted(state.roles),
        kyc=state.kyc,
        mfa=claims.mfa,
    )
