"""Smallcases in SQL: what basket orders bought and sold, by investment of a user and by smallcase of the platform.

Paise. What an investment is worth now is smallcase-service's to say: which shares belong to it stands in no fact.
"""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, cast, func, null, select
from sqlalchemy.orm import Session

from analytics_service.models import BasketFact
from common.clock import IST

INVESTMENTS_MAX = 500


@dataclass(frozen=True)
class Baskets:
    """Sums over basket orders."""

    smallcase_id: UUID
    smallcase_name: str
    investment_id: UUID | None
    """None: all investments of the smallcase."""
    investors: int
    baskets: int
    orders: int
    orders_filled: int
    bought_paise: int
    sold_paise: int
    charges_paise: int


def of_user(session: Session, user_id: UUID) -> list[Baskets]:
    """A user's investments, those with the most bought first."""
    return _sums(session, BasketFact.user_id == user_id, by_investment=True, most=INVESTMENTS_MAX)


def of_platform(session: Session, since: date | None, top: int) -> list[Baskets]:
    """The smallcases with the most bought, over all users."""
    condition = _since(since) if since is not None else BasketFact.orders >= 0
    return _sums(session, condition, by_investment=False, most=top)


def _since(day: date) -> ColumnElement[bool]:
    on = func.date(func.timezone(IST.key, BasketFact.occurred_at))
    return on >= day


def _sums(session: Session, condition: ColumnElement[bool], *, by_investment: bool, most: int) -> list[Baskets]:
    newest_name = func.max(BasketFact.smallcase_name)
    bought = cast(func.sum(BasketFact.bought_paise), BigInteger)
    groups = [BasketFact.smallcase_id, *([BasketFact.investment_id] if by_investment else [])]
    rows = session.execute(
        select(
            BasketFact.smallcase_id,
            newest_name,
            BasketFact.investment_id if by_investment else null(),
            func.count(BasketFact.user_id.distinct()),
            func.count(),
            func.sum(BasketFact.orders),
            func.sum(BasketFact.orders_filled),
            bought,
            cast(func.sum(BasketFact.sold_paise), BigInteger),
            cast(func.sum(BasketFact.charges_paise), BigInteger),
        )
        .where(condition)
        .group_by(*groups)
        .order_by(bought.desc(), BasketFact.smallcase_id)
        .limit(most)
    )
    return [Baskets(*tuple(row)) for row in rows]
