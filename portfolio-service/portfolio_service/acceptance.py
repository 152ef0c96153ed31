"""Acceptance of user orders: ONE path over a list of orders, for a single order, a batch, a basket or a shared commit.

`market_view.observe` reads the market before any transaction; `accept_all` judges submissions one after the other
against locked balances and writes everything with a handful of statements, however many orders there are. Nothing here
commits.

Lock order: trader rows (by user id), then accounts (by account id). A trader row makes the orders of one user wait for
each other, which is what makes the limits per user exact under concurrency.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from common.clock import Clock
from common.db import Database
from portfolio_service import risk
from portfolio_service.desk import Desk
from portfolio_service.market_view import MarketView
from portfolio_service.risk import Limits, Refusal, Terms
from portfolio_service.submissions import Outcome, Submission, all_refused


def accept(
    session: Session,
    *,
    submission: Submission,
    view: MarketView,
    clock: Clock,
    limits: Limits,
    paper_cash_paise: int = 0,
) -> list[Outcome]:
    """Judge and take the orders of one submission; see `accept_all`."""
    return accept_all(
        session, [submission], view=view, now=clock.now(), limits=limits, paper_cash_paise=paper_cash_paise
    )[0]


def accept_all(
    session: Session,
    submissions: Sequence[Submission],
    *,
    view: MarketView,
    now: datetime,
    limits: Limits,
    paper_cash_paise: int = 0,
) -> list[list[Outcome]]:
    """Judge submissions in their order, each alone, and write all accepted orders together.

    Of an atomic submission either every order is accepted or none. The caller's transaction makes it true; raises
    Unavailable when charges can not be computed for lack of a schedule row.
    """
    answers, desk = _judge_all(session, submissions, view, now, limits, paper_cash_paise)
    if desk is not None:
        desk.write()
    return answers


def preview(
    db: Database,
    *,
    submission: Submission,
    view: MarketView,
    clock: Clock,
    limits: Limits,
    paper_cash_paise: int = 0,
) -> list[Outcome]:
    """What `accept` would answer now; nothing is kept, also not what judging itself makes (a first portfolio)."""
    with db.session() as session:
        answers, _ = _judge_all(session, [submission], view, clock.now(), limits, paper_cash_paise)
        session.rollback()
    return answers[0]


def _judge_all(
    session: Session,
    submissions: Sequence[Submission],
    view: MarketView,
    now: datetime,
    limits: Limits,
    paper_cash_paise: int,
) -> tuple[list[list[Outcome]], Desk | None]:
    judged = [_judge_market(submission, view, limits, now) for submission in submissions]
    hopeful = [
        submission for submission, results in zip(submissions, judged, strict=True) if not _is_lost(submission, results)
    ]
    desk = Desk(session, hopeful, now, limits, paper_cash_paise) if hopeful else None
    answers: list[list[Outcome]] = []
    for submission, results in zip(submissions, judged, strict=True):
        if desk is None or _is_lost(submission, results):
            answers.append(all_refused(results))
        else:
            answers.append(desk.judge(submission, results))
    return answers, desk


def _judge_market(submission: Submission, view: MarketView, limits: Limits, now: datetime) -> list[Terms | Refusal]:
    return [
        risk.judge(request, view.of(request), limits, now=now, kyc=submission.kyc) for request in submission.requests
    ]


def _is_lost(submission: Submission, results: Sequence[Terms | Refusal]) -> bool:
    refused = sum(isinstance(result, Refusal) for result in results)
    return refused == len(results) or (submission.atomic and refused > 0)
