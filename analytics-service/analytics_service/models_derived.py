"""Tables that are made from facts and closes, and may be made again at any time: prices, daily values, lots."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from analytics_service.model_base import Base
from common.db import Paise


class DailyClose(Base):
    """The close of a share or index on one day, as market-data-service gives it; today's is of the moment."""

    __tablename__ = "daily_close"

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    on_date: Mapped[date] = mapped_column(primary_key=True)
    close_paise: Mapped[int] = mapped_column(Paise)


class CloseCoverage(Base):
    """The days for which a share's closes were asked for, and when last."""

    __tablename__ = "close_coverage"
    __table_args__ = (CheckConstraint("first_on <= last_on", name="span"),)

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    first_on: Mapped[date]
    last_on: Mapped[date]
    asked_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    """When the answer was last complete; null: not since this is kept."""


class CloseChange(Base):
    """That closes changed, and from which day on: values of portfolios from that day on are made again."""

    __tablename__ = "close_change"

    change_no: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    from_date: Mapped[date]
    changed_at: Mapped[datetime]


class TradingDay(Base):
    """A day that any share or index has a close of: the days that portfolios are valued on."""

    __tablename__ = "trading_day"

    on_date: Mapped[date] = mapped_column(primary_key=True)


class ValuedPortfolio(Base):
    """Up to which facts and closes a portfolio's daily values are made."""

    __tablename__ = "valued_portfolio"
    __table_args__ = (Index("ix_valued_portfolio_user_id", "user_id"),)

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    fact_count: Mapped[int]
    change_no: Mapped[int] = mapped_column(BigInteger)


class DailyValue(Base):
    """A portfolio at the end of a day: shares at their closes, cash, what was put in that day, facts so far."""

    __tablename__ = "daily_value"

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_date: Mapped[date] = mapped_column(primary_key=True)
    shares_paise: Mapped[int] = mapped_column(Paise)
    cash_paise: Mapped[int] = mapped_column(Paise)
    flow_paise: Mapped[int] = mapped_column(Paise)
    fact_count: Mapped[int]


class ShareBook(Base):
    """Up to which facts the lots of one share of a portfolio are made."""

    __tablename__ = "share_book"

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    product: Mapped[str] = mapped_column(Text, primary_key=True)
    fact_count: Mapped[int]


class OpenLot(Base):
    """Shares still held (negative: owed) of one fill, oldest first."""

    __tablename__ = "open_lot"

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    product: Mapped[str] = mapped_column(Text, primary_key=True)
    lot_no: Mapped[int] = mapped_column(primary_key=True)
    acquired_on: Mapped[date]
    quantity: Mapped[int]
    cost_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)


class LotDisposal(Base):
    """A part of a lot that an order closed; charges are those of both sides."""

    __tablename__ = "lot_disposal"
    __table_args__ = (Index("ix_lot_disposal_portfolio_id_disposed_on", "portfolio_id", "disposed_on"),)

    portfolio_id: Mapped[UUID] = mapped_column(primary_key=True)
    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    product: Mapped[str] = mapped_column(Text, primary_key=True)
    disposal_no: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[UUID]
    acquired_on: Mapped[date]
    disposed_on: Mapped[date]
    quantity: Mapped[int]
    cost_paise: Mapped[int] = mapped_column(Paise)
    proceeds_paise: Mapped[int] = mapped_column(Paise)
    charges_paise: Mapped[int] = mapped_column(Paise)


DERIVED_FROM_FACTS = (LotDisposal, OpenLot, ShareBook, DailyValue, ValuedPortfolio)
"""Thrown away and made again by a rebuild; closes are market-data-service's word and stay."""
