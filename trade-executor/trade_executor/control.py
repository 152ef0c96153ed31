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
RETURNING day_value_paise <= value_per_day_paise AS within_value, send_times[cardinality(send_times)] AS claimed_at
"""  # noqa: S608  fragments above, no input

_ALLOWANCE = f"""
SELECT trading_state, epoch,
    greatest(0, extract(epoch FROM {_WINDOW_FREE_AT} - clock_timestamp()),
        (1 - {_TOKENS}) * 120.0 / sends_per_minute)::float8 AS wait_s,
    {_USED_TODAY} < places_per_day AS may_place,
    {_USED_TODAY} < sends_per_day AS may_cancel
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
    row = session.execute(text(_ALLOWANCE), {"account": account}).one_or_none()
    if row is None:
        raise KeyError(account)
    return Allowance(row.trading_state, row.epoch, row.wait_s, row.may_place, row.may_cancel)


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
