"""Passwords, the second factor, profile and KYC of the caller: /auth, /users, /kyc."""

import segno
from fastapi import APIRouter, status

from common.db import SessionDep
from user_service import attempts, kyc_review, mail_tokens, password_change, profile, two_factor
from user_service.access import Enrolling, Member, OriginDep, RoomDep
from user_service.models import KycRecord, User
from user_service.schemas import (
    ChangePasswordBody,
    CloseAccountBody,
    ForgotPasswordAnswer,
    ForgotPasswordBody,
    KycAnswer,
    KycBody,
    ProfileBody,
    ResetPasswordBody,
    StatsAnswer,
    TokenBody,
    TotpConfirmBody,
    TotpDisableBody,
    TotpSetupAnswer,
    UserAnswer,
    VerificationAnswer,
)
from user_service.two_factor import WrongTotpCode

router = APIRouter(prefix="/api/v1")

RESET_REQUESTED = "If there is an account with this address, a mail with a link is on its way."
VERIFICATION_REQUESTED = "A mail with a link is on its way, unless the address is verified or was written to often."


@router.post("/auth/change-password", status_code=status.HTTP_204_NO_CONTENT, tags=["auth"])
@router.post("/users/change-password", status_code=status.HTTP_204_NO_CONTENT, include_in_schema=False)
def change_password(body: ChangePasswordBody, caller: Member, room: RoomDep, origin: OriginDep) -> None:
    """Set a new password; all other sessions end. 403 `wrong_password`, 422 `weak_password`."""
    password_change.change_password(
        room,
        user_id=caller.user_id,
        session_id=caller.session_id,
        email=caller.email,
        current=body.current_password.get_secret_value(),
        new=body.new_password.get_secret_value(),
        origin=origin,
    )


@router.post(
    "/auth/forgot-password",
    status_code=status.HTTP_202_ACCEPTED,
    response_model_exclude_none=True,
    tags=["auth"],
)
def forgot_password(
    body: ForgotPasswordBody, session: SessionDep, room: RoomDep, origin: OriginDep
) -> ForgotPasswordAnswer:
    """Ask for a reset link; the answer is the same whether or not there is such an account."""
    token = mail_tokens.request_reset(session, room, body.email, origin)
    return ForgotPasswordAnswer(detail=RESET_REQUESTED, reset_token=token if room.settings.expose_reset_token else None)


@router.post("/auth/reset-password", status_code=status.HTTP_204_NO_CONTENT, tags=["auth"])
def reset_password(body: ResetPasswordBody, room: RoomDep, origin: OriginDep) -> None:
    """Set a new password with a reset token, once; all sessions end. 400 `invalid_token`."""
    password_change.reset_password(
        room, token=body.token.get_secret_value(), new=body.new_password.get_secret_value(), origin=origin
    )


@router.post("/auth/totp/setup", tags=["auth"])
def set_up_totp(caller: Enrolling, session: SessionDep, room: RoomDep) -> TotpSetupAnswer:
    """A secret for an authenticator app; nothing changes until it is confirmed. 409 `totp_already_enabled`."""
    secret, uri = two_factor.set_up(
        session, room, user_id=caller.user_id, email=caller.email, authenticated_at=caller.authenticated_at
    )
    picture = segno.make(uri, error="m").svg_data_uri(scale=4)
    return TotpSetupAnswer(secret=secret, otpauth_uri=uri, qr_svg_data_uri=picture)


@router.post("/auth/totp/confirm", status_code=status.HTTP_204_NO_CONTENT, tags=["auth"])
def confirm_totp(
    body: TotpConfirmBody, caller: Enrolling, session: SessionDep, room: RoomDep, origin: OriginDep
) -> None:
    """Enable the second factor; refresh afterwards to get a token that says so. 422 `invalid_totp`."""
    two_factor.confirm(
        session, room, user_id=caller.user_id, session_id=caller.session_id, code=body.code, origin=origin
    )


@router.post("/auth/totp/disable", status_code=status.HTTP_204_NO_CONTENT, tags=["auth"])
def disable_totp(body: TotpDisableBody, caller: Enrolling, room: RoomDep, origin: OriginDep) -> None:
    """Remove the second factor; needs the password and a code. 403 `wrong_password`, 422 `invalid_totp`."""
    confirmed = password_change.confirm_password(room, caller.user_id, body.password.get_secret_value(), origin)
    with room.db.transaction() as session:
        password_change.locked_user(session, caller.user_id, confirmed)
        right = two_factor.disable(
            session, room, user_id=caller.user_id, session_id=caller.session_id, code=body.code, origin=origin
        )
        if right:
            attempts.forgive(session, confirmed.attempt)
    if not right:
        raise WrongTotpCode


@router.get("/users/profile", tags=["users"])
def get_profile(caller: Member, session: SessionDep) -> UserAnswer:
    """The caller's profile."""
    return UserAnswer.of(session.get_one(User, caller.user_id))


@router.put("/users/profile", tags=["users"])
def put_profile(body: ProfileBody, caller: Member, session: SessionDep, room: RoomDep) -> UserAnswer:
    """Replace name and telephone number."""
    user = profile.update_profile(session, caller.user_id, full_name=body.full_name, phone=body.phone, now=room.now())
    return UserAnswer.of(user)


@router.get("/users/stats", tags=["users"])
def get_stats(caller: Member, session: SessionDep, room: RoomDep) -> StatsAnswer:
    """Figures about the caller's account."""
    return StatsAnswer.model_validate(profile.stats(session, caller.user_id, room.now()), from_attributes=True)


@router.post("/users/verify-email", status_code=status.HTTP_204_NO_CONTENT, tags=["users"])
def verify_email(body: TokenBody, session: SessionDep, room: RoomDep, origin: OriginDep) -> None:
    """Confirm the address with the token of the mail, once. 400 `invalid_token`."""
    mail_tokens.verify_email(session, body.token.get_secret_value(), origin, room.now())


@router.post(
    "/users/verify-email/resend",
    status_code=status.HTTP_202_ACCEPTED,
    response_model_exclude_none=True,
    tags=["users"],
)
def resend_verification(caller: Member, session: SessionDep, room: RoomDep) -> VerificationAnswer:
    """Ask for another mail that verifies the address."""
    token = mail_tokens.request_verification(session, room, session.get_one(User, caller.user_id), room.now())
    return VerificationAnswer(
        detail=VERIFICATION_REQUESTED, verification_token=token if room.settings.expose_reset_token else None
    )


@router.delete("/users/account", status_code=status.HTTP_204_NO_CONTENT, tags=["users"])
def close_account(body: CloseAccountBody, caller: Member, room: RoomDep, origin: OriginDep) -> None:
    """Close the caller's account for good; needs the password. 403 `wrong_password`, 409 `last_admin`."""
    profile.close_account(room, user_id=caller.user_id, password=body.password.get_secret_value(), origin=origin)


@router.post("/kyc", status_code=status.HTTP_201_CREATED, tags=["kyc"])
def submit_kyc(body: KycBody, caller: Member, room: RoomDep, origin: OriginDep) -> KycAnswer:
    """Hand in the KYC. 409 `pan_in_use` or `kyc_transition_refused`, 422 `age_refused`."""
    record = kyc_review.submit(
        room,
        user_id=caller.user_id,
        legal_name=body.legal_name,
        pan=body.pan,
        date_of_birth=body.date_of_birth,
        address=body.address,
        origin=origin,
    )
    return KycAnswer.of("pending", record)


@router.get("/kyc", tags=["kyc"])
def get_kyc(caller: Member, session: SessionDep) -> KycAnswer:
    """The caller's KYC; status `none` before it is handed in."""
    user = session.get_one(User, caller.user_id)
    return KycAnswer.of(user.kyc_status, session.get(KycRecord, caller.user_id))
