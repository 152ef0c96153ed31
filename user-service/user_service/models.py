"""Tables of user-service. Passwords, refresh tokens and mail tokens are stored as hashes only."""

from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, LargeBinary, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import audit, outbox
from common.db import NAMING, UtcDateTime
from user_service.account_states import ACCOUNT_STATUSES, KYC_STATUSES, ROLES


class Base(DeclarativeBase):
    """All tables of this service."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: UtcDateTime()}


outbox.add_tables(Base.metadata)
audit.add_tables(Base.metadata)


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class User(Base):
    """An account. `email` is where mail goes, `email_key` what makes it unique (emails.email_key)."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(_one_of("status", ACCOUNT_STATUSES), name="status"),
        CheckConstraint(_one_of("kyc_status", KYC_STATUSES), name="kyc_status"),
        CheckConstraint(
            f"cardinality(roles) > 0 AND roles <@ ARRAY[{', '.join(repr(role) for role in ROLES)}]", name="roles"
        ),
        Index("ix_users_created_at_id", "created_at", "id"),
        Index("ix_users_admins", "id", postgresql_where=text("'admin' = ANY(roles)")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = mapped_column(Text)
    email_key: Mapped[str] = mapped_column(Text, unique=True)
    full_name: Mapped[str] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    status: Mapped[str] = mapped_column(Text, default="active")
    kyc_status: Mapped[str] = mapped_column(Text, default="none")
    email_verified_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    login_count: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class AuthSession(Base):
    """One sign-in and all tokens that came from it (the token family); its id is the `sid` claim."""

    __tablename__ = "auth_sessions"
    __table_args__ = (Index("ix_auth_sessions_user_id_address", "user_id", "address"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    mfa: Mapped[bool]
    address: Mapped[str] = mapped_column(Text)
    """Address group (throttle.address_group) of the sign-in."""
    user_agent: Mapped[str] = mapped_column(Text)
    authenticated_at: Mapped[datetime]
    refreshed_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str | None] = mapped_column(Text)


class RefreshToken(Base):
    """SHA-256 of an opaque refresh token; `used_at` is set when it is exchanged, which it may be once."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("auth_sessions.id", ondelete="CASCADE"), index=True)
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class MailToken(Base):
    """SHA-256 of a single-use token that a mail carries (sealing.Sealer.mail_token derives it from the id)."""

    __tablename__ = "mail_tokens"
    __table_args__ = (
        CheckConstraint(_one_of("purpose", ("reset_password", "verify_email")), name="purpose"),
        Index("ix_mail_tokens_user_id_purpose", "user_id", "purpose", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    # Deferred: asking for an unknown account writes the same row and takes it back before the commit.
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", deferrable=True, initially="DEFERRED"))
    purpose: Mapped[str] = mapped_column(Text)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class TotpFactor(Base):
    """A user's second factor; `last_step` is the newest time step whose code was used."""

    __tablename__ = "totp_factors"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    last_step: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]


class KycRecord(Base):
    """What a user submitted last. Of the PAN only the last four characters and a keyed hash are kept."""

    __tablename__ = "kyc_records"
    __table_args__ = (
        Index("uq_kyc_records_pan_hash_held", "pan_hash", unique=True, postgresql_where=text("holds_pan")),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    legal_name: Mapped[str] = mapped_column(Text)
    pan_last_four: Mapped[str] = mapped_column(Text)
    pan_hash: Mapped[bytes] = mapped_column(LargeBinary)
    holds_pan: Mapped[bool]
    """Pending or approved on an account that is not closed: no other account may use this PAN."""
    date_of_birth: Mapped[date]
    address: Mapped[str] = mapped_column(Text)
    submitted_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str | None] = mapped_column(Text)


class LoginThrottle(Base):
    """Failures in a row of one subject (throttle.py), also of accounts that do not exist."""

    __tablename__ = "login_throttles"

    subject: Mapped[str] = mapped_column(Text, primary_key=True)
    failed_login_attempts: Mapped[int]
    refused_attempts: Mapped[int] = mapped_column(BigInteger)
    """Attempts answered 429 without looking at the password."""
    last_attempt_at: Mapped[datetime] = mapped_column(index=True)
    locked_until: Mapped[datetime | None]


class LoginAttempt(Base):
    """One checked sign-in and how it ended."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index("ix_login_attempts_user_id_at", "user_id", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    account: Mapped[str] = mapped_column(Text)
    """Throttle subject of the account tried: no address of a stranger is stored."""
    address: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
