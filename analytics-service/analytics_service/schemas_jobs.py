"""Answers about long work: reports, imports, imported portfolios."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, PlainSerializer

from analytics_service.models import ImportedPortfolio
from analytics_service.models_jobs import ImportProblem, Job
from common.clock import to_ist

IstDateTime = Annotated[datetime, PlainSerializer(lambda instant: to_ist(instant).isoformat(), return_type=str)]


class JobView(BaseModel):
    """A report or an import: how far it is, and what became of it."""

    job_id: UUID
    state: str
    """QUEUED, RUNNING, DONE or FAILED."""
    progress: float
    """From 0 to 1."""
    asked: dict[str, Any]
    cadence: str | None
    """`daily` or `monthly` when it is made by itself."""
    problem_code: str | None
    problem: str | None
    created_at: IstDateTime
    finished_at: IstDateTime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """As it stands."""
        return cls(
            job_id=job.job_id,
            state=job.state,
            progress=job.progress_done / job.progress_total,
            asked={key: value for key, value in job.asked.items() if value is not None},
            cadence=job.cadence,
            problem_code=job.problem_code,
            problem=job.problem,
            created_at=job.created_at,
            finished_at=job.finished_at,
        )


class JobPage(BaseModel):
    """Newest first; `next_cursor` is null on the last page."""

    items: list[JobView]
    next_cursor: str | None


class ProblemView(BaseModel):
    """Why a row of a file was not taken. Row 1 is the file's head."""

    row: int
    column: str
    code: str
    message: str

    @classmethod
    def of(cls, problem: ImportProblem) -> Self:
        """As stored."""
        return cls(row=problem.row_number, column=problem.column_name, code=problem.code, message=problem.message)


class ProblemPage(BaseModel):
    """In the order of the file; `next` is the `after` of the next page, null at the end."""

    items: list[ProblemView]
    next: int | None


class ImportedPortfolioView(BaseModel):
    """A portfolio brought by file; its figures are asked for with `portfolio_id`."""

    portfolio_id: UUID
    name: str
    created_at: IstDateTime

    @classmethod
    def of(cls, portfolio: ImportedPortfolio) -> Self:
        """As stored."""
        return cls(portfolio_id=portfolio.portfolio_id, name=portfolio.name, created_at=portfolio.created_at)


class ImportedPortfolios(BaseModel):
    """By name."""

    items: list[ImportedPortfolioView]
