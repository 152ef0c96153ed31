"""Money that went into an investment and came out of it, by day: from the fills of its legs."""

from datetime import date
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from smallcase_service.models import BasketLeg

IST_DAY = sa.cast(sa.func.timezone("Asia/Kolkata", BasketLeg.updated_at), sa.Date)
"""A leg knows when it last changed: the day of its (last) fill, or a later one on which the rest of it ended."""


def cash_flows(session: Session, investment_id: UUID) -> list[tuple[date, int]]:
    """Net money per day in paise, positive paid in; buys with their charges, sells less theirs."""
    signed = sa.case(
        (BasketLeg.side == "BUY", BasketLeg.amount_paise + BasketLeg.charges_paise),
        else_=BasketLeg.charges_paise - BasketLeg.amount_paise,
    )
    rows = session.execute(
        sa.select(IST_DAY.label("on_day"), sa.func.sum(signed))
        .where(BasketLeg.investment_id == investment_id, BasketLeg.filled_quantity > 0)
        .group_by(sa.text("on_day"))
        .order_by(sa.text("on_day"))
    )
    return [(row[0], int(row[1])) for row in rows]
