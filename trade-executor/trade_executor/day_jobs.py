"""What is done once a day (execution.md 3.11): the check before trading, and after the close the broker's last word on the
day with a report. A row by (job, day) makes each of them once, however many loops run; there is no scheduler.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.clock import trading_date
from common.logging import get_logger
from common.market_data import SessionInfo
from trade_executor import breaks, day_figures, kill_switch
from trade_executor.desk import Desk
from trade_executor.models import DaySnapshot, JobRun, ReconRun
from trade_executor.reconciling import Books, Outcome, Scope

log = get_logger(__name__)

START_OF_DAY = "start_of_day"
END_OF_DAY = "end_of_day"
CASH_START = "cash_start"
CLOSE_SEEN = "close_seen"
BEFORE_OPEN = timedelta(minutes=90)
"""The broker has forgotten yesterday and posted its charges by then (tokens and books turn over at 06:00 to 07:30)."""
_now = sa.func.clock_timestamp()

Run = Callable[[Scope], Outcome | None]


def has_begun(info: SessionInfo | None, now: datetime) -> bool:
    """Whether the trading day of today has begun at the broker, and its session is not over."""
    if info is None or info.trading_date != trading_date(now):
        return False
    return info.is_open if info.opens_at is None else now >= info.opens_at - BEFORE_OPEN


def once(session: Session, account: str, job: str, slot: date, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write the result of a day's job unless it is there; answers what is on record."""
    record(session, account, job, slot, result)
    found = session.scalar(
        sa.select(JobRun.result).where(JobRun.account == account, JobRun.job == job, JobRun.slot == slot)
    )
    return dict(found or result)


def record(session: Session, account: str, job: str, slot: date, result: Mapping[str, Any]) -> bool:
    """Write the result of a day's job; False when it was done before."""
    written = session.execute(
        insert(JobRun)
        .values(account=account, job=job, slot=slot, result=dict(result), sha256=digest(result))
        .on_conflict_do_nothing()
        .returning(JobRun.slot)
    )
    return written.first() is not None


def digest(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def run_due(desk: Desk, account: str, run: Run) -> bool:
    """Do what the day asks for now, by a full run of `run`; whether anything was done."""
    info, now = desk.session_info(), desk.clock.now()
    if info is None:
        return False
    today = trading_date(now)
    with desk.db.transaction() as session:
        started, ended = (_latest(session, account, job) for job in (START_OF_DAY, END_OF_DAY))
        recent = _tried_recently(session, account, desk.settings.recon_retry_seconds)
    if started is not None and started < today and (ended is None or ended < started):
        _report_missed(desk, account, started)
    if recent:
        return False
    if has_begun(info, now) and started != today:
        return _start(desk, account, today, run)
    if started == today and ended != today and not desk.is_open(info):
        return _end(desk, account, today, run)
    return False


def _latest(session: Session, account: str, job: str) -> date | None:
    return session.scalar(sa.select(sa.func.max(JobRun.slot)).where(JobRun.account == account, JobRun.job == job))


def _tried_recently(session: Session, account: str, within_s: float) -> bool:
    """Whether a full run that was not good was made a moment ago: the next one waits."""
    newest = session.execute(
        sa.select(ReconRun.good, sa.func.extract("epoch", _now - ReconRun.started_at).label("age_s"))
        .where(ReconRun.account == account, ReconRun.scope != "quick")
        .order_by(ReconRun.started_at.desc())
        .limit(1)
    ).one_or_none()
    return newest is not None and not newest.good and newest.age_s < within_s


def _start(desk: Desk, account: str, today: date, run: Run) -> bool:
    """08:30: the books are compared before anything is sent; with a severe break open nothing new is."""
    outcome = run("start_of_day")
    if outcome is None or outcome.books is None:
        return True
    books = outcome.books
    with desk.db.transaction() as session:
        severe = breaks.severe_open(session, account)
        result = {
            "run_id": str(outcome.run_id),
            "counts": outcome.counts,
            "severe_breaks": severe,
            "frozen": sorted(breaks.frozen(session, account)),
            "holdings": len(books.view.holdings),
            "unauthorised": sum(row.authorised_quantity < row.quantity for row in books.view.holdings),
            "free_paise": books.view.funds.net_paise,
        }
        if not record(session, account, START_OF_DAY, today, result):
            return True
        if severe and not day_figures.has_sent(session, account, today):
            reason = f"severe breaks are open at the start of the day: {', '.join(severe[:5])}"
            kill_switch.stop_if_running(session, account, "CANCEL_ONLY", actor="system", reason=reason)
    log.info("day.started", account=account, day=today.isoformat(), severe=len(severe))
    return True


def _end(desk: Desk, account: str, today: date, run: Run) -> bool:
    """After the close: wait for every order to be decided, then keep the broker's books and report."""
    with desk.db.transaction() as session:
        seen = once(session, account, CLOSE_SEEN, today, {"at": desk.clock.now().isoformat()})
        undecided = day_figures.undecided(session, account)
    waited = desk.clock.now() - datetime.fromisoformat(seen["at"])
    if undecided and waited.total_seconds() < desk.settings.day_end_wait_seconds:
        return False
    outcome = run("end_of_day")
    if outcome is None or outcome.books is None:
        return True
    parts = _parts(outcome.books)
    with desk.db.transaction() as session:
        undecided = day_figures.undecided(session, account)
        more = {
            "complete": not undecided,
            "undecided": undecided,
            "run_id": str(outcome.run_id),
            "snapshots": {part: digest(rows) for part, rows in parts.items()},
        }
        if not _report(session, account, today, more):
            return True
        session.execute(
            insert(DaySnapshot),
            [
                {"account": account, "trading_date": today, "part": part, "sha256": digest(rows), "rows": rows}
                for part, rows in parts.items()
            ],
        )
    return True


def _report_missed(desk: Desk, account: str, day: date) -> None:
    """Nobody was there, or the broker could not be read, until its books of the day were gone."""
    with desk.db.transaction() as session:
        _report(session, account, day, {"complete": False, "undecided": None, "run_id": None, "snapshots": {}})


def _report(session: Session, account: str, day: date, more: Mapping[str, Any]) -> bool:
    """The day in figures, chained to the report before it by its hash."""
    before = session.scalar(
        sa.select(JobRun.sha256)
        .where(JobRun.account == account, JobRun.job == END_OF_DAY, JobRun.slot < day)
        .order_by(JobRun.slot.desc())
        .limit(1)
    )
    result = {**day_figures.figures(session, account, day), **more, "previous_sha256": before}
    if not record(session, account, END_OF_DAY, day, result):
        return False
    log.info("day.ended", account=account, day=day.isoformat(), complete=more["complete"])
    return True


def _parts(books: Books) -> dict[str, list[dict[str, Any]]]:
    """The broker's books, and the ledger's totals beside them, as JSON rows in a fixed order."""
    view = books.view
    parts: dict[str, Iterable[Any]] = {
        "orders": sorted(view.orders, key=lambda row: row.broker_order_id),
        "trades": sorted(view.trades, key=lambda row: (row.broker_order_id, row.broker_trade_id)),
        "positions": sorted(view.positions, key=lambda row: (row.exchange, row.tradingsymbol, row.product)),
        "holdings": sorted(view.holdings, key=lambda row: (row.exchange, row.tradingsymbol)),
        "funds": [view.funds],
    }
    rows = {part: [_row(one) for one in many] for part, many in parts.items()}
    if books.ledger is not None:
        rows["ledger"] = [{"asset": key, **asdict(asset)} for key, asset in sorted(books.ledger.items())]
    return rows


def _row(one: Any) -> dict[str, Any]:
    return {
        name: sorted(value) if isinstance(value, frozenset) else value if isinstance(value, int) else _text(value)
        for name, value in asdict(one).items()
    }


def _text(value: object) -> str | None:
    return value.isoformat() if isinstance(value, datetime) else None if value is None else str(value)
