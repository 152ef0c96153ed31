"""Rows of basket orders: writing one down, recording what portfolio-service answered, applying news of its legs.

Everything here runs in the caller's transaction and asks nobody. Every change is made under the lock of the investment's
row (`lock_investment`), so a basket order has one history however many processes work on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from common.errors import Conflict, NotFound
from common.logging import current_correlation_id, get_logger
from common.market_data import Key
from smallcase_service.models import (
    BasketLeg,
    BasketOrder,
    Investment,
)
from smallcase_service.orders import (
    ENDED_STAGES,
    OPEN_INVESTMENTS,
    InvestmentStatus,
    Kind,
    LegState,
    Stage,
    Status,
    investment_status,
)
from smallcase_service.plan import Trade

log = get_logger(__name__)

REQUEST_LEASE = timedelta(seconds=15)
"""The request that has written an order submits it itself; the driver takes over when it has not come back by then."""


class InvestmentNotFound(NotFound):
    """No such investment of this user."""


class BasketWorking(Conflict):
    """The investment has a basket order that has not ended."""


class AlreadyInvested(Conflict):
    """The user has this smallcase in this portfolio already."""


class StillHeld(Conflict):
    """An investment that holds shares can not be put away."""


class InvestmentChanged(Conflict):
    """What the plan was made from is not true any more."""


@dataclass(frozen=True)
class Draft:
    """A basket order that is to be written: `trades` are those of its first step."""

    kind: Kind
    user_id: UUID
    kyc: str
    version: int
    trades: Sequence[Trade]
    charges_paise: int
    wanted: Mapping[str, Any] = field(default_factory=dict)
    amount_paise: int | None = None
    queue_when_closed: bool = False
    repairs: UUID | None = None
    sip: tuple[UUID, date] | None = None

    @property
    def cost_paise(self) -> int:
        """What the first step's buys cost, less what its sells bring, at the prices of the plan."""
        return sum(trade.value_paise * (1 if trade.side == "BUY" else -1) for trade in self.trades)


# --- locking and reading ----------------------------------------------------------------------------------------------


def lock_investment(session: Session, investment_id: UUID) -> Investment:
    """The investment's row, locked until the end of the transaction, as it is now."""
    investment = session.get(Investment, investment_id, with_for_update={"key_share": True}, populate_existing=True)
    if investment is None:
        raise InvestmentNotFound("There is no such investment among yours.")
    return investment


def legs_of(session: Session, basket_order_id: UUID) -> Sequence[BasketLeg]:
    """The legs of an order in the order they were written."""
    statement = sa.select(BasketLeg).where(BasketLeg.basket_order_id == basket_order_id).order_by(BasketLeg.position)
    return session.scalars(statement.execution_options(populate_existing=True)).all()


def holdings(session: Session, investment_ids: Iterable[UUID]) -> dict[UUID, dict[Key, int]]:
    """Shares of investments: what their legs have bought less what they have sold; shares that are gone are left out."""
    signed = sa.case((BasketLeg.side == "BUY", BasketLeg.filled_quantity), else_=-BasketLeg.filled_quantity)
    units = sa.func.sum(signed)
    ids = list(investment_ids)
    rows = session.execute(
        sa.select(BasketLeg.investment_id, BasketLeg.exchange, BasketLeg.tradingsymbol, units)
        .where(BasketLeg.investment_id.in_(ids))
        .group_by(BasketLeg.investment_id, BasketLeg.exchange, BasketLeg.tradingsymbol)
        .having(units != 0)
        .order_by(BasketLeg.exchange, BasketLeg.tradingsymbol)
    )
    found: dict[UUID, dict[Key, int]] = {investment_id: {} for investment_id in ids}
    for investment_id, exchange, symbol, quantity in rows:
        found[investment_id][exchange, symbol] = int(quantity)
    return found


def live_order(session: Session, investment_id: UUID) -> BasketOrder | None:
    """The basket order of an investment that has not ended."""
    return session.scalar(
        sa.select(BasketOrder).where(BasketOrder.investment_id == investment_id, BasketOrder.stage.notin_(ENDED_STAGES))
    )


# --- writing an order down --------------------------------------------------------------------------------------------


def open_investment(
    session: Session, user_id: UUID, smallcase_id: UUID, portfolio_id: UUID, version: int, now: datetime
) -> Investment:
    """A new investment; raises AlreadyInvested when the user has an open one of this smallcase in the portfolio."""
    row = session.execute(
        insert(Investment)
        .values(
            investment_id=uuid4(),
            user_id=user_id,
            smallcase_id=smallcase_id,
            portfolio_id=portfolio_id,
            version=version,
            status=InvestmentStatus.PENDING,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(Investment)
    ).scalar_one_or_none()
    if row is None:
        existing = session.scalar(
            sa.select(Investment.investment_id).where(
                Investment.user_id == user_id,
                Investment.smallcase_id == smallcase_id,
                Investment.portfolio_id == portfolio_id,
                Investment.status.in_(OPEN_INVESTMENTS),
            )
        )
        raise AlreadyInvested(
            "You have this smallcase already; invest more in it with POST /api/v1/investments/{investment_id}/invest-more.",
            investment_id=str(existing),
        )
    return row


def write_order(
    session: Session, investment: Investment, draft: Draft, now: datetime, *, held: Mapping[Key, int] | None = None
) -> BasketOrder:
    """Write a basket order with its legs; the investment's row is locked (or new).

    `held` is what the plan was made from. Raises BasketWorking, InvestmentChanged.
    """
    if live_order(session, investment.investment_id) is not None:
        raise BasketWorking("An order of this basket still works; wait until it has ended.")
    if held is not None and holdings(session, [investment.investment_id])[investment.investment_id] != dict(held):
        raise InvestmentChanged("The investment has changed while the plan was made; send the request again.")
    order = BasketOrder(
        basket_order_id=uuid4(),
        investment_id=investment.investment_id,
        user_id=draft.user_id,
        kind=draft.kind,
        stage=Stage.INTENT,
        status=Status.PLACING,
        idempotency_ref=None,
        kyc=draft.kyc,
        queue_when_closed=draft.queue_when_closed,
        version=draft.version,
        amount_paise=draft.amount_paise,
        wanted=dict(draft.wanted),
        submission_id=uuid4(),
        submissions=1,
        repairs=draft.repairs,
        sip_id=draft.sip[0] if draft.sip else None,
        sip_due_on=draft.sip[1] if draft.sip else None,
        planned_cost_paise=draft.cost_paise,
        planned_charges_paise=draft.charges_paise,
        created_at=now,
        due_at=now + REQUEST_LEASE,
        drives=0,
        correlation_id=current_correlation_id(),
    )
    session.add(order)
    session.flush()
    add_legs(session, order, draft.trades, now)
    refresh_investment(session, investment, now)
    log.info("basket.written", basket_order_id=str(order.basket_order_id), kind=order.kind, legs=len(draft.trades))
    return order


def add_legs(session: Session, order: BasketOrder, trades: Sequence[Trade], now: datetime) -> None:
    """Legs of the submission that the order is about to make, after those it has."""
    first = session.scalar(sa.select(sa.func.count()).where(BasketLeg.basket_order_id == order.basket_order_id))
    session.add_all(
        BasketLeg(
            order_id=uuid4(),
            basket_order_id=order.basket_order_id,
            investment_id=order.investment_id,
            submission_id=order.submission_id,
            position=(first or 0) + index,
            exchange=trade.key[0],
            tradingsymbol=trade.key[1],
            side=trade.side,
            quantity=trade.quantity,
            price_paise=trade.price_paise,
            state=LegState.INTENT,
            order_version=0,
            filled_quantity=0,
            amount_paise=0,
            charges_paise=0,
            updated_at=now,
        )
        for index, trade in enumerate(trades)
    )
    session.flush()


def refresh_investment(session: Session, investment: Investment, now: datetime) -> None:
    """Bring the status of a locked investment up to its legs; raises AlreadyInvested where it would be a second one."""
    if investment.status == InvestmentStatus.ARCHIVED:
        return
    ever = session.scalar(
        sa.select(sa.func.count()).where(
            BasketLeg.investment_id == investment.investment_id,
            BasketLeg.side == "BUY",
            BasketLeg.filled_quantity > 0,
        )
    )
    status = investment_status(
        held=bool(holdings(session, [investment.investment_id])[investment.investment_id]),
        ever_held=bool(ever),
        working=live_order(session, investment.investment_id) is not None,
    )
    investment.status = status
    investment.closed_at = now if status == InvestmentStatus.CLOSED else None
    try:
        session.flush()
    except IntegrityError:
        raise AlreadyInvested("You have another open investment in this smallcase; work with that one.") from None


def archive(session: Session, user_id: UUID, investment_id: UUID, now: datetime) -> Investment:
    """Put an investment away; raises InvestmentNotFound, BasketWorking, StillHeld. Archiving again changes nothing."""
    investment = session.get(Investment, investment_id)
    if investment is None or investment.user_id != user_id:
        raise InvestmentNotFound("There is no such investment among yours.")
    investment = lock_investment(session, investment_id)
    if live_order(session, investment_id) is not None:
        raise BasketWorking("An order of this basket still works; wait until it has ended.")
    if held := holdings(session, [investment_id])[investment_id]:
        raise StillHeld(f"The investment still holds {len(held)} shares; leave it first.", shares=len(held))
    if investment.status != InvestmentStatus.ARCHIVED:
        investment.status = InvestmentStatus.ARCHIVED
        investment.closed_at = investment.closed_at or now
        session.flush()
    return investment
