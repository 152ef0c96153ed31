"""The control row of an account: every send goes through one conditional UPDATE of it.

The row lock makes the kill switch linearizable (a halt and a claim cannot both win) and shares the rate budget between
processes; the database's clock alone decides. Per second the limit is an exact sliding window over the last sends; per
minute a bucket whose size plus refill stays within the limit of any sixty seconds; per day a counter (IST date).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from trade_executor.config import Settings
from trade_executor.models import Control

Kind = Literal["place", "cancel"]

_TODAY = "(clock_timestamp() AT TIME ZONE 'Asia/Kolkata')::date"
# Half of the minute's limit may go at once, the other half is spread: no sixty seconds can hold more than the limit.
_TOKENS = (
    "least(sends_per_minute / 2.0,"
    " minute_tokens + extract(epoch FROM clock_timestamp() - refilled_at) * sends_per_minute / 120.0)"
)
_WINDOW_FREE_AT = (
    "CASE WHEN cardinality(send_times) < sends_per_second THEN 'epoch'::timestamptz"
    " ELSE send_times[cardinality(send_times) - sends_per_second + 1] + window_ms * interval '1 millisecond' END"
)
_USED_TODAY = f"(CASE WHEN day = {_TODAY} THEN day_sends ELSE 0 END)"
_VALUE_TODAY = f"(CASE WHEN day = {_TODAY} THEN day_value_paise ELSE 0 END)"

# Nothing new goes out while working orders cannot be seen (B12); cancels do, and seeing again ends it.
_SIGHTED = (
    "NOT EXISTS (SELECT 1 FROM recon_break WHERE recon_break.account = :account AND kind = 'blind'"
    " AND closed_at IS NULL)"
)

_CLAIM = f"""
UPDATE control SET
    send_times = send_times[greatest(1, cardinality(send_times) - sends_per_second + 2):] || clock_timestamp(),
    minute_tokens = {_TOKENS} - 1,
    refilled_at = clock_timestamp(),
    day_sends = {_USED_TODAY} + 1,
    day_value_paise = {_VALUE_TODAY} + :value_paise,
    day = {_TODAY}
WHERE account = :account AND epoch = :epoch AND trading_state = ANY(:states)
    AND {_WINDOW_FREE_AT} <= clock_timestamp()
    AND {_TOKENS} >= 1
    AND {_USED_TODAY} < CASE WHEN :is_place THEN places_per_day ELSE sends_per_day END
    AND (NOT :is_place OR {_SIGHTED})
RETURNING day_value_paise <= value_per_day_paise AS within_value, send_times[cardinality(send_times)] AS claimed_at
"""  # noqa: S608  fragments above, no input

_ALLOWANCE = f"""trading_state, epoch,
    greatest(0, extract(epoch FROM {_WINDOW_FREE_AT} - clock_timestamp()),
        (1 - {_TOKENS}) * 120.0 / sends_per_minute)::float8 AS wait_s,
    {_USED_TODAY} < places_per_day AND {_SIGHTED} AS may_place,
    {_USED_TODAY} < sends_per_day AS may_cancel"""
# One statement, because a pump asks it before and after everything it does.
_OUTLOOK = f"""
SELECT {_ALLOWANCE},
    (SELECT attempt_id FROM broker_order
        WHERE account = :account AND state IN ('ACKED', 'GHOST') AND broker_order_id IS NOT NULL AND broker_rank < 2
            AND cancel_sends < :cancel_sends_max
            AND (cancel_state = 'REQUESTED' OR (cancel_state = 'SENT'
                AND cancel_sent_at < clock_timestamp() - make_interval(secs => :cancel_repeat_s)))
        ORDER BY cancel_sent_at NULLS FIRST, attempt_id LIMIT 1) AS cancel,
    (SELECT attempt_id FROM broker_order JOIN block USING (block_id)
        WHERE broker_order.account = :account AND broker_order.state = 'INTENT' AND block.state <> 'FROZEN'
            AND (not_before IS NULL OR not_before <= clock_timestamp())
            AND NOT EXISTS (SELECT 1 FROM recon_break WHERE recon_break.account = :account AND closed_at IS NULL
                AND block.exchange || ':' || block.tradingsymbol = ANY(freezes))
        ORDER BY broker_order.created_at LIMIT 1) AS intent,
    EXISTS (SELECT 1 FROM child_order WHERE account = :account AND state = 'ACCEPTED'
        AND (not_before IS NULL OR not_before <= clock_timestamp())) AS pooled
FROM control WHERE account = :account
"""  # noqa: S608  fragments above, no input


_BUDGET = f"""
SELECT trading_state, sends_per_second - (SELECT count(*) FROM unnest(send_times) AS sent
        WHERE sent > clock_timestamp() - window_ms * interval '1 millisecond') AS second,
    floor({_TOKENS})::int AS minute, sends_per_day - {_USED_TODAY} AS day
FROM control WHERE account = :account
"""  # noqa: S608  fragments above, no input


class DayValueExceeded(Exception):
    """The account would trade for more than its limit of the day: something is wrong, or a person must raise it."""


@dataclass(frozen=True)
class Allowance:
    """What the control row allows now; `wait_s` is the time until the next send may go."""

    trading_state: str
    epoch: int
    wait_s: float
    may_place: bool
    may_cancel: bool


@dataclass(frozen=True)
class Outlook(Allowance):
    """Besides, what there is to send: attempts whose cancel or whose order is due, and whether anybody is pooled."""

    cancel: int | None
    intent: int | None
    pooled: bool


def ensure(session: Session, account: str, settings: Settings) -> None:
    """Make the account's row exist and carry the limits of the settings."""
    limits = {
        "sends_per_second": settings.sends_per_second,
        "window_ms": settings.send_window_ms,
        "sends_per_minute": settings.sends_per_minute,
        "sends_per_day": settings.sends_per_day,
        "places_per_day": settings.places_per_day,
        "value_per_day_paise": settings.value_per_day_paise,
    }
    statement = insert(Control).values(account=account, minute_tokens=settings.sends_per_minute / 2, **limits)
    session.execute(statement.on_conflict_do_update(index_elements=[Control.account], set_=limits))


def allowance(session: Session, account: str) -> Allowance:
    """Read without a lock: a hint for waiting; only `claim` decides. Raises KeyError for an unknown account."""
    statement = text(f"SELECT {_ALLOWANCE} FROM control WHERE account = :account")  # noqa: S608  fragments above
    row = session.execute(statement, {"account": account}).one_or_none()
    if row is None:
        raise KeyError(account)
    return Allowance(*row)


def outlook(session: Session, account: str, settings: Settings) -> Outlook:
    """The allowance and the work that waits for it, cancels that are new or long unanswered first among equals.

    Reads without a lock; raises KeyError for an unknown account.
    """
    row = session.execute(
        text(_OUTLOOK),
        {
            "account": account,
            "cancel_sends_max": settings.cancel_sends_max,
            "cancel_repeat_s": settings.cancel_repeat_seconds,
        },
    ).one_or_none()
    if row is None:
        raise KeyError(account)
    return Outlook(*row)


@dataclass(frozen=True)
class Budget:
    """The state of the kill switch and the sends that are left: in a second's window, the minute's bucket, the day."""

    trading_state: str
    second: int
    minute: int
    day: int


def budget(session: Session, account: str) -> Budget | None:
    """What is left of the account's rate limits; None for an unknown account. A look without a lock."""
    row = session.execute(text(_BUDGET), {"account": account}).one_or_none()
    return None if row is None else Budget(*row)


def take_over(session: Session, account: str) -> int:
    """Become the account's sender; answers the epoch that every claim must present."""
    statement = sa.update(Control).where(Control.account == account).values(epoch=Control.epoch + 1)
    return int(session.execute(statement.returning(Control.epoch)).scalar_one())


def claim(session: Session, account: str, *, epoch: int, kind: Kind, value_paise: int = 0) -> datetime | None:
    """Take one send from the budget; answers its instant (database time), None when the state, the epoch or a rate limit forbids it.

    Raises DayValueExceeded when the day's gross value would pass its limit; roll back then. Hold the transaction short and commit it before the call: until then nobody else of this account can send or halt.
    """
    row = session.execute(
        text(_CLAIM),
        {
            "account": account,
            "epoch": epoch,
            "states": ["ACTIVE"] if kind == "place" else ["ACTIVE", "CANCEL_ONLY"],
            "is_place": kind == "place",
            "value_paise": value_paise,
        },
    ).one_or_none()
    if row is None:
        return None
    if not row.within_value:
        raise DayValueExceeded(account)
    claimed_at: datetime = row.claimed_at
    return claimed_at
