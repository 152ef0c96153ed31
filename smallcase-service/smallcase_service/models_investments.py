"""Tables of investments: what a user has in a smallcase, the orders of the basket, their legs, and what falls due.

What an investment holds is nowhere stored: it is the sum over the fills of its legs. Every change of an investment, its
orders or their legs is made under the lock of the investment's row.
"""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, false, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from common.db import Paise
from smallcase_service.base import Base
from smallcase_service.dues import DUE_STATES
from smallcase_service.orders import (
    ENDED_STAGES,
    INVESTMENT_STATUSES,
    KINDS,
    LEG_STATES,
    OPEN_INVESTMENTS,
    ORDER_STATUSES,
    STAGES,
)
from smallcase_service.sip_schedule import FREQUENCIES, MODES, SIP_STATES


def _one_of(column: str, words: object) -> str:
    listed = ", ".join(f"'{word}'" for word in sorted(words))  # type: ignore[call-overload]
    return f"{column} IN ({listed})"


class Investment(Base):
    """A user's shares in one smallcase, in one portfolio; `version` is the composition it follows.

    `target` holds the user's own weights once the investment was customised, and is null before.
    """

    __tablename__ = "investment"
    __table_args__ = (
        CheckConstraint(_one_of("status", INVESTMENT_STATUSES), name="status_known"),
        Index(
            "uq_investment_open",
            "user_id",
            "smallcase_id",
            "portfolio_id",
            unique=True,
            postgresql_where=text(_one_of("status", OPEN_INVESTMENTS)),
        ),
        Index("ix_investment_user", "user_id", "created_at", "investment_id"),
        Index("ix_investment_smallcase_id", "smallcase_id"),
        Index("ix_investment_auto_rebalance", "smallcase_id", "version", postgresql_where=text("auto_rebalance")),
    )

    investment_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    smallcase_id: Mapped[UUID] = mapped_column(ForeignKey("smallcase.smallcase_id"))
    portfolio_id: Mapped[UUID]
    version: Mapped[int]
    target: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    status: Mapped[str] = mapped_column(Text)
    auto_rebalance: Mapped[bool] = mapped_column(server_default=false())
    """The user wants new published versions followed without being asked; who said so when: AutoRebalanceConsent."""
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class BasketOrder(Base):
    """One order of a basket. `stage` says where the work on it stands, `status` what has become of its legs."""

    __tablename__ = "basket_order"
    __table_args__ = (
        CheckConstraint(_one_of("kind", KINDS), name="kind_known"),
        CheckConstraint(_one_of("stage", STAGES), name="stage_known"),
        CheckConstraint(_one_of("status", ORDER_STATUSES), name="status_known"),
        Index(
            "uq_basket_order_live",
            "investment_id",
            unique=True,
            postgresql_where=text(f"NOT ({_one_of('stage', ENDED_STAGES)})"),
        ),
        Index("ix_basket_order_investment", "investment_id", "created_at", "basket_order_id"),
        Index("ix_basket_order_due", "due_at", postgresql_where=text(f"NOT ({_one_of('stage', ENDED_STAGES)})")),
        Index("ix_basket_order_user", "user_id", "created_at", "basket_order_id"),
    )

    basket_order_id: Mapped[UUID] = mapped_column(primary_key=True)
    investment_id: Mapped[UUID] = mapped_column(ForeignKey("investment.investment_id"))
    user_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    idempotency_ref: Mapped[str | None] = mapped_column(Text)
    """The Idempotency-Key of the request that asked for it; null for what the platform does by itself."""
    kyc: Mapped[str] = mapped_column(Text)
    queue_when_closed: Mapped[bool]
    version: Mapped[int]
    """The composition that is wanted; the investment follows it from the acceptance on."""
    amount_paise: Mapped[int | None] = mapped_column(Paise)
    """The money that was named, charges included; null where none was."""
    wanted: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What the buys of the second step are computed from: see `smallcase_service.wanted`."""
    submission_id: Mapped[UUID]
    """Key of the acceptance under way or last made in portfolio-service; each submission has a new one."""
    submissions: Mapped[int]
    refusals: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    repairs: Mapped[UUID | None] = mapped_column(ForeignKey("basket_order.basket_order_id"))
    repaired_by: Mapped[UUID | None]
    sip_id: Mapped[UUID | None]
    sip_due_on: Mapped[date | None]
    planned_cost_paise: Mapped[int] = mapped_column(Paise)
    planned_charges_paise: Mapped[int] = mapped_column(Paise)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    """When the driver looks at it, unless it has ended."""
    drives: Mapped[int]
    """How often the driver has looked since the last progress."""
    correlation_id: Mapped[str | None] = mapped_column(Text)


class BasketLeg(Base):
    """One order of one share in portfolio-service, under the id it has there; figures are cumulative."""

    __tablename__ = "basket_leg"
    __table_args__ = (
        CheckConstraint("quantity > 0 AND filled_quantity BETWEEN 0 AND quantity", name="filled_in_range"),
        CheckConstraint("amount_paise >= 0 AND charges_paise >= 0", name="not_negative"),
        CheckConstraint("side IN ('BUY', 'SELL')", name="side_known"),
        CheckConstraint(_one_of("state", LEG_STATES), name="state_known"),
        Index("ix_basket_leg_basket_order_id", "basket_order_id", "position"),
        Index("ix_basket_leg_investment_id", "investment_id"),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    basket_order_id: Mapped[UUID] = mapped_column(ForeignKey("basket_order.basket_order_id"))
    investment_id: Mapped[UUID] = mapped_column(ForeignKey("investment.investment_id"))
    submission_id: Mapped[UUID]
    position: Mapped[int]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    price_paise: Mapped[int] = mapped_column(Paise)
    """The price the plan was made at."""
    state: Mapped[str] = mapped_column(Text)
    order_version: Mapped[int]
    """Version of the order this row shows; older news is dropped. 0: nothing is known yet."""
    filled_quantity: Mapped[int]
    amount_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    updated_at: Mapped[datetime]


class Sip(Base):
    """A plan to invest the same amount again and again."""

    __tablename__ = "sip"
    __table_args__ = (
        CheckConstraint(_one_of("state", SIP_STATES), name="state_known"),
        CheckConstraint(_one_of("frequency", FREQUENCIES), name="frequency_known"),
        CheckConstraint(_one_of("mode", MODES), name="mode_known"),
        CheckConstraint("amount_paise > 0", name="amount_positive"),
        Index("ix_sip_user", "user_id", "created_at", "sip_id"),
        Index("ix_sip_due", "next_due_on", postgresql_where=text("state = 'ACTIVE'")),
    )

    sip_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    smallcase_id: Mapped[UUID] = mapped_column(ForeignKey("smallcase.smallcase_id"))
    portfolio_id: Mapped[UUID | None]
    amount_paise: Mapped[int] = mapped_column(Paise)
    frequency: Mapped[str] = mapped_column(Text)
    day: Mapped[int]
    """Day of the month (1 to 31, the last one of shorter months) or of the week (1 Monday to 5 Friday)."""
    mode: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    next_due_on: Mapped[date]
    created_at: Mapped[datetime]


class SipInstalment(Base):
    """One due date of a SIP."""

    __tablename__ = "sip_instalment"
    __table_args__ = (
        CheckConstraint(_one_of("state", DUE_STATES), name="state_known"),
        UniqueConstraint("basket_order_id"),
        Index("ix_sip_instalment_due", "next_try_at", postgresql_where=text("state = 'DUE'")),
    )

    sip_id: Mapped[UUID] = mapped_column(ForeignKey("sip.sip_id"), primary_key=True)
    due_on: Mapped[date] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    basket_order_id: Mapped[UUID | None]
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    next_try_at: Mapped[datetime | None]
    """When the driver places it; null where the user confirms."""
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class AutoRebalanceConsent(Base):
    """Somebody has switched the automatic rebalance of an investment on or off. Insert-only."""

    __tablename__ = "auto_rebalance_consent"
    __table_args__ = (Index("ix_auto_rebalance_consent_investment", "investment_id", "changed_at"),)

    consent_id: Mapped[UUID] = mapped_column(primary_key=True)
    investment_id: Mapped[UUID] = mapped_column(ForeignKey("investment.investment_id"))
    auto_rebalance: Mapped[bool]
    changed_by: Mapped[UUID]
    changed_at: Mapped[datetime]


class AutoRebalance(Base):
    """The automatic rebalance of an investment to one version: its key, so there is one of each."""

    __tablename__ = "auto_rebalance"
    __table_args__ = (
        CheckConstraint(_one_of("state", DUE_STATES), name="state_known"),
        UniqueConstraint("basket_order_id"),
        Index("ix_auto_rebalance_due", "next_try_at", postgresql_where=text("state = 'DUE'")),
    )

    investment_id: Mapped[UUID] = mapped_column(ForeignKey("investment.investment_id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    basket_order_id: Mapped[UUID | None]
    reason_code: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    next_try_at: Mapped[datetime | None]
    """When the driver tries it; null once it is decided."""
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
