"""T6: read the broker's order book and trades and add what they prove; nothing else moves shares or money.

A read is a whole: a failed or partial one is no evidence. Status only rises, a repeated trade is ignored, a trade that
changed is a break. Postbacks and ticker messages only cause a read.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.bulk import array_of
from common.clock import trading_date
from common.db import Database, run_in_transaction
from common.logging import get_logger
from trade_executor import breaks, closing, house, kill_switch, sending, states, tags
from trade_executor.brokers.base import BookOrder, BookTrade
from trade_executor.config import Settings
from trade_executor.models import BrokerOrder, Control, Fill, HouseFill

log = get_logger(__name__)

_now = sa.func.clock_timestamp()
TradeKey = tuple[str, str, str, str]


@dataclass
class Seen:
    """What this process has already written down, so that a read costs by its news. A cache: losing it costs speed."""

    day: Any = None
    orders: dict[str, BookOrder] = field(default_factory=dict)
    trades: dict[TradeKey, BookTrade] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start_day(self, day: Any) -> None:
        """Forget yesterday: ids may be used again."""
        if self.day != day:
            self.day = day
            self.orders.clear()
            self.trades.clear()


def trade_key(trade: BookTrade) -> TradeKey:
    """Trade ids are unique in no documented scope, so everything that could be part of it is."""
    return (trade.exchange, trading_date(trade.traded_at).isoformat(), trade.broker_order_id, trade.broker_trade_id)


def record_read(
    db: Database,
    account: str,
    orders: Sequence[BookOrder],
    trades: Sequence[BookTrade],
    *,
    started_at: datetime,
    settings: Settings,
    seen: Seen,
) -> None:
    """Add one complete read (book first, then trades) to our books."""
    with seen.lock:
        seen.start_day(trading_date(started_at))
        _adopt(db, account, [row for row in orders if seen.orders.get(row.broker_order_id) != row], settings)
        handled = run_in_transaction(
            db, lambda session: _record(session, account, orders, trades, started_at, settings, seen)
        )
        seen.orders.update({row.broker_order_id: row for row in orders})
        seen.trades.update({trade_key(trade): trade for trade in handled})


def _adopt(db: Database, account: str, rows: Sequence[BookOrder], settings: Settings) -> None:
    """Give attempts without a broker id the order that carries their tag; one transaction each, block locked first."""
    tagged = {tag: row for row in rows for tag in row.tags}
    if not tagged:
        return
    with db.transaction() as session:
        nameless = session.execute(
            sa.select(BrokerOrder.attempt_id, BrokerOrder.block_id, BrokerOrder.tag).where(
                BrokerOrder.tag == sa.any_(array_of(tagged, sa.Text)), BrokerOrder.broker_order_id.is_(None)
            )
        ).all()
    for found in nameless:
        row = tagged[found.tag]

        def adopt(session: Session, found: Any = found, row: BookOrder = row) -> None:
            block = closing.lock_block(session, found.block_id)
            attempt = session.scalars(
                sa.select(BrokerOrder).where(BrokerOrder.attempt_id == found.attempt_id).with_for_update()
            ).one()
            if not _same_order(attempt, row):
                detail = f"broker order {row.broker_order_id} carries our tag but is {row.side} {row.quantity} {row.tradingsymbol}"
                freezes = [breaks.instrument(row.exchange, row.tradingsymbol)]
                breaks.open_break(session, account, breaks.TAG_MISMATCH, row.broker_order_id, detail, freezes=freezes)
                return
            log.info("broker.order_found_by_tag", attempt_id=attempt.attempt_id, broker_order_id=row.broker_order_id)
            sending.acknowledge(session, block, attempt, row.broker_order_id)

        run_in_transaction(db, adopt)


def _same_order(attempt: BrokerOrder, row: BookOrder) -> bool:
    wanted = attempt.request
    return (row.exchange, row.tradingsymbol, row.side, row.quantity) == (
        wanted["exchange"],
        wanted["tradingsymbol"],
        wanted["side"],
        attempt.quantity,
    )


def _record(
    session: Session,
    account: str,
    orders: Sequence[BookOrder],
    trades: Sequence[BookTrade],
    started_at: datetime,
    settings: Settings,
    seen: Seen,
) -> list[BookTrade]:
    in_book = {row.broker_order_id: row for row in orders}
    news = [row for row in orders if seen.orders.get(row.broker_order_id) != row]
    fresh = [trade for trade in trades if seen.trades.get(trade_key(trade)) != trade]
    wanted = {row.broker_order_id for row in news} | {trade.broker_order_id for trade in fresh}
    attempts = {
        attempt.broker_order_id: attempt
        for attempt in session.scalars(
            sa.select(BrokerOrder)
            .where(BrokerOrder.broker_order_id == sa.any_(array_of(wanted, sa.Text)))
            .order_by(BrokerOrder.attempt_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    }
    handled = _add_fills(session, account, attempts, fresh)
    for row in news:
        if row.broker_order_id in attempts:
            _raise_status(session, attempts[row.broker_order_id], row)
        else:
            _judge_stranger(session, account, row, settings)
    session.flush()
    house.book_own(session, account)
    unowned = [trade for trade in fresh if trade.broker_order_id not in attempts]
    handled += _book_strangers(session, account, in_book, unowned, settings)
    breaks.freeze_ghosts(session, account)
    _close_ghosts(session, account)
    _note_absences(session, account, in_book, settings)
    _count_scan(session, account, in_book, started_at)
    session.execute(
        sa.update(Control)
        .where(Control.account == account)
        .where(sa.or_(Control.observed_at.is_(None), Control.observed_at < started_at))
        .values(observed_at=started_at)
    )
    breaks.cure(session, account, breaks.BLIND, account, "the order book can be read again")
    return handled


def _add_fills(
    session: Session, account: str, attempts: Mapping[str | None, BrokerOrder], trades: Iterable[BookTrade]
) -> list[BookTrade]:
    """Insert new trades of our orders; answers the trades that need no second look."""
    handled = []
    for trade in trades:
        attempt = attempts.get(trade.broker_order_id)
        if attempt is None:
            continue
        values = _fill_values(account, attempt, trade)
        statement = insert(Fill).values(**values).on_conflict_do_nothing(constraint="uq_fill_trade")
        if session.execute(statement.returning(Fill.fill_id)).first() is None:
            _compare(session, account, values)
        elif attempt.state in ("SETTLED", "CLOSED"):
            detail = f"trade {trade.broker_trade_id} of {trade.quantity} shares after its order was over"
            breaks.open_break(session, account, breaks.LATE_FILL, trade.broker_order_id, detail)
        handled.append(trade)
    return handled


def _fill_values(account: str, attempt: BrokerOrder, trade: BookTrade) -> dict[str, Any]:
    ours = attempt.state in ("ACKED", *states.ATTEMPT_ENDED_AT_BROKER)
    return {
        "account": account,
        "attempt_id": attempt.attempt_id,
        "block_id": attempt.block_id,
        "exchange": trade.exchange,
        "tradingsymbol": trade.tradingsymbol,
        "side": trade.side,
        "trade_date": trading_date(trade.traded_at),
        "broker_order_id": trade.broker_order_id,
        "broker_trade_id": trade.broker_trade_id,
        "quantity": trade.quantity,
        "price": trade.price,
        "amount_paise": trade.amount_paise,
        "traded_at": trade.traded_at,
        "booked_to": "block" if ours else "house",
    }


def _book_strangers(
    session: Session,
    account: str,
    in_book: Mapping[str, BookOrder],
    trades: Sequence[BookTrade],
    settings: Settings,
) -> list[BookTrade]:
    """Give the house the trades of orders that are certainly no attempt of ours; answers the trades dealt with.

    An order that the book did not show yet may be ours and unanswered. One with a tag of ours that nothing here knows is
    left alone: an operator rebuilds its row from the evidence.
    """
    booked = []
    for trade in trades:
        row = in_book.get(trade.broker_order_id)
        if row is None:
            continue
        ours = _tags_of_ours(row, settings)
        if not ours:
            booked.append((trade, house.FOREIGN))
        elif _owner_of_tag(session, ours[0]) not in (None, trade.broker_order_id):
            booked.append((trade, house.DUPLICATE))
    if house.book_strangers(session, account, booked) < len(booked):
        for trade, _ in booked:
            _compare_house(session, account, trade)
    return [trade for trade, _ in booked]


def _owner_of_tag(session: Session, tag: str) -> str | None:
    """The broker's id of the attempt with this tag; None when there is no such attempt or it has no order yet."""
    return session.scalar(sa.select(BrokerOrder.broker_order_id).where(BrokerOrder.tag == tag))


def _compare(session: Session, account: str, values: Mapping[str, Any]) -> None:
    """A known trade must still say what it said."""
    known = session.execute(
        sa.select(Fill.tradingsymbol, Fill.side, Fill.quantity, Fill.price).where(
            Fill.exchange == values["exchange"],
            Fill.trade_date == values["trade_date"],
            Fill.broker_order_id == values["broker_order_id"],
            Fill.broker_trade_id == values["broker_trade_id"],
        )
    ).one()
    told = (values["tradingsymbol"], values["side"], values["quantity"], values["price"])
    _complain_if_changed(session, account, values, tuple(known), told)


def _compare_house(session: Session, account: str, trade: BookTrade) -> None:
    values = house.stranger_values(account, trade)
    known = session.execute(
        sa.select(HouseFill.tradingsymbol, HouseFill.side, HouseFill.quantity, HouseFill.amount_paise).where(
            HouseFill.house_fill_id == house.house_fill_id(values)
        )
    ).one()
    told = (values["tradingsymbol"], values["side"], values["quantity"], values["amount_paise"])
    _complain_if_changed(session, account, values, tuple(known), told)


def _complain_if_changed(
    session: Session, account: str, values: Mapping[str, Any], known: tuple[Any, ...], told: tuple[Any, ...]
) -> None:
    if known == told:
        return
    key = f"{values['broker_order_id']}/{values['broker_trade_id']}"
    was, now = (f"{row[1]} {row[2]} {row[0]} at {row[3]}" for row in (known, told))
    freezes = {breaks.instrument(values["exchange"], symbol) for symbol in (known[0], told[0])}
    detail = f"the trade was {was}, now {now}"
    breaks.open_break(session, account, breaks.TRADE_CHANGED, key, detail, freezes=freezes, lasting=True)


def _raise_status(session: Session, attempt: BrokerOrder, row: BookOrder) -> None:
    """Take over what is newer in the book's row: filled shares and status never go back."""
    attempt.filled_quantity = max(attempt.filled_quantity, row.filled_quantity)
    attempt.missing_since = None
    rank = states.broker_rank(row.status)
    if rank < attempt.broker_rank or attempt.broker_rank == 2:
        return
    attempt.broker_rank = rank
    attempt.broker_status = row.status
    attempt.status_message = row.status_message
    end = states.broker_end(row.status)
    if end is None:
        return
    attempt.ended_at = session.execute(sa.select(_now)).scalar_one()
    if attempt.state == "ACKED":
        attempt.state = states.ATTEMPT.require(attempt.state, end)


def _judge_stranger(session: Session, account: str, row: BookOrder, settings: Settings) -> None:
    """An order in the book that no attempt of ours owns."""
    ours = _tags_of_ours(row, settings)
    if not ours:
        instrument = breaks.instrument(row.exchange, row.tradingsymbol)
        detail = f"{row.side} {row.quantity} {instrument} was not placed by this platform; its fills go to the house"
        breaks.open_break(
            session, account, breaks.FOREIGN_ORDER, row.broker_order_id, detail, freezes=[instrument], lasting=True
        )
        return
    with suppress(LookupError):
        _known_tag(session, account, ours[0], row)
        return
    detail = f"broker order {row.broker_order_id} carries a tag of ours that our books do not know"
    if breaks.open_break(session, account, breaks.OURS_UNKNOWN, row.broker_order_id, detail, lasting=True):
        kill_switch.stop_if_running(session, account, "HALTED", actor="system", reason=detail)


def _tags_of_ours(row: BookOrder, settings: Settings) -> list[str]:
    key = settings.tag_key.get_secret_value().encode()
    return [
        tag for tag in row.tags if tags.parse(tag, key) is not None and tags.environment_of(tag) == settings.tag_env
    ]


def _known_tag(session: Session, account: str, tag: str, row: BookOrder) -> None:
    """Our tag on an order that is not the attempt's: a second order of one attempt; raises LookupError if unknown."""
    attempt = session.execute(sa.select(BrokerOrder.broker_order_id).where(BrokerOrder.tag == tag)).one_or_none()
    if attempt is None:
        raise LookupError(tag)
    if attempt.broker_order_id is None:
        return  # a mismatch, already a break; it stays undecided
    detail = f"tag {tag} carries {attempt.broker_order_id} and {row.broker_order_id}"
    if breaks.open_break(session, account, breaks.DUPLICATE_TAG, tag, detail, lasting=True):
        kill_switch.stop_if_running(session, account, "HALTED", actor="system", reason=detail)


def _close_ghosts(session: Session, account: str) -> None:
    """A ghost is over when its order has ended and its trades are all booked to the house."""
    booked = (
        sa.select(sa.func.coalesce(sa.func.sum(Fill.quantity), 0))
        .where(Fill.attempt_id == BrokerOrder.attempt_id)
        .scalar_subquery()
    )
    session.execute(
        sa.update(BrokerOrder)
        .where(BrokerOrder.account == account, BrokerOrder.state == "GHOST", BrokerOrder.broker_rank == 2)
        .where(BrokerOrder.filled_quantity == booked)
        .values(state="CLOSED"),
        execution_options={"synchronize_session": False},
    )


def _note_absences(session: Session, account: str, in_book: Mapping[str, BookOrder], settings: Settings) -> None:
    """An acknowledged order that the book does not show: missing is not cancelled, a person is told after a while."""
    rows = session.execute(
        sa.select(BrokerOrder.attempt_id, BrokerOrder.broker_order_id, BrokerOrder.missing_since).where(
            BrokerOrder.account == account, BrokerOrder.state == "ACKED"
        )
    ).all()
    absent = [row for row in rows if row.broker_order_id not in in_book]
    present = [row.attempt_id for row in rows if row.broker_order_id in in_book and row.missing_since is not None]
    if present:
        session.execute(sa.update(BrokerOrder).where(BrokerOrder.attempt_id.in_(present)).values(missing_since=None))
    for row in absent:
        if row.missing_since is None:
            session.execute(
                sa.update(BrokerOrder).where(BrokerOrder.attempt_id == row.attempt_id).values(missing_since=_now)
            )
        elif _older(session, row.missing_since, settings.break_after_seconds):
            detail = "acknowledged by the broker, but not in its order book"
            breaks.open_break(session, account, breaks.MISSING_IN_BOOK, row.broker_order_id, detail)


def _count_scan(session: Session, account: str, in_book: Mapping[str, BookOrder], started_at: datetime) -> None:
    """Count a clean scan for attempts still unknown: only a book that shows every order known today counts."""
    unknown = sa.and_(BrokerOrder.account == account, BrokerOrder.state == "UNKNOWN")
    if session.execute(sa.select(BrokerOrder.attempt_id).where(unknown).limit(1)).first() is None:
        return
    known_today = session.scalars(
        sa.select(BrokerOrder.broker_order_id).where(
            BrokerOrder.account == account,
            BrokerOrder.broker_order_id.is_not(None),
            BrokerOrder.decided_at < started_at,
            sa.func.timezone("Asia/Kolkata", BrokerOrder.sent_at).cast(sa.Date) == trading_date(started_at),
        )
    )
    if any(broker_order_id not in in_book for broker_order_id in known_today):
        return
    session.execute(
        sa.update(BrokerOrder)
        .where(unknown, BrokerOrder.unknown_since < started_at)
        .values(scans_clean=BrokerOrder.scans_clean + 1)
    )


def _older(session: Session, instant: datetime, seconds: float) -> bool:
    age = session.execute(sa.select(sa.func.extract("epoch", _now - instant))).scalar_one()
    return float(age) > seconds
