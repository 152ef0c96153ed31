"""What is asked and answered about reports that are made by themselves."""

from datetime import date
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class ReportScheduleBody(BaseModel):
    """Which reports to make by themselves; what is left out is off."""

    model_config = ConfigDict(extra="forbid")

    daily: bool = False
    """After every trading day, when its closes are in."""
    monthly: bool = False
    """On the first of the next month, when the month's closes are in."""


class MadeReport(BaseModel):
    """The newest automatic report of a kind."""

    period_end: date
    report_id: UUID
    """It is gone when it was removed or is older than reports are kept."""


class ReportScheduleView(BaseModel):
    """Which reports are made by themselves, and the newest of each kind."""

    daily: bool
    monthly: bool
    newest_daily: MadeReport | None
    newest_monthly: MadeReport | None
