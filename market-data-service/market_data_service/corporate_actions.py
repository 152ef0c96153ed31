"""Splits and bonus issues as an admin entered them, kept with their reason and never erased."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import gcd
from uuid import UUID, uuid4

from sqlalchemy import Date, and_, cast, exists, func, or_, select, text, tuple_
from sqlalchemy.orm import Session

from common.clock import IST, trading_date
from common.errors import Conflict, NotFound, Unprocessable
from market_data_service.adjustment import Action, ActionKind
from market_data_service.instruments import INDICES, Key, Listing, format_key
from market_data_service.models import CandleDay, CorporateAction

RATIO_PART_MAX = 1_000
"""Largest number on either side of a ratio; the largest that shares in India have had are a tenth of it."""
EX_DATE_MIN = date(1990, 1, 1)
"""Older than any candle."""
EX_DATE_AHEAD = timedelta(days=366)
"""How far ahead of today an ex-date may lie; exchanges announce them days or weeks before."""
LOCK_NAMESPACE = 0xAC7
"""First key of the advisory lock on a share."""
HISTORY_MAX = 500
"""Rows of the list of all shares' actions, newest ex-dates first."""


class RatioInvalid(Unprocessable):
    """The ratio of new to old shares is none of a split or bonus issue."""


class ExDateInvalid(Unprocessable):
    """The ex-date lies too far away to be meant."""


class NotAShare(Unprocessable):
    """An index has no splits and bonus issues."""


class CorporateActionExists(Conflict):
    """The share has an action of that kind on that ex-date with another ratio."""


class UnknownCorporateAction(NotFound):
    """No action with that id is in force."""


@dataclass(frozen=True, slots=True)
class Entered:
    """What an admin enters: `new_shares` for every `old_shares` from `ex_date` (IST) on."""

    share: Listing
    ex_date: date
    kind: ActionKind
    new_shares: int
    old_shares: int
    reason: str


def enter(session: Session, entered: Entered, admin: UUID, now: datetime) -> CorporateAction:
    """Put an action in force, its ratio in lowest terms; saying the same again changes nothing.

    Raises RatioInvalid, ExDateInvalid, NotAShare or CorporateActionExists.
    """
    new, old = _ratio(entered)
    _check_ex_date(entered.ex_date, trading_date(now))
    if entered.share.segment == INDICES:
        raise NotAShare(f"{format_key(entered.share.key)} is an index.")
    current = _in_force(session, entered.share.key, entered.ex_date, entered.kind)
    if current is not None:
        if (current.new_shares, current.old_shares) == (new, old):
            return current
        raise CorporateActionExists(
            f"{format_key(entered.share.key)} has a {entered.kind} on {entered.ex_date} already,"
            f" {current.new_shares} for {current.old_shares}; withdraw it first if it is wrong.",
            action_id=str(current.action_id),
        )
    row = CorporateAction(
        action_id=uuid4(),
        exchange=entered.share.exchange,
        tradingsymbol=entered.share.tradingsymbol,
        ex_date=entered.ex_date,
        kind=entered.kind,
        new_shares=new,
        old_shares=old,
        reason=entered.reason,
        created_by=admin,
        created_at=now,
    )
    session.add(row)
    session.flush()
    return row


def withdraw(session: Session, action_id: UUID, reason: str, admin: UUID, now: datetime) -> CorporateAction:
    """Take a wrong action out of force; raises UnknownCorporateAction."""
    row = session.get(CorporateAction, action_id, with_for_update=True)
    if row is None or row.withdrawn_at is not None:
        raise UnknownCorporateAction("No corporate action with this id is in force.")
    row.withdrawn_by, row.withdrawn_at, row.withdrawn_reason = admin, now, reason
    return row


def history(session: Session) -> Sequence[CorporateAction]:
    """Actions of all shares, in force and withdrawn, newest ex-dates first, at most HISTORY_MAX."""
    newest = CorporateAction.ex_date.desc(), CorporateAction.created_at.desc()
    return session.scalars(select(CorporateAction).order_by(*newest).limit(HISTORY_MAX)).all()


def in_force(session: Session, key: Key) -> Sequence[CorporateAction]:
    """A share's actions in force, oldest ex-date first."""
    return session.scalars(
        select(CorporateAction)
        .where(CorporateAction.exchange == key[0], CorporateAction.tradingsymbol == key[1])
        .where(CorporateAction.withdrawn_at.is_(None))
        .order_by(CorporateAction.ex_date, CorporateAction.kind)
    ).all()


def actions_of(session: Session, key: Key) -> list[Action]:
    """A share's actions in force as the rule takes them, oldest ex-date first."""
    return [action_of(row) for row in in_force(session, key)]


def action_of(row: CorporateAction) -> Action:
    """A row as the rule takes it."""
    kind: ActionKind = row.kind  # type: ignore[assignment]  # the table's CHECK names the same kinds
    return Action(row.ex_date, kind, row.new_shares, row.old_shares)


def outdated(session: Session, keys: Sequence[Key], now: datetime) -> set[Key]:
    """Shares with stored candles that the broker may have restated since, as the actions in force say.

    Such are candles before an ex-date that were read before the action was entered here, or up to the ex-date, on which
    the broker may not have restated yet. Read again on a later day they are so no longer.
    """
    today = trading_date(now)
    read_on = cast(func.timezone(IST.key, CandleDay.fetched_at), Date)
    older = exists().where(
        CandleDay.exchange == CorporateAction.exchange,
        CandleDay.tradingsymbol == CorporateAction.tradingsymbol,
        CandleDay.on_date < CorporateAction.ex_date,
        or_(
            CandleDay.fetched_at < CorporateAction.created_at,
            and_(read_on <= CorporateAction.ex_date, read_on < today),
        ),
    )
    rows = session.execute(
        select(CorporateAction.exchange, CorporateAction.tradingsymbol)
        .distinct()
        .where(tuple_(CorporateAction.exchange, CorporateAction.tradingsymbol).in_(keys))
        .where(CorporateAction.withdrawn_at.is_(None), CorporateAction.ex_date <= today, older)
    )
    return {(exchange, symbol) for exchange, symbol in rows}


def _in_force(session: Session, key: Key, ex_date: date, kind: ActionKind) -> CorporateAction | None:
    # A share without actions has no row to lock, so its name is locked until the transaction ends.
    session.execute(
        text("SELECT pg_advisory_xact_lock(:space, hashtext(:share))"),
        {"space": LOCK_NAMESPACE, "share": format_key(key)},
    )
    return session.scalar(
        select(CorporateAction)
        .where(CorporateAction.exchange == key[0], CorporateAction.tradingsymbol == key[1])
        .where(CorporateAction.ex_date == ex_date, CorporateAction.kind == kind)
        .where(CorporateAction.withdrawn_at.is_(None))
    )


def _ratio(entered: Entered) -> tuple[int, int]:
    new, old = entered.new_shares, entered.old_shares
    if not (1 <= new <= RATIO_PART_MAX and 1 <= old <= RATIO_PART_MAX):
        raise RatioInvalid(f"New and old shares are whole numbers from 1 to {RATIO_PART_MAX}.")
    if new == old:
        raise RatioInvalid(f"{new} new shares for {old} old ones change nothing.")
    if entered.kind == "BONUS" and new < old:
        raise RatioInvalid("After a bonus issue there are more shares: a bonus of 1:1 is 2 new for 1 old.")
    common = gcd(new, old)
    return new // common, old // common


def _check_ex_date(ex_date: date, today: date) -> None:
    last = today + EX_DATE_AHEAD
    if not EX_DATE_MIN <= ex_date <= last:
        raise ExDateInvalid(f"An ex-date lies between {EX_DATE_MIN} and {last}.", ex_date=ex_date.isoformat())
