"""Tables of analytics-service: its own read model, built from facts and from nothing else.

Every row is keyed by what it is about, so facts may repeat and overtake each other without changing the result.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common import catching_up, outbox
from common.db import NAMING, Paise, UtcDateTime


class Base(DeclarativeBase):
    """All tables of this room."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012


outbox.add_tables(Base.metadata)
catching_up.add_tables(Base.metadata)


class OrderFact(Base):
    """The newest known state of an order: the one with the highest `order_version`."""

    __tablename__ = "order_fact"
    __table_args__ = (
        Index("ix_order_fact_user_id", "user_id"),
        Index("ix_order_fact_trading_date", "trading_date"),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_version: Mapped[int]
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    filled_quantity: Mapped[int]
    amount_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    reason_code: Mapped[str | None] = mapped_column(Text)
    trading_date: Mapped[date]
    occurred_at: Mapped[datetime]


class Trade(Base):
    """What one version of an order added to it: shares, their value without charges, and charges. Insert-only."""

    __tablename__ = "trade"
    __table_args__ = (
        CheckConstraint("side IN ('BUY', 'SELL')", name="side_known"),
        CheckConstraint("quantity >= 0 AND amount_paise >= 0", name="not_negative"),
        Index("ix_trade_user_id", "user_id"),
        Index("ix_trade_trading_date", "trading_date"),
    )

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_version: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    amount_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    trading_date: Mapped[date]
    occurred_at: Mapped[datetime]


class CashFlow(Base):
    """Money that entered (TOPUP, DEPOSIT) or left (WITHDRAWAL) a portfolio other than by a trade. Insert-only."""

    __tablename__ = "cash_flow"
    __table_args__ = (
        CheckConstraint("kind IN ('TOPUP', 'DEPOSIT', 'WITHDRAWAL')", name="kind_known"),
        CheckConstraint("amount_paise > 0", name="amount_positive"),
        Index("ix_cash_flow_user_id", "user_id"),
    )

    transfer_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    amount_paise: Mapped[int] = mapped_column(Paise)
    occurred_at: Mapped[datetime]
