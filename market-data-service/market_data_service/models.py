"""Tables of market-data-service. Prices in paise, volumes in shares, dates are IST calendar dates."""

from datetime import date, datetime, time
from typing import ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, MetaData, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common.db import NAMING, Paise, UtcDateTime


class Base(DeclarativeBase):
    """The tables of this service."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar = {datetime: UtcDateTime()}


class Instrument(Base):
    """One line of the broker's instrument file; lines that vanish stay, inactive."""

    __tablename__ = "instrument"
    __table_args__ = (CheckConstraint("tick_paise >= 0 AND lot_size >= 0", name="tick_and_lot"),)

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    instrument_token: Mapped[int] = mapped_column(BigInteger)
    exchange_token: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text)
    isin: Mapped[str | None] = mapped_column(Text)
    """Absent from the broker's file; kept when known from elsewhere."""
    tick_paise: Mapped[int] = mapped_column(Paise)
    lot_size: Mapped[int]
    segment: Mapped[str] = mapped_column(Text)
    instrument_type: Mapped[str] = mapped_column(Text)
    last_seen_on: Mapped[date]
    is_active: Mapped[bool]
    lower_band_paise: Mapped[int | None] = mapped_column(Paise)
    upper_band_paise: Mapped[int | None] = mapped_column(Paise)
    bands_on: Mapped[date | None]


class InstrumentLoad(Base):
    """Every attempt to load an instrument file and what became of it; insert-only."""

    __tablename__ = "instrument_load"
    __table_args__ = (CheckConstraint("outcome IN ('LOADED', 'REFUSED', 'FAILED')", name="outcome"),)

    load_id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    exchange: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str] = mapped_column(Text)
    loaded_at: Mapped[datetime]
    requested_by: Mapped[UUID | None]
    """The admin who asked; None: the daily loop."""
    rows_usable: Mapped[int]
    rows_skipped: Mapped[int]
    active_before: Mapped[int]
    deactivated: Mapped[int]
    detail: Mapped[str | None] = mapped_column(Text)


class StoredPrice(Base):
    """The last price seen, for the time after a restart."""

    __tablename__ = "last_price"
    __table_args__ = (CheckConstraint("price_paise > 0", name="positive"),)

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    price_paise: Mapped[int] = mapped_column(Paise)
    seen_at: Mapped[datetime]


class PriceInterest(Base):
    """Instruments somebody asked a price of; the poller of another process reads them here."""

    __tablename__ = "price_interest"

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    asked_on: Mapped[date]


class CandleDay(Base):
    """A daily candle as the broker gave it."""

    __tablename__ = "candle_day"

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    on_date: Mapped[date] = mapped_column(primary_key=True)
    open_paise: Mapped[int] = mapped_column(Paise)
    high_paise: Mapped[int] = mapped_column(Paise)
    low_paise: Mapped[int] = mapped_column(Paise)
    close_paise: Mapped[int] = mapped_column(Paise)
    volume: Mapped[int] = mapped_column(BigInteger)
    fetched_at: Mapped[datetime]


class CandleCoverage(Base):
    """The one unbroken span of days for which an instrument's final candles are stored."""

    __tablename__ = "candle_coverage"
    __table_args__ = (CheckConstraint("first_on <= last_on", name="span"),)

    exchange: Mapped[str] = mapped_column(Text, primary_key=True)
    tradingsymbol: Mapped[str] = mapped_column(Text, primary_key=True)
    first_on: Mapped[date]
    last_on: Mapped[date]


class CalendarOverride(Base):
    """A day as an admin declared it. Rows are never changed but for the mark that they are no longer in force."""

    __tablename__ = "calendar_override"
    __table_args__ = (
        CheckConstraint("kind IN ('holiday', 'trading_day', 'special_session', 'always_open')", name="kind"),
        CheckConstraint("(kind = 'special_session') = (opens IS NOT NULL)", name="special_hours"),
        CheckConstraint("(opens IS NULL) = (closes IS NULL) AND (opens IS NULL OR opens < closes)", name="hours"),
        Index("uq_calendar_override_in_force", "on_date", unique=True, postgresql_where=text("withdrawn_at IS NULL")),
    )

    override_id: Mapped[UUID] = mapped_column(primary_key=True)
    on_date: Mapped[date]
    kind: Mapped[str] = mapped_column(Text)
    opens: Mapped[time | None]
    closes: Mapped[time | None]
    reason: Mapped[str] = mapped_column(Text)
    created_by: Mapped[UUID]
    created_at: Mapped[datetime]
    withdrawn_by: Mapped[UUID | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None] = mapped_column(Text)


class CorporateAction(Base):
    """A split or bonus issue as an admin entered it, in lowest terms; never changed but for the mark of withdrawal."""

    __tablename__ = "corporate_action"
    __table_args__ = (
        CheckConstraint("kind IN ('SPLIT', 'BONUS')", name="kind"),
        CheckConstraint("new_shares > 0 AND old_shares > 0 AND new_shares <> old_shares", name="ratio"),
        CheckConstraint("kind <> 'BONUS' OR new_shares > old_shares", name="bonus_adds"),
        Index(
            "uq_corporate_action_in_force",
            "exchange",
            "tradingsymbol",
            "ex_date",
            "kind",
            unique=True,
            postgresql_where=text("withdrawn_at IS NULL"),
        ),
    )

    action_id: Mapped[UUID] = mapped_column(primary_key=True)
    exchange: Mapped[str] = mapped_column(Text)
    tradingsymbol: Mapped[str] = mapped_column(Text)
    ex_date: Mapped[date]
    """The first day that is traded in new shares."""
    kind: Mapped[str] = mapped_column(Text)
    new_shares: Mapped[int]
    old_shares: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)
    created_by: Mapped[UUID]
    created_at: Mapped[datetime]
    withdrawn_by: Mapped[UUID | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_reason: Mapped[str | None] = mapped_column(Text)
