"""/api/v1/notifications/channels: the caller's phones, devices, browsers and chats."""

from uuid import UUID

from fastapi import APIRouter, Response, status
from pydantic import BaseModel

from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep
from common.idempotency import IdempotencyKey, answer_once
from notification_service import contact_points
from notification_service.contact_points import CodeWrong
from notification_service.dependencies import SealerDep, SettingsDep, WakeupDep
from notification_service.kinds import Channel
from notification_service.schemas import CodeBody, ContactPointBody, ContactPointList, ContactPointView

router = APIRouter(prefix="/api/v1/notifications/channels", tags=["notifications"])


@router.get("")
def list_channels(session: SessionDep, user: User, settings: SettingsDep) -> ContactPointList:
    """The caller's contact points. Mail goes to the account's address, which is not among them."""
    points = contact_points.listed(session, user.user_id)
    return ContactPointList(
        items=[ContactPointView.of(point) for point in points], web_push_key=settings.vapid_public_key or None
    )


@router.post("", status_code=status.HTTP_201_CREATED, response_model=ContactPointView)
def add_channel(
    body: ContactPointBody,
    db: DatabaseDep,
    user: User,
    key: IdempotencyKey,
    sealer: SealerDep,
    settings: SettingsDep,
    clock: ClockDep,
    wakeup: WakeupDep,
) -> Response:
    """Add a contact point. A phone or chat gets a code to be entered at `/{contact_id}/verify`; nothing else before."""
    with db.transaction() as session:

        def produce() -> tuple[int, BaseModel]:
            point = contact_points.add(
                session,
                sealer,
                settings,
                user_id=user.user_id,
                channel=Channel(body.channel),
                address=body.address,
                label=body.label,
                now=clock.now(),
            )
            return status.HTTP_201_CREATED, ContactPointView.of(point)

        answer = answer_once(session, user.user_id, key, "notifications/channels", body, produce)
    wakeup.deliver()
    return answer


@router.put("/{contact_id}/code", status_code=status.HTTP_202_ACCEPTED)
def send_code(
    contact_id: UUID, db: DatabaseDep, user: User, sealer: SealerDep, clock: ClockDep, wakeup: WakeupDep
) -> ContactPointView:
    """Send another code; at most one a minute and a few in all."""
    with db.transaction() as session:
        view = ContactPointView.of(contact_points.send_code(session, user.user_id, contact_id, clock.now()))
    wakeup.deliver()
    return view


@router.put("/{contact_id}/verify", status_code=status.HTTP_204_NO_CONTENT)
def verify_channel(
    contact_id: UUID, body: CodeBody, db: DatabaseDep, user: User, sealer: SealerDep, clock: ClockDep
) -> None:
    """Enter the code that came to the contact point; from then on messages go there."""
    # A transaction of its own: a wrong code is an answer of 422 and counted all the same.
    with db.transaction() as session:
        right = contact_points.verify(session, sealer, user.user_id, contact_id, body.code, clock.now())
    if not right:
        raise CodeWrong("This is not the newest code, or it is too old.")


@router.delete("/{contact_id}", status_code=status.HTTP_204_NO_CONTENT)
def remove_channel(contact_id: UUID, session: SessionDep, user: User, clock: ClockDep) -> None:
    """Remove a contact point; its address is forgotten."""
    contact_points.remove(session, user.user_id, contact_id, clock.now())
