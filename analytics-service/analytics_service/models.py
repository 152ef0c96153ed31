"""Tables of analytics-service: its own read model, built from facts and from nothing else.

Facts are keyed by what they are about, so they may repeat and overtake each other without changing the result. What is
derived from them (`models_derived`) can be thrown away and made again.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

import analytics_service.models_derived
import analytics_service.models_jobs
import analytics_service.models_schedule  # noqa: F401  the other tables of the schema
from analytics_service.model_base import Base
from common.db import Paise


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
        Index("ix_trade_portfolio_id_trading_date", "portfolio_id", "trading_date"),
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
        Index("ix_cash_flow_portfolio_id", "portfolio_id"),
    )

    transfer_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    portfolio_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    amount_paise: Mapped[int] = mapped_column(Paise)
    occurred_at: Mapped[datetime]


class OrderBlock(Base):
    """The block that an order went to the broker in. An order may have been in several. Insert-only."""

    __tablename__ = "order_block"
    __table_args__ = (Index("ix_order_block_block_id", "block_id"),)

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    block_id: Mapped[UUID] = mapped_column(primary_key=True)
    occurred_at: Mapped[datetime]


class BasketFact(Base):
    """The newest state of a basket order of a smallcase: what was bought and sold for an investment."""

    __tablename__ = "basket_fact"
    __table_args__ = (
        Index("ix_basket_fact_user_id", "user_id"),
        Index("ix_basket_fact_smallcase_id", "smallcase_id"),
    )

    basket_order_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    investment_id: Mapped[UUID]
    smallcase_id: Mapped[UUID]
    smallcase_name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    orders: Mapped[int]
    orders_filled: Mapped[int]
    bought_paise: Mapped[int] = mapped_column(Paise)
    sold_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    occurred_at: Mapped[datetime]


class ImportedPortfolio(Base):
    """A portfolio that a user holds elsewhere and brought by file; it has no cash and is in no ledger."""

    __tablename__ = "imported_portfolio"
    __table_args__ = (UniqueConstraint("user_id", "name"),)

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class ImportedTrade(Base):
    """One row of a user's file. `row_key` says which: the same row brought again changes nothing."""

    __tablename__ = "imported_trade"
    __table_args__ = (
        CheckConstraint("side IN ('BUY', 'SELL')", name="side_known"),
        CheckConstraint("quantity > 0 AND amount_paise >= 0 AND charges_paise >= 0", name="not_negative"),
        Index("ix_imported_trade_portfolio_id_trading_date", "portfolio_id", "trading_date"),
    )

    portfolio_id: Mapped[UUID] = mapped_column(ForeignKey("imported_portfolio.portfolio_id"), primary_key=True)
    row_key: Mapped[str] = mapped_column(Text, primary_key=True)
    order_id: Mapped[UUID]
    user_id: Mapped[UUID]
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    side: Mapped[str] = mapped_column(Text)
    product: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    amount_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)
    trading_date: Mapped[date]
    row_number: Mapped[int]
