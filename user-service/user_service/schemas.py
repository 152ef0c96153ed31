"""Bodies of requests and answers. Extra fields are refused; text is trimmed and holds no control characters."""

from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints, WithJsonSchema

from common.text import Printable
from user_service.account_states import AccountStatus, KycStatus, Role
from user_service.emails import EMAIL_LENGTH_MAX, parse_email
from user_service.identity_rules import mask_pan, parse_pan, parse_phone
from user_service.models import KycRecord, User
from user_service.passwords import PASSWORD_LENGTH_MAX

TOKEN_LENGTH_MAX = 4096


Email = Annotated[
    str,
    StringConstraints(max_length=EMAIL_LENGTH_MAX),
    AfterValidator(parse_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": EMAIL_LENGTH_MAX}),
]
Password = Annotated[SecretStr, Field(min_length=1, max_length=PASSWORD_LENGTH_MAX)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), Printable]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), Printable]
PostalAddress = Annotated[str, StringConstraints(strip_whitespace=True, min_length=5, max_length=300), Printable]
Phone = Annotated[str, StringConstraints(max_length=32), AfterValidator(parse_phone)]
Pan = Annotated[str, StringConstraints(max_length=16), AfterValidator(parse_pan)]
TotpCode = Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")]
OpaqueToken = Annotated[SecretStr, Field(min_length=1, max_length=TOKEN_LENGTH_MAX)]


class Body(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid")


class RegisterBody(Body):
    email: Email
    password: Password
    full_name: Name
    phone: Phone | None = None


class LoginBody(Body):
    email: Email
    password: Password
    totp_code: TotpCode | None = None


class LoginForm(Body):
    """Fields of OAuth2's password form (RFC 6749 4.3.2); what we have no use for is accepted and ignored."""

    username: Email
    password: Password
    totp_code: TotpCode | None = None
    grant_type: Literal["password"] = "password"
    scope: str = ""
    client_id: str = ""
    client_secret: str = ""


class RefreshBody(Body):
    refresh_token: OpaqueToken


class TokenBody(Body):
    token: OpaqueToken


class ChangePasswordBody(Body):
    current_password: Password
    new_password: Password


class ForgotPasswordBody(Body):
    email: Email


class ResetPasswordBody(Body):
    token: OpaqueToken
    new_password: Password


class TotpConfirmBody(Body):
    code: TotpCode


class TotpDisableBody(Body):
    password: Password
    code: TotpCode


class ProfileBody(Body):
    full_name: Name
    phone: Phone | None = None


class CloseAccountBody(Body):
    password: Password


class KycBody(Body):
    legal_name: Name
    pan: Pan
    date_of_birth: date
    address: PostalAddress


class KycDecisionBody(Body):
    status: Literal["approved", "rejected"]
    reason: Reason | None = None


class StatusBody(Body):
    status: AccountStatus
    reason: Reason | None = None


class RolesBody(Body):
    roles: Annotated[list[Role], Field(min_length=1, max_length=3)]


class TokenAnswer(BaseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    """Seconds until the access token ends."""
    totp_setup_required: bool
    """True: this session may do nothing but set up its second factor."""


class UserAnswer(BaseModel):
    user_id: UUID
    email: str
    full_name: str
    phone: str | None
    roles: list[Role]
    status: AccountStatus
    kyc_status: KycStatus
    email_verified: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> "UserAnswer":
        """The public view of an account."""
        return cls(**user_fields(user))


class MeAnswer(UserAnswer):
    session_id: UUID
    mfa: bool
    """This session was opened with the second factor."""
    totp_enabled: bool
    totp_setup_required: bool


class StatsAnswer(BaseModel):
    member_since: datetime
    last_login_at: datetime | None
    login_count: int
    failed_logins_30d: int
    active_sessions: int
    totp_enabled: bool


class ForgotPasswordAnswer(BaseModel):
    detail: str
    reset_token: str | None = None


class VerificationAnswer(BaseModel):
    detail: str
    verification_token: str | None = None


class TotpSetupAnswer(BaseModel):
    secret: str
    otpauth_uri: str
    qr_svg_data_uri: str


class TokenValidityAnswer(BaseModel):
    valid: bool
    user_id: UUID | None = None
    session_id: UUID | None = None
    roles: list[str] | None = None
    kyc: str | None = None
    mfa: bool | None = None


class KycAnswer(BaseModel):
    status: KycStatus
    legal_name: str | None = None
    pan_masked: str | None = None
    date_of_birth: date | None = None
    address: str | None = None
    submitted_at: datetime | None = None
    decided_at: datetime | None = None
    reason: str | None = None

    @classmethod
    def of(cls, status: str, record: KycRecord | None) -> "KycAnswer":
        """The KYC with its PAN masked."""
        if record is None:
            return cls.model_validate({"status": status})
        return cls.model_validate(
            {
                "status": status,
                "legal_name": record.legal_name,
                "pan_masked": mask_pan(record.pan_last_four),
                "date_of_birth": record.date_of_birth,
                "address": record.address,
                "submitted_at": record.submitted_at,
                "decided_at": record.decided_at,
                "reason": record.reason,
            }
        )


class AdminUserAnswer(UserAnswer):
    last_login_at: datetime | None
    login_count: int
    totp_enabled: bool
    kyc: KycAnswer


class UserPage(BaseModel):
    items: list[UserAnswer]
    page: int
    page_size: int
    total: int


class AdminActionAnswer(BaseModel):
    at: datetime
    actor_id: UUID | None
    action: str
    address: str
    details: dict[str, Any]

    @classmethod
    def of(cls, row: Any) -> "AdminActionAnswer":
        """From a row of the audit log; the command line has no id."""
        actor_id = UUID(row.actor) if row.actor_kind == "operator" else None
        return cls(at=row.at, actor_id=actor_id, action=row.action, address=row.address, details=row.details)


class AdminActionPage(BaseModel):
    items: list[AdminActionAnswer]
    page: int
    page_size: int
    total: int


class SecurityMetricsAnswer(BaseModel):
    logins: dict[str, int]
    events: dict[str, int]
    suspicious: int
    throttled_subjects: int
    refused_attempts: int
    active_sessions: int


class SessionAnswer(BaseModel):
    active: bool
    user_id: UUID | None = None
    roles: list[str] | None = None
    kyc: str | None = None
    status: str | None = None


class MailTokenAnswer(BaseModel):
    token: str
    purpose: Literal["reset_password", "verify_email"]
    expires_at: datetime


class ContactAnswer(BaseModel):
    user_id: UUID
    email: str
    email_verified: bool
    full_name: str


class ContactsAnswer(BaseModel):
    contacts: list[ContactAnswer]

    @classmethod
    def of(cls, users: Iterable[User]) -> Self:
        """From accounts."""
        return cls(
            contacts=[
                ContactAnswer(
                    user_id=user.id,
                    email=user.email,
                    email_verified=user.email_verified_at is not None,
                    full_name=user.full_name,
                )
                for user in users
            ]
        )


class StandingAnswer(BaseModel):
    status: str
    kyc: str


class HoldersAnswer(BaseModel):
    user_ids: list[UUID]


def user_fields(user: User) -> dict[str, Any]:
    """Members of UserAnswer."""
    return {
        "user_id": user.id,
        "email": user.email,
        "full_name": user.full_name,
        "phone": user.phone,
        "roles": user.roles,
        "status": user.status,
        "kyc_status": user.kyc_status,
        "email_verified": user.email_verified_at is not None,
        "created_at": user.created_at,
    }
