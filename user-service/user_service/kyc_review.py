"""KYC: submitted by a user, decided by an administrator; every change is one KycChanged event."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common import outbox
from common.clock import to_ist
from common.errors import Conflict, Forbidden, NotFound, Unprocessable
from common.events import KycChanged
from user_service import audit
from user_service.account_states import KYC_HOLDS_PAN, check_kyc_transition
from user_service.context import Room
from user_service.identity_rules import check_adult
from user_service.models import KycRecord, User
from user_service.sessions import Origin

SOURCE = "user-service"
PAN_INDEX = "uq_kyc_records_pan_hash_held"


class PanInUse(Conflict):
    """Another account holds this PAN: one person, one account."""

    def __init__(self) -> None:
        super().__init__("This PAN belongs to another account; contact support if that is not yours.")


class AgeRefused(Unprocessable):
    """The date of birth is not that of an adult."""


class ReasonRequired(Unprocessable):
    """A rejection must tell the user what to correct."""

    def __init__(self) -> None:
        super().__init__("Give the reason of the rejection; the user reads it.")


class OwnKycDecision(Forbidden):
    """Nobody decides on their own KYC."""

    def __init__(self) -> None:
        super().__init__("Another administrator must decide on your KYC.")


def submit(
    room: Room, *, user_id: UUID, legal_name: str, pan: str, date_of_birth: date, address: str, origin: Origin
) -> KycRecord:
    """Hand in the KYC (again after a rejection); raises AgeRefused, KycTransitionRefused, PanInUse.

    Opens its own transaction: a PAN that is in use is remembered as a security event although nothing else is written.
    """
    now = room.now()
    try:
        check_adult(date_of_birth, to_ist(now).date())
    except ValueError as error:
        raise AgeRefused(f"KYC refused: {error}.") from None
    try:
        with room.db.transaction() as session:
            user = session.scalars(select(User).where(User.id == user_id).with_for_update()).one()
            check_kyc_transition(user.kyc_status, "pending")
            record = session.merge(
                KycRecord(
                    user_id=user_id,
                    legal_name=legal_name,
                    pan_last_four=pan[-4:],
                    pan_hash=room.sealer.pan_hash(pan),
                    holds_pan=True,
                    date_of_birth=date_of_birth,
                    address=address,
                    submitted_at=now,
                    decided_at=None,
                    decided_by=None,
                    reason=None,
                )
            )
            session.flush()
            _change(session, user, "pending", None, now)
            return record
    except IntegrityError as error:
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) != PAN_INDEX:
            raise
    with room.db.transaction() as session:
        audit.record_security_event(session, kind=audit.PAN_IN_USE, user_id=user_id, address=origin.address, now=now)
    raise PanInUse


def decide(
    session: Session,
    *,
    user_id: UUID,
    status: Literal["approved", "rejected"],
    reason: str | None,
    actor_id: UUID,
    origin: Origin,
    now: datetime,
) -> User:
    """Approve or reject; raises NotFound, OwnKycDecision, ReasonRequired, KycTransitionRefused."""
    user = session.scalars(select(User).where(User.id == user_id).with_for_update()).one_or_none()
    if user is None:
        raise NotFound("There is no user with this id.")
    if user_id == actor_id:
        raise OwnKycDecision
    if status == "rejected" and not reason:
        raise ReasonRequired
    before = user.kyc_status
    check_kyc_transition(before, status)
    record = session.get_one(KycRecord, user_id)
    record.decided_at = now
    record.decided_by = actor_id
    record.reason = reason
    record.holds_pan = status in KYC_HOLDS_PAN
    _change(session, user, status, reason, now)
    audit.record_admin_action(
        session,
        actor_id=actor_id,
        action="kyc_decided",
        target=user_id,
        address=origin.address,
        now=now,
        before=before,
        after=status,
        reason=reason,
    )
    return user


def _change(
    session: Session,
    user: User,
    status: Literal["pending", "approved", "rejected"],
    reason: str | None,
    now: datetime,
) -> None:
    user.kyc_status = status
    user.updated_at = now
    event = KycChanged(user_id=user.id, status=status, reason=reason, occurred_at=now)
    outbox.record(session, event, source=SOURCE, aggregate_id=user.id)
