"""Price alerts of users: kept here, judged against the last prices of market-data-service in bounded rounds."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import AppError, Conflict, NotFound
from common.logging import get_logger
from common.market_data import Key, Price
from notification_service import facts
from notification_service.desk import Desk
from notification_service.models import PriceAlert
from notification_service.price_levels import Direction, Level, look
from notification_service.telling import tell

log = get_logger(__name__)

KEYS_PER_ROUND = 2_000
"""How many shares one round asks prices of; with more, the next round goes on after them."""
ALERTS_BATCH = 500
PAGE_DEFAULT, PAGE_MAX = 50, 200


class AlertNotFound(NotFound):
    """Absent, removed, or somebody else's."""


class TooManyAlerts(Conflict):
    """The user has as many as allowed."""


def add(session: Session, alert: PriceAlert, *, alerts_max: int) -> PriceAlert:
    """Keep a new alert. Raises TooManyAlerts."""
    lock = sa.func.hashtextextended(f"alerts:{alert.user_id}", 0)
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
    waiting = sa.select(sa.func.count()).where(PriceAlert.user_id == alert.user_id, PriceAlert.ended_at.is_(None))
    count = session.execute(waiting).scalar_one()
    if count >= alerts_max:
        raise TooManyAlerts(f"You have {count} waiting alerts, which is the most; remove one first.")
    session.add(alert)
    session.flush()
    return alert


def listed(
    session: Session, user_id: UUID, *, waiting: bool, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[PriceAlert]:
    """A page of the user's alerts, newest first, and one row more when there is another page."""
    position = sa.tuple_(PriceAlert.created_at, PriceAlert.alert_id)
    statement = sa.select(PriceAlert).where(PriceAlert.user_id == user_id, PriceAlert.removed_at.is_(None))
    if waiting:
        statement = statement.where(PriceAlert.ended_at.is_(None))
    if after is not None:
        statement = statement.where(position < sa.tuple_(*after))
    ordered = statement.order_by(PriceAlert.created_at.desc(), PriceAlert.alert_id.desc())
    return session.scalars(ordered.limit(limit + 1)).all()


def found(session: Session, user_id: UUID, alert_id: UUID) -> PriceAlert:
    """One of the user's alerts. Raises AlertNotFound."""
    statement = sa.select(PriceAlert).where(
        PriceAlert.alert_id == alert_id, PriceAlert.user_id == user_id, PriceAlert.removed_at.is_(None)
    )
    alert = session.scalars(statement).one_or_none()
    if alert is None:
        raise AlertNotFound("You have no such alert.")
    return alert


def remove(session: Session, user_id: UUID, alert_id: UUID, now: datetime) -> None:
    """Remove an alert. Raises AlertNotFound."""
    alert = found(session, user_id, alert_id)
    alert.removed_at = now
    alert.ended_at = alert.ended_at or now


class Round:
    """Rounds over all waiting alerts. Several processes may run one each: a firing is one conditional update."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._after: Key | None = None

    def run(self) -> int:
        """Look once at the next shares; answers how many alerts fired. Market data that are away delay it only."""
        desk = self._desk
        keys = self._next_keys()
        if not keys:
            return 0
        try:
            prices = desk.market.prices(keys)
        except AppError as error:
            log.warning("price_alerts.no_prices", error=error.code)
            return 0
        oldest = desk.clock.now() - timedelta(seconds=desk.settings.price_age_max_seconds)
        fresh = {key: price for key, price in prices.items() if price.at >= oldest}
        return sum(self._judge(key, price) for key, price in fresh.items())

    def _next_keys(self) -> list[Key]:
        columns = (PriceAlert.exchange, PriceAlert.tradingsymbol)
        statement = sa.select(*columns).where(PriceAlert.ended_at.is_(None)).distinct().order_by(*columns)
        if self._after is not None:
            statement = statement.where(sa.tuple_(*columns) > sa.tuple_(*self._after))
        with self._desk.db.transaction() as session:
            keys: list[Key] = [
                (row.exchange, row.tradingsymbol) for row in session.execute(statement.limit(KEYS_PER_ROUND))
            ]
        self._after = keys[-1] if len(keys) == KEYS_PER_ROUND else None
        return keys

    def _judge(self, key: Key, price: Price) -> int:
        fired, last = 0, UUID(int=0)
        while True:
            with self._desk.db.transaction() as session:
                waiting = sa.select(PriceAlert).where(
                    PriceAlert.exchange == key[0],
                    PriceAlert.tradingsymbol == key[1],
                    PriceAlert.ended_at.is_(None),
                    PriceAlert.alert_id > last,
                )
                ordered = waiting.order_by(PriceAlert.alert_id).limit(ALERTS_BATCH)
                alerts = session.scalars(ordered.with_for_update(skip_locked=True)).all()
                now = self._desk.clock.now()
                fired += sum(_look_at(session, alert, price, now) for alert in alerts)
            if len(alerts) < ALERTS_BATCH:
                return fired
            last = alerts[-1].alert_id


def _look_at(session: Session, alert: PriceAlert, price: Price, now: datetime) -> bool:
    """Judge a locked alert; fires in the same transaction."""
    level = Level(
        direction=cast(Direction, alert.direction),
        level_paise=alert.level_paise,
        repeats=alert.repeats,
        cooldown=timedelta(seconds=alert.cooldown_s),
        armed=alert.armed,
        fired_at=alert.fired_at,
    )
    seen = look(level, price.price_paise, now)
    alert.armed = seen.armed
    if not seen.fires:
        return False
    alert.firings += 1
    alert.fired_at = now
    if not alert.repeats:
        alert.ended_at = now
    fact = facts.price_fact(
        alert.alert_id,
        alert.firings,
        exchange=alert.exchange,
        tradingsymbol=alert.tradingsymbol,
        direction=alert.direction,
        level_paise=alert.level_paise,
        price_paise=price.price_paise,
    )
    tell(session, alert.user_id, fact, occurred_at=now, now=now)
    return True
