"""Reading investments: rows, compositions, money in and out. Every function reads one user's things or raises NotFound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import NotFound, Unprocessable
from common.market_data import Key
from smallcase_service.baskets import InvestmentNotFound
from smallcase_service.composition import Constituent
from smallcase_service.models import (
    BasketLeg,
    BasketOrder,
    Investment,
    Smallcase,
    SmallcaseConstituent,
    SmallcaseVersion,
)

Row = TypeVar("Row")
PAGE_DEFAULT = 20
PAGE_MAX = 100


class BasketOrderNotFound(NotFound):
    """No such basket order of this user."""


class CursorUnknown(Unprocessable):
    """The cursor is not one that a page of this user ended with."""


@dataclass(frozen=True)
class Flows:
    """Money of an investment in paise: what buys and sells came to, and all charges."""

    bought_paise: int = 0
    sold_paise: int = 0
    charges_paise: int = 0


@dataclass(frozen=True)
class Position:
    """One share of an investment: units held, and what was bought and sold of it so far."""

    key: Key
    held: int
    bought: int
    bought_paise: int
    sold: int
    sold_paise: int


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, newest first, and where the next page starts."""

    items: Sequence[Row]
    next_cursor: UUID | None


def investment_of(session: Session, user_id: UUID, investment_id: UUID) -> Investment:
    """One investment of the user; raises InvestmentNotFound, also for somebody else's."""
    investment = session.get(Investment, investment_id)
    if investment is None or investment.user_id != user_id:
        raise InvestmentNotFound("There is no such investment among yours.")
    return investment


def order_of(session: Session, user_id: UUID, basket_order_id: UUID, investment_id: UUID | None = None) -> BasketOrder:
    """One basket order of the user; raises BasketOrderNotFound, also for somebody else's or another investment's."""
    order = session.get(BasketOrder, basket_order_id)
    if order is None or order.user_id != user_id or investment_id not in (None, order.investment_id):
        raise BasketOrderNotFound("There is no such basket order among yours.")
    return order


def constituents_of(session: Session, smallcase_id: UUID, version: int) -> list[Constituent]:
    """The composition of one version."""
    rows = session.scalars(
        sa.select(SmallcaseConstituent)
        .where(SmallcaseConstituent.smallcase_id == smallcase_id, SmallcaseConstituent.version == version)
        .order_by(SmallcaseConstituent.position)
    )
    return [Constituent(row.exchange, row.tradingsymbol, row.weight_bps) for row in rows]


def followed(session: Session, investment: Investment) -> list[Constituent]:
    """The weights an investment follows: the user's own, or those of its version."""
    if investment.target is not None:
        return [Constituent(row["exchange"], row["tradingsymbol"], row["weight_bps"]) for row in investment.target]
    return constituents_of(session, investment.smallcase_id, investment.version)


def newest_composition(session: Session, investment: Investment) -> tuple[int, list[Constituent]]:
    """Number and composition of the newest version that the investor may see; at least the one that is followed."""
    version = session.scalar(
        sa.select(sa.func.max(SmallcaseVersion.version))
        .join(Smallcase, Smallcase.smallcase_id == SmallcaseVersion.smallcase_id)
        .where(
            SmallcaseVersion.smallcase_id == investment.smallcase_id,
            sa.or_(SmallcaseVersion.visibility == "published", Smallcase.owner_id == investment.user_id),
        )
    )
    newest = max(version or 0, investment.version)
    return newest, constituents_of(session, investment.smallcase_id, newest)


def names(session: Session, smallcase_ids: Sequence[UUID]) -> dict[UUID, str]:
    """The newest names of smallcases."""
    newest = (SmallcaseVersion.smallcase_id == Smallcase.smallcase_id) & (SmallcaseVersion.version == Smallcase.version)
    rows = session.execute(
        sa.select(Smallcase.smallcase_id, SmallcaseVersion.name)
        .join(SmallcaseVersion, newest)
        .where(Smallcase.smallcase_id.in_(smallcase_ids))
    )
    return {row[0]: row[1] for row in rows}


def flows(session: Session, investment_ids: Sequence[UUID]) -> Mapping[UUID, Flows]:
    """Money of investments; those without fills have none."""
    amount, side = BasketLeg.amount_paise, BasketLeg.side
    rows = session.execute(
        sa.select(
            BasketLeg.investment_id,
            sa.func.coalesce(sa.func.sum(amount).filter(side == "BUY"), 0),
            sa.func.coalesce(sa.func.sum(amount).filter(side == "SELL"), 0),
            sa.func.sum(BasketLeg.charges_paise),
        )
        .where(BasketLeg.investment_id.in_(investment_ids))
        .group_by(BasketLeg.investment_id)
    )
    found = {investment_id: Flows() for investment_id in investment_ids}
    return found | {row[0]: Flows(int(row[1]), int(row[2]), int(row[3])) for row in rows}


def positions(session: Session, investment_id: UUID) -> list[Position]:
    """Every share an investment ever had, by exchange and symbol."""
    filled, amount, side = BasketLeg.filled_quantity, BasketLeg.amount_paise, BasketLeg.side

    def total(what: Any, of: str) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(what).filter(side == of), 0)

    rows = session.execute(
        sa.select(
            BasketLeg.exchange,
            BasketLeg.tradingsymbol,
            total(filled, "BUY"),
            total(amount, "BUY"),
            total(filled, "SELL"),
            total(amount, "SELL"),
        )
        .where(BasketLeg.investment_id == investment_id, filled > 0)
        .group_by(BasketLeg.exchange, BasketLeg.tradingsymbol)
        .order_by(BasketLeg.exchange, BasketLeg.tradingsymbol)
    )
    return [
        Position((row[0], row[1]), int(row[2] - row[4]), int(row[2]), int(row[3]), int(row[4]), int(row[5]))
        for row in rows
    ]


def investments_page(
    session: Session,
    user_id: UUID,
    *,
    statuses: Sequence[str] = (),
    cursor: UUID | None = None,
    limit: int = PAGE_DEFAULT,
) -> Page[Investment]:
    """The user's investments, newest first; raises CursorUnknown."""
    statement = sa.select(Investment).where(Investment.user_id == user_id)
    if statuses:
        statement = statement.where(Investment.status.in_(statuses))
    if cursor is not None:
        last = session.get(Investment, cursor)
        if last is None or last.user_id != user_id:
            raise CursorUnknown("The cursor is unknown; start again without one.")
        statement = statement.where(
            sa.tuple_(Investment.created_at, Investment.investment_id) < sa.tuple_(last.created_at, cursor)
        )
    rows = session.scalars(
        statement.order_by(Investment.created_at.desc(), Investment.investment_id.desc()).limit(limit + 1)
    ).all()
    return Page(rows[:limit], rows[limit - 1].investment_id if len(rows) > limit else None)


def orders_page(
    session: Session,
    user_id: UUID,
    *,
    investment_id: UUID | None = None,
    cursor: UUID | None = None,
    limit: int = PAGE_DEFAULT,
) -> Page[BasketOrder]:
    """The user's basket orders, newest first, of one investment or of all; raises CursorUnknown."""
    statement = sa.select(BasketOrder).where(BasketOrder.user_id == user_id)
    if investment_id is not None:
        statement = statement.where(BasketOrder.investment_id == investment_id)
    if cursor is not None:
        last = session.get(BasketOrder, cursor)
        if last is None or last.user_id != user_id:
            raise CursorUnknown("The cursor is unknown; start again without one.")
        statement = statement.where(
            sa.tuple_(BasketOrder.created_at, BasketOrder.basket_order_id) < sa.tuple_(last.created_at, cursor)
        )
    rows = session.scalars(
        statement.order_by(BasketOrder.created_at.desc(), BasketOrder.basket_order_id.desc()).limit(limit + 1)
    ).all()
    return Page(rows[:limit], rows[limit - 1].basket_order_id if len(rows) > limit else None)


def legs(session: Session, order_ids: Sequence[UUID]) -> dict[UUID, list[BasketLeg]]:
    """Legs of basket orders, each in the order they were written."""
    found: dict[UUID, list[BasketLeg]] = {order_id: [] for order_id in order_ids}
    rows = session.scalars(
        sa.select(BasketLeg).where(BasketLeg.basket_order_id.in_(order_ids)).order_by(BasketLeg.position)
    )
    for row in rows:
        found[row.basket_order_id].append(row)
    return found
