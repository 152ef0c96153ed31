"""/api/v1/notifications/alerts: prices the caller waits for."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel

from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep, DatabaseDep, MarketDep
from common.idempotency import IdempotencyKey, answer_once
from common.market_data import instrument_of
from notification_service import price_alerts
from notification_service.dependencies import SettingsDep
from notification_service.models import PriceAlert
from notification_service.price_alerts import AlertNotFound
from notification_service.schemas import AlertBody, AlertPage, AlertView
from notification_service.service import CursorInvalid

router = APIRouter(prefix="/api/v1/notifications/alerts", tags=["notifications"])


@router.get("")
def list_alerts(
    session: SessionDep,
    user: User,
    waiting: Annotated[bool, Query(description="Only those that may still fire.")] = False,
    cursor: Annotated[UUID | None, Query(description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=price_alerts.PAGE_MAX)] = price_alerts.PAGE_DEFAULT,
) -> AlertPage:
    """The caller's alerts, newest first."""
    after = None
    if cursor is not None:
        try:
            last = price_alerts.found(session, user.user_id, cursor)
        except AlertNotFound:
            raise CursorInvalid("The cursor is unknown; start again without one.") from None
        after = (last.created_at, last.alert_id)
    rows = price_alerts.listed(session, user.user_id, waiting=waiting, after=after, limit=limit)
    items = [AlertView.of(row) for row in rows[:limit]]
    return AlertPage(items=items, next_cursor=items[-1].alert_id if len(rows) > limit else None)


@router.post("", status_code=status.HTTP_201_CREATED, response_model=AlertView)
def add_alert(
    body: AlertBody,
    db: DatabaseDep,
    user: User,
    key: IdempotencyKey,
    market: MarketDep,
    settings: SettingsDep,
    clock: ClockDep,
) -> Response:
    """Wait for a price. It fires once, or, when it repeats, each time the level is reached anew."""
    instrument_of(market, body.exchange, body.tradingsymbol)

    with db.transaction() as session:

        def produce() -> tuple[int, BaseModel]:
            alert = PriceAlert(
                alert_id=uuid4(),
                user_id=user.user_id,
                exchange=body.exchange,
                tradingsymbol=body.tradingsymbol,
                direction=body.direction,
                level_paise=body.price,
                repeats=body.repeats,
                cooldown_s=body.cooldown_s,
                armed=True,
                firings=0,
                created_at=clock.now(),
            )
            added = price_alerts.add(session, alert, alerts_max=settings.alerts_max)
            return status.HTTP_201_CREATED, AlertView.of(added)

        return answer_once(session, user.user_id, key, "notifications/alerts", body, produce)


@router.get("/{alert_id}")
def get_alert(alert_id: UUID, session: SessionDep, user: User) -> AlertView:
    """One of the caller's alerts."""
    return AlertView.of(price_alerts.found(session, user.user_id, alert_id))


@router.delete("/{alert_id}", status_code=status.HTTP_204_NO_CONTENT)
def remove_alert(alert_id: UUID, session: SessionDep, user: User, clock: ClockDep) -> None:
    """Remove an alert; it does not fire any more."""
    price_alerts.remove(session, user.user_id, alert_id, clock.now())
