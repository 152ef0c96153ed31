"""Taking a user's file: checked whole, then written whole, beside the ledger and never into it."""

from datetime import datetime
from uuid import UUID, uuid4, uuid5

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from analytics_service import jobs
from analytics_service.desk import Desk
from analytics_service.facts import Portfolio
from analytics_service.import_rows import Parsed, Problem, TradeRow, parse
from analytics_service.models import ImportedPortfolio, ImportedTrade
from analytics_service.models_derived import DERIVED_FROM_FACTS
from analytics_service.models_jobs import ImportProblem, Job
from analytics_service.valuing import bring_up_to_date
from common.clock import trading_date
from common.errors import Conflict, Unprocessable
from common.logging import get_logger

log = get_logger(__name__)

ROWS_A_STATEMENT = 2_000
PROBLEMS_KEPT_MAX = 1_000
"""Of one file; how many there are in all is counted."""
PORTFOLIOS_MAX = 20
"""Imported portfolios of one user."""


class ImportRefused(Unprocessable):
    """Nothing was taken: rows of the file have problems."""


class TooManyImportedPortfolios(Conflict):
    """The user has as many imported portfolios as are allowed."""


def take(desk: Desk, job: Job) -> None:
    """Do an import: all rows or none; only the good ones with `partial`."""
    with desk.db.session() as session:
        upload = jobs.file_of(session, job.job_id, "upload")
    if upload is None:
        raise ImportRefused("The file is no longer there; send it again.", code="upload_gone")
    asked = job.asked
    parsed = parse(upload.content, asked["rows"], trading_date(desk.clock.now()))
    steps = 2 * max(parsed.row_count, 1)
    jobs.progress(desk, job, parsed.row_count, steps)
    now = desk.clock.now()
    refused = parsed.problems and (not asked["partial"] or parsed.problems[0].row == 1)
    with desk.db.transaction() as session:
        _store_problems(session, job, parsed.problems)
        if refused or not parsed.rows:
            code, problem = _refusal(parsed)
            jobs.end_failed(session, job, code, problem, now)
    if refused or not parsed.rows:
        return
    with desk.db.transaction() as session:
        portfolio_id = imported_portfolio(session, job.user_id, asked["name"], now)
        for start in range(0, len(parsed.rows), ROWS_A_STATEMENT):
            _store_rows(session, job.user_id, portfolio_id, parsed.rows[start : start + ROWS_A_STATEMENT])
            jobs.progress(desk, job, parsed.row_count + start, steps)
        if not jobs.finish(session, job, now):
            session.rollback()
            return
    log.info("import.taken", job_id=str(job.job_id), rows=len(parsed.rows), left_out=parsed.bad_rows)
    with desk.db.transaction() as session:
        bring_up_to_date(session, Portfolio(portfolio_id, job.user_id, is_imported=True))


def imported_portfolio(session: Session, user_id: UUID, name: str, now: datetime) -> UUID:
    """The user's imported portfolio of that name, made when there is none; raises TooManyImportedPortfolios."""
    known = session.scalar(
        select(ImportedPortfolio.portfolio_id).where(
            ImportedPortfolio.user_id == user_id, ImportedPortfolio.name == name
        )
    )
    if known is not None:
        return known
    count = session.scalar(select(func.count()).where(ImportedPortfolio.user_id == user_id)) or 0
    if count >= PORTFOLIOS_MAX:
        raise TooManyImportedPortfolios(f"At most {PORTFOLIOS_MAX} imported portfolios; remove one first.")
    statement = insert(ImportedPortfolio).values(portfolio_id=uuid4(), user_id=user_id, name=name, created_at=now)
    session.execute(statement.on_conflict_do_nothing())
    return session.execute(
        select(ImportedPortfolio.portfolio_id).where(
            ImportedPortfolio.user_id == user_id, ImportedPortfolio.name == name
        )
    ).scalar_one()


def remove_portfolio(session: Session, portfolio_id: UUID) -> None:
    """Remove an imported portfolio and all that was made of it."""
    for table in (*DERIVED_FROM_FACTS, ImportedTrade, ImportedPortfolio):
        session.execute(delete(table).where(table.portfolio_id == portfolio_id))


def _refusal(parsed: Parsed) -> tuple[str, str]:
    if not parsed.problems:
        return "no_rows", "The file has no rows under its head."
    if parsed.problems[0].row == 1:
        return parsed.problems[0].code, parsed.problems[0].message
    problem = (
        f"{parsed.bad_rows} of {parsed.row_count} rows have problems; nothing was imported. Mend them, or send the file"
        " with partial=true to take the others."
    )
    return "rows_have_problems", problem


def _store_problems(session: Session, job: Job, problems: list[Problem]) -> None:
    session.execute(delete(ImportProblem).where(ImportProblem.job_id == job.job_id))
    kept = problems[:PROBLEMS_KEPT_MAX]
    if kept:
        session.execute(
            insert(ImportProblem),
            [
                {
                    "job_id": job.job_id,
                    "problem_no": number,
                    "row_number": problem.row,
                    "column_name": problem.column,
                    "code": problem.code,
                    "message": problem.message,
                }
                for number, problem in enumerate(kept)
            ],
        )


def _store_rows(session: Session, user_id: UUID, portfolio_id: UUID, rows: list[TradeRow]) -> None:
    statement = insert(ImportedTrade).on_conflict_do_nothing()
    session.execute(
        statement,
        [
            {
                "portfolio_id": portfolio_id,
                "row_key": row.key,
                "order_id": uuid5(portfolio_id, row.key),
                "user_id": user_id,
                "exchange": row.exchange,
                "tradingsymbol": row.tradingsymbol,
                "side": row.side,
                "product": row.product,
                "quantity": row.quantity,
                "amount_paise": row.amount_paise,
                "charges_paise": row.charges_paise,
                "trading_date": row.on,
                "row_number": row.row,
            }
            for row in rows
        ],
    )
