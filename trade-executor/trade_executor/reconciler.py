"""T12: read the books, have them compared (`reconciling`, `own_books`), write down what differs. It never trades.

Every run is a row. A run that could not read everything is not good: it opens and cures nothing that depends on what was
not read. Two runs at once are harmless, because a break is open once per kind and key; a lock only saves the work.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import date, timedelta
from typing import Any, Protocol, TypeVar, runtime_checkable
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.clock import trading_date
from common.db import run_in_transaction
from common.errors import AppError
from common.logging import get_logger
from common.market_data import Instrument, Key
from trade_executor import breaks, day_jobs, kill_switch, own_books, polling, reconciling
from trade_executor.brokers.base import Broker, BrokerReadFailed, BrokerSessionExpired, BrokerUnavailable
from trade_executor.desk import Desk
from trade_executor.ledger_books import LedgerBooks
from trade_executor.locks import advisory_lock
from trade_executor.models import BrokerSession, ReconBreak, ReconRun, ReconSuspect
from trade_executor.reconciling import INR, Books, BrokerView, Judgement, LedgerAsset, Outcome, Scope

log = get_logger(__name__)

T = TypeVar("T")
READ_ATTEMPTS_MAX = 4
QUICK_MEMORY_S = 60.0
FULL_MEMORY_S = 3_600.0
DAY_MEMORY_S = 2 * 86_400.0
STATEMENT_TIMEOUT_MS = 60_000
"""A run sums whole tables; whoever trades keeps the shorter limit."""
SMALL_RUNS_KEPT = timedelta(days=1)
"""Quick runs and those that proved nothing are forgotten after this."""
_now = sa.func.clock_timestamp()


@runtime_checkable
class KnowsIsins(Protocol):
    """A market that can name the share behind an instrument."""

    def instruments(self, keys: Collection[Key]) -> Mapping[Key, Instrument]:
        """Known instruments among `keys`."""
        ...


def reconcile(desk: Desk, account: str, scope: Scope, ledger: LedgerBooks | None) -> Outcome | None:
    """One run; None when another one is under way."""
    with advisory_lock(desk.db, f"reconcile:{account}", wait=False) as held:
        if not held:
            return None
        outcome = Outcome(uuid4(), scope, desk.database_now())
        if scope != "quick":
            outcome.books = _read_outside(desk, account, ledger, outcome)
        run_in_transaction(desk.db, lambda session: _judge(session, desk, account, outcome))
    level = log.info if outcome.good and not outcome.opened else log.warning
    level(
        "recon.run", scope=scope, good=outcome.good, opened=outcome.opened, cured=outcome.cured, detail=outcome.detail
    )
    return outcome


def _read_outside(desk: Desk, account: str, ledger: LedgerBooks | None, outcome: Outcome) -> Books | None:
    """Everything that is not ours; None (and the run not good) when a part could not be read."""
    if not polling.observe(desk, account):
        outcome.good, outcome.detail = False, "the order book could not be read"
        return None
    live = None
    try:
        # Before what was given out is read: then the ledger can be behind that, never beyond it.
        totals = None if ledger is None else ledger.totals()
        live = desk.access.current(account)
        view = _read_broker(live.broker, desk.settings.read_pause_seconds)
        return Books(view, totals, _isins(desk, view, totals), desk.session_info())
    except BrokerReadFailed as error:
        if live is not None and isinstance(error, BrokerSessionExpired):
            desk.access.end(live.session_id, "the broker no longer accepts it")
        failure = f"the broker could not be read: {error}"
    except AppError as error:
        failure = f"{type(error).__name__}: {error}"
    outcome.good, outcome.detail = False, failure
    return None


def _read_broker(broker: Broker, pause_s: float) -> BrokerView:
    def paced(read: Callable[[], T]) -> T:
        # The broker's ten reads a second are for the poller first; in a busy second a read of ours is turned down.
        for attempt in range(1, READ_ATTEMPTS_MAX):
            time.sleep(pause_s * attempt)
            with suppress(BrokerUnavailable):
                return read()
        time.sleep(pause_s * READ_ATTEMPTS_MAX)
        return read()

    return BrokerView(
        orders=paced(broker.orders),
        trades_before=paced(broker.trades),
        positions=paced(broker.positions),
        holdings=paced(broker.holdings),
        funds=paced(broker.margins),
        trades=paced(broker.trades),
    )


def _isins(desk: Desk, view: BrokerView, totals: Mapping[str, LedgerAsset] | None) -> dict[str, str]:
    if totals is None or not isinstance(desk.market, KnowsIsins):
        return {}
    traded = {(row.exchange, row.tradingsymbol) for row in view.positions}
    booked = {tuple(key.split(":", 1)) for key in totals if key != INR}
    found = desk.market.instruments([(exchange, symbol) for exchange, symbol in traded | booked])
    return {reconciling.key_of(*key): row.isin for key, row in found.items() if row.isin}


def _judge(session: Session, desk: Desk, account: str, outcome: Outcome) -> None:
    """Compare, open, cure and write the run's row, in one transaction."""
    outcome.opened = outcome.cured = 0
    memory_s = {"quick": QUICK_MEMORY_S, "full": FULL_MEMORY_S}.get(outcome.scope, DAY_MEMORY_S)
    session.execute(sa.text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    outcome.counts["house_fills_added"] = own_books.add_missing(session, account)
    findings = own_books.check(session, account, memory_s=memory_s)
    for finding in findings:
        _open(session, account, outcome, finding.kind, finding.key, finding.detail, lasting=True)
    outcome.counts["own_findings"] = len(findings)
    if outcome.books is not None:
        _judge_outside(session, desk, account, outcome, outcome.books)
    session.execute(
        sa.insert(ReconRun).values(
            account=account,
            **{name: getattr(outcome, name) for name in (
                "run_id", "scope", "started_at", "good", "detail", "counts", "opened", "cured",
            )},
        )
    )  # fmt: skip
    if outcome.scope == "full":
        old = ReconRun.started_at < _now - SMALL_RUNS_KEPT
        small = sa.or_(ReconRun.scope == "quick", ~ReconRun.good)
        session.execute(sa.delete(ReconRun).where(ReconRun.account == account, small, old))


def _judge_outside(session: Session, desk: Desk, account: str, outcome: Outcome, books: Books) -> None:
    settings, view = desk.settings, books.view
    today = trading_date(desk.clock.now())
    busy = own_books.unsettled(session, account, within_s=settings.recon_quiet_seconds)
    moving = view.moving()
    own_net = own_books.day_net(session, account, view.day(today))
    day_net = reconciling.judge_day_net(view.positions, own_net, moving)
    still = {key for key in set(own_net) | set(reconciling.day_net(view.positions)) if key not in busy}
    _weigh(session, desk, account, outcome, breaks.DAY_NET, day_net, still)
    outcome.counts |= {"orders": len(view.orders), "trades": len(view.trades), "instruments": len(own_net)}
    if books.ledger is None:
        return
    told = own_books.told(session)
    beyond = reconciling.judge_ledger(told, books.ledger, "beyond")
    _weigh(session, desk, account, outcome, breaks.LEDGER_MISMATCH, beyond, {one.key for one in beyond.differences})
    behind = reconciling.judge_ledger(told, books.ledger, "behind")
    _weigh(session, desk, account, outcome, breaks.LEDGER_BEHIND, behind, None)
    unready = moving | reconciling.unheard(told, books.ledger)
    units = reconciling.judge_units(view, books.ledger, books.isins, unready)
    calm = {one.key for one in units.differences if busy.isdisjoint(one.freezes)}
    _weigh(session, desk, account, outcome, breaks.UNITS, units, calm)
    cash = Judgement(nothing=True)
    if not busy and INR not in unready and not moving:
        cash = _judge_cash(session, desk, account, books, books.ledger, today)
    _weigh(session, desk, account, outcome, breaks.CASH, cash, {INR})
    outcome.counts |= {"assets": len(books.ledger), "unheard": len(unready), "cash_judged": int(not cash.nothing)}


def _judge_cash(
    session: Session, desk: Desk, account: str, books: Books, ledger: Mapping[str, LedgerAsset], today: date
) -> Judgement:
    """B9 since the first calm moment of the day, which is remembered; nothing to say outside the day's bounds."""
    if not day_jobs.has_begun(books.info, desk.clock.now()) or not reconciling.cash_is_comparable(books.view):
        return Judgement(nothing=True)
    asset = ledger.get(INR, LedgerAsset(0, 0, 0, 0))
    at_broker, in_ledger = reconciling.movable_paise(books.view.funds), asset.from_market - asset.to_market
    start = day_jobs.once(
        session, account, day_jobs.CASH_START, today, {"broker_paise": at_broker, "ledger_paise": in_ledger}
    )
    return reconciling.judge_cash(
        at_broker,
        start["broker_paise"],
        in_ledger,
        start["ledger_paise"],
        tolerance_paise=desk.settings.cash_tolerance_paise,
    )


def _weigh(
    session: Session,
    desk: Desk,
    account: str,
    outcome: Outcome,
    kind: str,
    judgement: Judgement,
    still: Collection[str] | None,
) -> None:
    """Turn a judgement into breaks, suspects and cures."""
    mine = sa.and_(ReconSuspect.account == account, ReconSuspect.kind == kind)
    age_s = sa.func.extract("epoch", _now - ReconSuspect.since)
    rows = session.execute(
        sa.select(ReconSuspect.key, ReconSuspect.difference, ReconSuspect.since, age_s.label("age_s"))
        .where(mine)
        .with_for_update()
    ).all()
    suspects = {row.key: reconciling.Suspect(row.difference, float(row.age_s)) for row in rows}
    # The same difference since then: who has closed its break meanwhile has dealt with it.
    since = {(row.key, row.difference): row.since for row in rows}
    open_keys = set(
        session.scalars(
            sa.select(ReconBreak.key).where(
                ReconBreak.account == account, ReconBreak.kind == kind, ReconBreak.closed_at.is_(None)
            )
        )
    )
    ripened = reconciling.ripen(
        judgement, suspects, open_keys, still=still, patience_s=desk.settings.break_after_seconds
    )
    for one in ripened.breaks:
        seen_at = since.get((one.key, one.amount))
        if seen_at is None or not breaks.dealt_with(session, account, kind, one.key, since=seen_at):
            _open(session, account, outcome, kind, one.key, one.detail, one.freezes)
    if ripened.suspects:
        values = [
            {"account": account, "kind": kind, "key": one.key, "difference": one.amount} for one in ripened.suspects
        ]
        statement = insert(ReconSuspect).values(values)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[ReconSuspect.account, ReconSuspect.kind, ReconSuspect.key],
                set_={"difference": statement.excluded.difference, "since": _now},
                where=ReconSuspect.difference != statement.excluded.difference,
            )
        )
    if ripened.agreed:
        session.execute(sa.delete(ReconSuspect).where(mine, ReconSuspect.key.in_(ripened.agreed)))
    for key in sorted(ripened.agreed & open_keys):
        outcome.cured += breaks.cure(session, account, kind, key, "the books agree again")


def _open(
    session: Session,
    account: str,
    outcome: Outcome,
    kind: str,
    key: str,
    detail: str,
    freezes: Collection[str] = (),
    *,
    lasting: bool = False,
) -> None:
    if kind in breaks.HALTING:
        # Before the break's row: the order in which a sender that finds the same fault takes the two.
        kill_switch.row_of(session, account, lock=True)
    if not breaks.open_break(session, account, kind, key, detail, freezes=freezes, lasting=lasting):
        return
    outcome.opened += 1
    if kind in breaks.HALTING:
        kill_switch.stop_if_running(session, account, "HALTED", actor="system", reason=f"{kind}: {detail}")


# --- when ---------------------------------------------------------------------------------------------------------


def reconcile_if_due(desk: Desk, account: str, ledger: LedgerBooks | None) -> None:
    """What the loop does: the jobs of the day, else a full run when its time has come, else a quick one while anything works."""
    if day_jobs.run_due(desk, account, lambda scope: reconcile(desk, account, scope, ledger)):
        return
    scope = due(desk, account)
    if scope is not None:
        reconcile(desk, account, scope, ledger)


def at_start(desk: Desk, account: str, ledger: LedgerBooks | None) -> None:
    """What a loop does when it starts: a full run, unless somebody has just made one."""
    with desk.db.transaction() as session:
        age_s = session.scalar(sa.select(_age_s(account, ReconRun.scope != "quick", ReconRun.good.is_(True))))
    if age_s is None or age_s >= desk.settings.recon_retry_seconds:
        reconcile(desk, account, "full", ledger)


def due(desk: Desk, account: str) -> Scope | None:
    """Which run is due now, judged by the rows of all processes' runs. A login at the broker makes a full one due."""
    settings = desk.settings
    outside, good = ReconRun.scope != "quick", ReconRun.good.is_(True)
    login = sa.select(sa.func.extract("epoch", _now - sa.func.max(BrokerSession.started_at)))
    with desk.db.transaction() as session:
        good_s, tried_s, any_s, login_s = session.execute(
            sa.select(
                _age_s(account, outside, good),
                _age_s(account, outside),
                _age_s(account),
                login.where(BrokerSession.account == account).scalar_subquery(),
            )
        ).one()
        wanted = good_s is None or good_s >= settings.recon_full_seconds or (login_s is not None and login_s < good_s)
        if wanted and (tried_s is None or tried_s >= settings.recon_retry_seconds):
            return "full"
        if any_s >= settings.recon_quick_seconds and own_books.anything_under_way(session, account, within_s=any_s):
            return "quick"
    return None


def _age_s(account: str, *conditions: sa.ColumnElement[bool]) -> Any:
    newest = sa.select(sa.func.max(ReconRun.started_at)).where(ReconRun.account == account, *conditions)
    return sa.func.extract("epoch", _now - newest.scalar_subquery())
