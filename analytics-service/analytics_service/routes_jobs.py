"""/api/v1/analytics/reports and /imports: long work is asked for, watched and fetched; everybody sees only their own."""

import base64
import binascii
import hashlib
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import delete, select, tuple_
from sqlalchemy.orm import Session

from analytics_service import facts, importing, jobs
from analytics_service.asking import PortfolioNotFound
from analytics_service.import_rows import BYTES_MAX
from analytics_service.models import ImportedPortfolio
from analytics_service.models_jobs import ImportProblem, Job
from analytics_service.pages import REPORT_CSP
from analytics_service.report_kinds import ReportIn
from analytics_service.schemas_jobs import (
    ImportedPortfolios,
    ImportedPortfolioView,
    JobPage,
    JobView,
    ProblemPage,
    ProblemView,
)
from analytics_service.wakeup import Wakeup
from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep
from common.errors import AppError, Conflict, NotFound, Unprocessable
from common.idempotency import IdempotencyKey, answer_once

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])

PAGE_MAX, PAGE_DEFAULT = 100, 20
REPORT, IMPORT = "REPORT", "IMPORT"
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Cursor = Annotated[str | None, Query(max_length=120)]


class ReportNotFound(NotFound):
    """Absent, removed, or somebody else's."""


class ImportNotFound(NotFound):
    """Absent, removed, or somebody else's."""


class ReportNotReady(Conflict):
    """The report is not made yet, or could not be made."""


class JobStillOpen(Conflict):
    """What is being worked on cannot be removed."""


class CursorInvalid(Unprocessable):
    """The cursor was not made by the page before."""


class FileTooLarge(AppError):
    """The file is larger than is taken at once (413)."""

    status = 413


class ImportIn(BaseModel):
    """What an import asks for; the file is known by its digest."""

    name: str
    rows: Literal["trades", "holdings"]
    partial: bool
    sha256: str
    bytes: int


def _ring(request: Request) -> None:
    """Wake a worker. It may look before this request has committed and find nothing: then the loop finds the job."""
    wakeup: Wakeup = request.app.state.wakeup
    wakeup.work()


# --- reports --------------------------------------------------------------------------------------------------------


@router.post("/reports", status_code=202, responses={202: {"model": JobView}})
def ask_report(
    request: Request, body: ReportIn, user: User, key: IdempotencyKey, session: SessionDep, clock: ClockDep
) -> Response:
    """Ask for a report: it is made in the background, and a notice says when it can be fetched."""

    def produce() -> tuple[int, JobView]:
        if body.portfolio_id is not None and facts.portfolio_of(session, user.user_id, body.portfolio_id) is None:
            raise PortfolioNotFound("There is no such portfolio, or nothing has happened in it yet.")
        asked = body.model_dump(mode="json", by_alias=True)
        return 202, JobView.of(jobs.add(session, user.user_id, REPORT, asked, clock.now()))

    answer = answer_once(session, user.user_id, key, "analytics/reports", body, produce)
    _ring(request)
    return answer


@router.get("/reports")
def list_reports(user: User, session: SessionDep, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> JobPage:
    """The caller's reports, newest first; they are kept for 30 days."""
    return _page(session, user.user_id, REPORT, limit, cursor)


@router.get("/reports/{report_id}")
def report(report_id: UUID, user: User, session: SessionDep) -> JobView:
    """How far a report is."""
    return JobView.of(_job(session, user.user_id, REPORT, report_id))


@router.get(
    "/reports/{report_id}/file",
    response_class=Response,
    responses={200: {"content": {"text/html": {}, "application/pdf": {}, "text/csv": {}}}},
)
def report_file(
    report_id: UUID,
    user: User,
    session: SessionDep,
    download: Annotated[bool, Query(description="Save it, even if a browser could show it.")] = False,
) -> Response:
    """The report itself."""
    job = _job(session, user.user_id, REPORT, report_id)
    file = jobs.file_of(session, report_id, "result")
    if file is None:
        raise ReportNotReady(job.problem or "The report is not made yet; look at its progress.", state=job.state)
    shows = not download and file.media_type.startswith(("text/html", "application/pdf"))
    headers = {
        "Content-Disposition": f"{'inline' if shows else 'attachment'}; filename*=UTF-8''{quote(file.name)}",
        "Content-Security-Policy": REPORT_CSP,
        "Cache-Control": "no-store",
    }
    return Response(file.content, media_type=file.media_type, headers=headers)


@router.delete("/reports/{report_id}", status_code=204)
def remove_report(report_id: UUID, user: User, session: SessionDep) -> None:
    """Remove a report that is made or has failed."""
    _remove(session, _job(session, user.user_id, REPORT, report_id))


# --- imports --------------------------------------------------------------------------------------------------------


@router.post(
    "/imports",
    status_code=202,
    responses={202: {"model": JobView}, 413: {"description": f"More than {BYTES_MAX} bytes."}},
    openapi_extra={"requestBody": {"content": {"text/csv": {"schema": {"type": "string"}}}, "required": True}},
)
def ask_import(
    request: Request,
    user: User,
    key: IdempotencyKey,
    session: SessionDep,
    clock: ClockDep,
    name: Annotated[
        str, Query(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$", description="The imported portfolio.")
    ],
    content: Annotated[bytes, Body(media_type="text/csv")],
    rows: Annotated[Literal["trades", "holdings"], Query(description="What a row of the file is.")] = "trades",
    partial: Annotated[bool, Query(description="Take the good rows even when others have problems.")] = False,
) -> Response:
    """Bring a CSV of trades or holdings from elsewhere into an imported portfolio, which is in no ledger.

    Nothing is taken while any row has a problem, unless `partial`; the problems are listed by row. The same row brought
    again changes nothing.
    """
    if len(content) > BYTES_MAX:
        raise FileTooLarge(f"The file may have at most {BYTES_MAX} bytes.", bytes_max=BYTES_MAX)
    asked = ImportIn(
        name=name, rows=rows, partial=partial, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
    )

    def produce() -> tuple[int, JobView]:
        upload = jobs.File("upload.csv", "text/csv", content)
        job = jobs.add(session, user.user_id, IMPORT, asked.model_dump(), clock.now(), upload=upload)
        return 202, JobView.of(job)

    answer = answer_once(session, user.user_id, key, "analytics/imports", asked, produce)
    _ring(request)
    return answer


@router.get("/imports")
def list_imports(user: User, session: SessionDep, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None) -> JobPage:
    """The caller's imports, newest first."""
    return _page(session, user.user_id, IMPORT, limit, cursor)


@router.get("/imports/{import_id}")
def import_(import_id: UUID, user: User, session: SessionDep) -> JobView:
    """How far an import is."""
    return JobView.of(_job(session, user.user_id, IMPORT, import_id))


@router.get("/imports/{import_id}/problems")
def import_problems(
    import_id: UUID,
    user: User,
    session: SessionDep,
    after: Annotated[int, Query(ge=-1, le=1_000_000)] = -1,
    limit: Limit = PAGE_MAX,
) -> ProblemPage:
    """The rows that could not be taken, and why; the first 1,000 are kept."""
    _job(session, user.user_id, IMPORT, import_id)
    found = session.scalars(
        select(ImportProblem)
        .where(ImportProblem.job_id == import_id, ImportProblem.problem_no > after)
        .order_by(ImportProblem.problem_no)
        .limit(limit + 1)
    ).all()
    shown = found[:limit]
    return ProblemPage(
        items=[ProblemView.of(problem) for problem in shown],
        next=shown[-1].problem_no if len(found) > limit else None,
    )


@router.get("/portfolios")
def imported_portfolios(user: User, session: SessionDep) -> ImportedPortfolios:
    """The caller's imported portfolios."""
    rows = session.scalars(
        select(ImportedPortfolio)
        .where(ImportedPortfolio.user_id == user.user_id)
        .order_by(ImportedPortfolio.name)
        .limit(importing.PORTFOLIOS_MAX)
    )
    return ImportedPortfolios(items=[ImportedPortfolioView.of(row) for row in rows])


@router.delete("/portfolios/{portfolio_id}", status_code=204)
def remove_imported_portfolio(portfolio_id: UUID, user: User, session: SessionDep) -> None:
    """Remove an imported portfolio with all its rows."""
    row = session.get(ImportedPortfolio, portfolio_id)
    if row is None or row.user_id != user.user_id:
        raise PortfolioNotFound("There is no such imported portfolio.")
    importing.remove_portfolio(session, portfolio_id)


# --- both -----------------------------------------------------------------------------------------------------------


def _job(session: Session, user_id: UUID, kind: str, job_id: UUID) -> Job:
    job = session.get(Job, job_id)
    if job is None or (job.user_id, job.kind) != (user_id, kind):
        missing = ReportNotFound if kind == REPORT else ImportNotFound
        raise missing(f"There is no such {kind.lower()}.")
    return job


def _page(session: Session, user_id: UUID, kind: str, limit: int, cursor: str | None) -> JobPage:
    statement = select(Job).where(Job.user_id == user_id, Job.kind == kind)
    if cursor is not None:
        statement = statement.where(tuple_(Job.created_at, Job.job_id) < _position(cursor))
    found = session.scalars(statement.order_by(Job.created_at.desc(), Job.job_id.desc()).limit(limit + 1)).all()
    shown = found[:limit]
    more = _cursor(shown[-1]) if len(found) > limit else None
    return JobPage(items=[JobView.of(job) for job in shown], next_cursor=more)


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()}|{job.job_id}".encode()).decode()


def _position(cursor: str) -> tuple[datetime, UUID]:
    try:
        at, _, job_id = base64.b64decode(cursor, altchars=b"-_", validate=True).decode().partition("|")
        instant, identity = datetime.fromisoformat(at), UUID(job_id)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise CursorInvalid("Take the cursor from next_cursor of the page before, unchanged.") from None
    if instant.tzinfo is None:
        raise CursorInvalid("Take the cursor from next_cursor of the page before, unchanged.")
    return instant, identity


def _remove(session: Session, job: Job) -> None:
    if job.state not in (jobs.DONE, jobs.FAILED):
        raise JobStillOpen("It is still being worked on; wait for its end.", state=job.state)
    session.execute(delete(Job).where(Job.job_id == job.job_id))
