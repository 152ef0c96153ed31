"""What is remembered about security: checked sign-ins, and in the audit log security events and administrators' actions."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy.orm import Session

from common import audit
from common.audit import Actor, ActorKind
from common.logging import get_logger
from user_service.models import LoginAttempt

log = get_logger(__name__)

LOGIN_SUCCEEDED: Final = "succeeded"
LOGIN_FAILED: Final = "failed"
LOGIN_TOTP_REQUIRED: Final = "totp_required"
LOGIN_TOTP_INVALID: Final = "totp_invalid"
LOGIN_ACCOUNT_NOT_ACTIVE: Final = "account_not_active"

REFRESH_TOKEN_REUSED: Final = "refresh_token.reused"  # noqa: S105  the name of an event
PASSWORD_CHANGED: Final = "password.changed"  # noqa: S105
PASSWORD_RESET: Final = "password.reset"  # noqa: S105
PASSWORD_RESET_REQUESTED: Final = "password.reset_requested"  # noqa: S105
WRONG_PASSWORD: Final = "password.wrong_in_session"  # noqa: S105
TOTP_ENABLED: Final = "totp.enabled"
TOTP_DISABLED: Final = "totp.disabled"
SESSIONS_REVOKED: Final = "sessions.revoked"
EMAIL_VERIFIED: Final = "email.verified"
ACCOUNT_CLOSED: Final = "account.closed"
PAN_IN_USE: Final = "kyc.pan_in_use"
SUSPICIOUS: Final = frozenset({REFRESH_TOKEN_REUSED, WRONG_PASSWORD, PAN_IN_USE})
BY_SOMEBODY: Final = frozenset({REFRESH_TOKEN_REUSED, PASSWORD_RESET_REQUESTED})
"""Nobody has proved to be the account's owner."""
EVENTS: Final[tuple[ActorKind, ...]] = ("user", "unknown")
"""Whose rows in the audit log are security events."""
ACTIONS: Final[tuple[ActorKind, ...]] = ("operator", "command_line")
"""Whose rows are administrators' actions."""


def record_login(
    session: Session, *, outcome: str, account: str, user_id: UUID | None, address: str, now: datetime
) -> None:
    """Remember a checked sign-in; `account` is the throttle subject."""
    session.add(LoginAttempt(at=now, user_id=user_id, account=account, address=address, outcome=outcome))
    log.info("login.attempted", outcome=outcome, user_id=user_id)


def record_security_event(
    session: Session, *, kind: str, user_id: UUID | None, address: str, now: datetime, **details: Any
) -> None:
    """Remember a security event; details must not contain secrets."""
    known = user_id is not None and kind not in BY_SOMEBODY
    actor = Actor("user", str(user_id)) if known else Actor("unknown", "")
    target = target_of(user_id) if user_id is not None else "nobody"
    audit.record(session, actor, kind, target=target, address=address, at=now, **details)
    level = log.warning if kind in SUSPICIOUS else log.info
    level("security.event", kind=kind, user_id=user_id)


def record_admin_action(
    session: Session, *, actor_id: UUID | None, action: str, target: UUID, address: str, now: datetime, **details: Any
) -> None:
    """Remember what an administrator (None: the command line) did to a user."""
    actor = audit.operator(actor_id) if actor_id is not None else Actor("command_line", "command line")
    audit.record(session, actor, action, target=target_of(target), address=address, at=now, **details)


def target_of(user_id: UUID) -> str:
    """How the audit log names a user."""
    return f"user:{user_id}"
