"""/api/v1/admin/notifications: what became of messages, how the providers do, what templates look like."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from common.auth import AdminUser
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep
from common.errors import Conflict, NotFound
from notification_service import deliveries
from notification_service.delivery_states import IllegalMove, Status
from notification_service.dependencies import SettingsDep, WakeupDep
from notification_service.kinds import RULES, Channel, Kind
from notification_service.models import Circuit, Delivery, DeliveryAttempt
from notification_service.samples import SAMPLES
from notification_service.schemas import (
    AttemptView,
    ChannelCount,
    ChannelReport,
    DeliveryDetail,
    DeliveryPage,
    DeliveryView,
    Preview,
    ProviderView,
    TemplateList,
    TemplateName,
)
from notification_service.service import CursorInvalid
from notification_service.telling import LIFE
from notification_service.wording import mail_of, words_of

router = APIRouter(prefix="/api/v1/admin/notifications", tags=["notifications"])

PAGE_DEFAULT, PAGE_MAX = 50, 200
FAILING_MAX = 200


class DeliveryNotFound(NotFound):
    """There is no such delivery."""


class DeliveryNotEnded(Conflict):
    """Only one that has failed or was given up can be queued again."""


@router.get("/deliveries")
def search_deliveries(
    session: SessionDep,
    _: AdminUser,
    user_id: UUID | None = None,
    channel: Channel | None = None,
    status: Status | None = None,
    kind: Kind | None = None,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
) -> DeliveryPage:
    """Deliveries, newest first."""
    wanted = {"user_id": user_id, "channel": channel, "status": status, "kind": kind}
    statement = select(Delivery).where(
        *(getattr(Delivery, name) == value for name, value in wanted.items() if value is not None)
    )
    position = tuple_(Delivery.created_at, Delivery.delivery_id)
    if cursor is not None:
        last = session.get(Delivery, cursor)
        if last is None:
            raise CursorInvalid("The cursor is unknown; start again without one.")
        statement = statement.where(position < tuple_(last.created_at, last.delivery_id))
    ordered = statement.order_by(Delivery.created_at.desc(), Delivery.delivery_id.desc())
    rows = session.scalars(ordered.limit(limit + 1)).all()
    items = [DeliveryView.model_validate(row) for row in rows[:limit]]
    return DeliveryPage(items=items, next_cursor=items[-1].delivery_id if len(rows) > limit else None)


@router.get("/deliveries/{delivery_id}")
def get_delivery(delivery_id: UUID, session: SessionDep, _: AdminUser) -> DeliveryDetail:
    """One delivery with its attempts."""
    return _detail(session, _found(session, delivery_id))


@router.put("/deliveries/{delivery_id}/retry")
def retry_delivery(
    delivery_id: UUID, db: DatabaseDep, _: AdminUser, clock: ClockDep, wakeup: WakeupDep
) -> DeliveryDetail:
    """Queue a delivery again that has failed or was given up."""
    with db.transaction() as session:
        row = _found(session, delivery_id, lock=True)
        try:
            deliveries.retry(row, clock.now(), LIFE)
        except IllegalMove:
            raise DeliveryNotEnded(f"This delivery is {row.status}; only a failed one can be queued again.") from None
        session.flush()
        answer = _detail(session, row)
    wakeup.deliver()
    return answer


@router.get("/channels")
def report_channels(session: SessionDep, _: AdminUser, clock: ClockDep) -> ChannelReport:
    """Deliveries of the last day by channel and state, and providers that fail now."""
    since = clock.now() - timedelta(days=1)
    grouped = (
        select(Delivery.channel, Delivery.status, func.count())
        .where(Delivery.created_at > since)
        .group_by(Delivery.channel, Delivery.status)
        .order_by(Delivery.channel, Delivery.status)
    )
    counts = [
        ChannelCount(channel=Channel(channel), status=Status(status), deliveries=count)
        for channel, status, count in session.execute(grouped)
    ]
    failing = select(Circuit).where(Circuit.failures > 0).order_by(Circuit.changed_at.desc()).limit(FAILING_MAX)
    return ChannelReport(
        last_day=counts, failing=[ProviderView.model_validate(row) for row in session.scalars(failing)]
    )


@router.get("/templates")
def list_templates(_: AdminUser) -> TemplateList:
    """All kinds of messages."""
    return TemplateList(
        items=[
            TemplateName(
                kind=kind,
                group=rule.group,
                at_any_hour=rule.at_any_hour,
                fixed=rule.fixed,
                defaults=sorted(rule.defaults),
            )
            for kind, rule in RULES.items()
        ]
    )


@router.get("/templates/{kind}/preview")
def preview_template(kind: Kind, _: AdminUser, settings: SettingsDep) -> Preview:
    """What a kind of message looks like, made from sample data."""
    data = SAMPLES[kind]
    said = words_of(kind, data)
    action = None
    if kind in (Kind.PASSWORD_RESET, Kind.EMAIL_VERIFICATION):
        action = (said.title, f"{settings.web_url}/a-page#token=an-example")
    mail = mail_of(kind, data, name="Asha Rao", web_url=settings.web_url, action=action)
    return Preview(
        kind=kind,
        title=said.title,
        text=said.text,
        mail_subject=mail.subject,
        mail_text=mail.text,
        mail_html=mail.html,
    )


def _found(session: Session, delivery_id: UUID, *, lock: bool = False) -> Delivery:
    row = session.get(Delivery, delivery_id, with_for_update=lock or None)
    if row is None:
        raise DeliveryNotFound("There is no such delivery.")
    return row


def _detail(session: Session, row: Delivery) -> DeliveryDetail:
    attempts = select(DeliveryAttempt).where(DeliveryAttempt.delivery_id == row.delivery_id)
    history = session.scalars(attempts.order_by(DeliveryAttempt.number)).all()
    return DeliveryDetail.of(row, [AttemptView.model_validate(one) for one in history])
