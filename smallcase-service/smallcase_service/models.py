"""Tables of smallcase-service. A smallcase points at its newest version; versions never change."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from smallcase_service.attributes import (
    BENCHMARK_DEFAULT,
    CATEGORY_DEFAULT,
    FREQUENCIES,
    REGION_DEFAULT,
    RISK_LEVELS,
    WEIGHTINGS,
)
from smallcase_service.base import Base
from smallcase_service.models_investments import (
    AutoRebalance,
    AutoRebalanceConsent,
    BasketLeg,
    BasketOrder,
    Investment,
    Sip,
    SipInstalment,
)

__all__ = [
    "AutoRebalance",
    "AutoRebalanceConsent",
    "Base",
    "BasketLeg",
    "BasketOrder",
    "Investment",
    "Sip",
    "SipInstalment",
    "Smallcase",
    "SmallcaseConstituent",
    "SmallcaseVersion",
]


def _one_of(column: str, words: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{word}'" for word in words)
    return f"{column} IN ({listed})"


class Smallcase(Base):
    """Identity and owner of a smallcase, and the number of its newest version."""

    __tablename__ = "smallcase"
    __table_args__ = (
        Index("ix_smallcase_newest", "created_at", "smallcase_id"),
        Index("ix_smallcase_owner_id", "owner_id"),
    )

    smallcase_id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    owner_id: Mapped[UUID]
    version: Mapped[int]
    created_at: Mapped[datetime]


class SmallcaseVersion(Base):
    """What a smallcase was from one change to the next: who changed it and why. Insert-only."""

    __tablename__ = "smallcase_version"
    __table_args__ = (
        CheckConstraint("visibility IN ('private', 'published')", name="visibility_known"),
        CheckConstraint(_one_of("risk_level", RISK_LEVELS), name="risk_level_known"),
        CheckConstraint(_one_of("rebalancing_frequency", FREQUENCIES), name="frequency_known"),
        CheckConstraint(_one_of("weighting", WEIGHTINGS), name="weighting_known"),
        CheckConstraint("expense_ratio_bps BETWEEN 0 AND 1000", name="expense_ratio_in_range"),
    )

    smallcase_id: Mapped[UUID] = mapped_column(ForeignKey("smallcase.smallcase_id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    visibility: Mapped[str] = mapped_column(Text)
    category: Mapped[str] = mapped_column(Text, server_default=CATEGORY_DEFAULT)
    theme: Mapped[str] = mapped_column(Text, server_default="")
    region: Mapped[str] = mapped_column(Text, server_default=REGION_DEFAULT)
    risk_level: Mapped[str | None] = mapped_column(Text)
    benchmark: Mapped[str] = mapped_column(Text, server_default=BENCHMARK_DEFAULT)
    rationale: Mapped[str] = mapped_column(Text, server_default="")
    rebalancing_frequency: Mapped[str] = mapped_column(Text, server_default="none")
    expense_ratio_bps: Mapped[int] = mapped_column(server_default="0")
    weighting: Mapped[str] = mapped_column(Text, server_default="custom")
    weighting_note: Mapped[str] = mapped_column(Text, server_default="")
    reason: Mapped[str] = mapped_column(Text)
    changed_by: Mapped[UUID]
    created_at: Mapped[datetime]


class SmallcaseConstituent(Base):
    """One share of a version and its weight. Insert-only."""

    __tablename__ = "smallcase_constituent"
    __table_args__ = (
        ForeignKeyConstraint(
            ["smallcase_id", "version"], ["smallcase_version.smallcase_id", "smallcase_version.version"]
        ),
        UniqueConstraint("smallcase_id", "version", "exchange", "tradingsymbol", name="uq_smallcase_constituent_share"),
        CheckConstraint("weight_bps BETWEEN 1 AND 10000", name="weight_in_range"),
    )

    smallcase_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    """Order in which the maker named the shares, from 0."""
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    weight_bps: Mapped[int]
    rationale: Mapped[str] = mapped_column(Text, server_default="")
