"""The table of reports that are made by themselves: who wants which, and up to which period they are made."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from analytics_service.model_base import Base


class ReportSchedule(Base):
    """One kind of automatic report of one user. Whoever makes a report holds this row and moves `made_for` forward."""

    __tablename__ = "report_schedule"
    __table_args__ = (
        CheckConstraint("cadence IN ('daily', 'monthly')", name="cadence_known"),
        Index("ix_report_schedule_wanted", "cadence", "looked_at", postgresql_where=text("since IS NOT NULL")),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    cadence: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[datetime | None]
    """When it was switched on; null: off. Periods that were over by then are not made up for."""
    made_for: Mapped[date | None]
    """The last day of the newest period that was dealt with; it only moves forward."""
    job_id: Mapped[UUID | None]
    """The newest report; it may have been removed since."""
    looked_at: Mapped[datetime | None]
    """Whoever has waited longest for closes is looked at first."""
