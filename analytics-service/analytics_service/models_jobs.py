"""Tables of long work: jobs, what they made, and the rows of a file they could not take."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from analytics_service.model_base import Base


class Job(Base):
    """A report to make or a file to import. Rows decide: a wake-up, lost or doubled, changes nothing.

    A worker holds a job until `held_until`; one that dies lets it go by not coming back.
    """

    __tablename__ = "job"
    __table_args__ = (
        CheckConstraint("state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')", name="state_known"),
        CheckConstraint("kind IN ('REPORT', 'IMPORT')", name="kind_known"),
        CheckConstraint("progress_done BETWEEN 0 AND progress_total", name="progress_in_range"),
        CheckConstraint("(cadence IS NULL) = (period_end IS NULL)", name="cadence_has_period"),
        Index(
            "uq_job_automatic",
            "user_id",
            "cadence",
            "period_end",
            unique=True,
            postgresql_where=text("cadence IS NOT NULL"),
        ),
        Index("ix_job_user_id_created_at", "user_id", "created_at", "job_id"),
        Index("ix_job_open", "created_at", postgresql_where=text("state IN ('QUEUED', 'RUNNING')")),
    )

    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    asked: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """What the user asked for, as the request was."""
    cadence: Mapped[str | None] = mapped_column(Text)
    """`daily` or `monthly` for a report that is made by itself; null for what a user asked for."""
    period_end: Mapped[date | None]
    """The last day of what an automatic report is about; there is one for each user, cadence and period."""
    progress_done: Mapped[int]
    progress_total: Mapped[int]
    attempts: Mapped[int]
    held_until: Mapped[datetime | None]
    problem_code: Mapped[str | None] = mapped_column(Text)
    problem: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class JobFile(Base):
    """What a job made (`result`) or was given (`upload`)."""

    __tablename__ = "job_file"
    __table_args__ = (CheckConstraint("role IN ('result', 'upload')", name="role_known"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.job_id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    media_type: Mapped[str] = mapped_column(Text)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportProblem(Base):
    """Why a row of a file was not taken."""

    __tablename__ = "import_problem"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("job.job_id", ondelete="CASCADE"), primary_key=True)
    problem_no: Mapped[int] = mapped_column(primary_key=True)
    row_number: Mapped[int]
    column_name: Mapped[str] = mapped_column(Text)
    code: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text)
