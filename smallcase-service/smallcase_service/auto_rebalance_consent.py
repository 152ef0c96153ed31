"""The user's word on automatic rebalances: off until switched on; every change is a row that says who made it and when."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from smallcase_service import baskets, investments
from smallcase_service.dues import DueState
from smallcase_service.models import AutoRebalance, AutoRebalanceConsent, BasketOrder, Investment
from smallcase_service.orders import InvestmentStatus
from smallcase_service.proposals import InvestmentArchived


def change(session: Session, user_id: UUID, investment_id: UUID, on: bool, now: datetime) -> Investment:
    """Switch it on or off; raises InvestmentNotFound, InvestmentArchived. Saying the same again changes nothing."""
    investments.investment_of(session, user_id, investment_id)
    investment = baskets.lock_investment(session, investment_id)
    if on and investment.status == InvestmentStatus.ARCHIVED:
        raise InvestmentArchived("The investment is archived; invest in the smallcase again instead.")
    _switch(session, investment, on, user_id, now)
    return investment


def given_with_purchase(user_id: UUID, now: datetime) -> Callable[[Session, BasketOrder], None]:
    """What becomes true with the order of a first purchase whose user wants the investment rebalanced automatically."""

    def give(session: Session, order: BasketOrder) -> None:
        _switch(session, session.get_one(Investment, order.investment_id), True, user_id, now)

    return give


def changed_at(session: Session, investment_id: UUID) -> datetime | None:
    """When it was last switched; None: never."""
    return session.scalar(
        sa.select(sa.func.max(AutoRebalanceConsent.changed_at)).where(
            AutoRebalanceConsent.investment_id == investment_id
        )
    )


def _switch(session: Session, investment: Investment, on: bool, by: UUID, now: datetime) -> None:
    if investment.auto_rebalance == on:
        return
    investment.auto_rebalance = on
    session.add(
        AutoRebalanceConsent(
            consent_id=uuid4(),
            investment_id=investment.investment_id,
            auto_rebalance=on,
            changed_by=by,
            changed_at=now,
        )
    )
    if not on:
        # Nothing has been ordered for what still waits: it is as if it had never fallen due.
        session.execute(
            sa.delete(AutoRebalance).where(
                AutoRebalance.investment_id == investment.investment_id, AutoRebalance.state == DueState.DUE
            )
        )
    session.flush()
