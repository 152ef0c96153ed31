"""Our own tables compared with each other (B6, B10), each rule one statement, so that it sees one moment.

Restricted to blocks that live or ended a moment ago, this is cheap enough for every few seconds; with a longer memory it
is part of a full run. Rows of the outbox must outlive that memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.orm import Session

from trade_executor import breaks, house, reconciling, states
from trade_executor.models import Allocation, Block, BrokerOrder, Fill, HouseFill

FOUND_MAX = 50
_AT_BROKER = (*states.ATTEMPT_AT_BROKER, "GHOST")
_now = sa.func.clock_timestamp()

_TOUCHED = """
WITH touched AS (
    SELECT block_id, quantity, state AS block_state FROM block
     WHERE account = :account AND (state <> 'DONE' OR done_at > :since)
)
"""

_ROUNDS = """
, filled AS (
    SELECT fill.block_id, fill.round_no, sum(fill.quantity - coalesce(house_fill.quantity, 0)) AS units,
           sum(fill.amount_paise - coalesce(house_fill.amount_paise, 0)) AS paise
      FROM fill JOIN touched USING (block_id) LEFT JOIN house_fill ON house_fill.fill_id = fill.fill_id
     WHERE fill.booked_to = 'block' AND fill.round_no IS NOT NULL GROUP BY fill.block_id, fill.round_no
), given AS (
    SELECT block_id, round_no, sum(allocation.quantity) AS units, sum(amount_paise) AS paise
      FROM allocation JOIN touched USING (block_id) GROUP BY block_id, round_no
)
SELECT block_id || '/' || round_no AS key,
       format('round filled %s units for %s paise, given out %s for %s', filled.units, filled.paise, given.units,
              given.paise) AS detail
  FROM filled FULL JOIN given USING (block_id, round_no)
 WHERE filled.units IS DISTINCT FROM given.units OR filled.paise IS DISTINCT FROM given.paise
"""

_SHARES = """
, given AS (
    SELECT block_id, order_id, sum(allocation.quantity) AS units FROM allocation JOIN touched USING (block_id)
     GROUP BY block_id, order_id
)
SELECT block_id || '/' || order_id AS key,
       format('the block says the order has %s units, its allocations say %s', block_child.allocated_quantity,
              given.units) AS detail
  FROM (SELECT block_child.* FROM block_child JOIN touched USING (block_id)) block_child
  FULL JOIN given USING (block_id, order_id)
 WHERE coalesce(block_child.allocated_quantity, -1) <> coalesce(given.units, 0)
"""

_ORDERS = """
, orders AS (SELECT DISTINCT order_id FROM block_child JOIN touched USING (block_id))
SELECT child_order.order_id::text AS key,
       format('the order has %s units for %s paise, its allocations say %s for %s', child_order.filled_quantity,
              child_order.amount_paise, coalesce(sum(allocation.quantity), 0),
              coalesce(sum(allocation.amount_paise), 0)) AS detail
  FROM orders JOIN child_order USING (order_id) LEFT JOIN allocation USING (order_id)
 GROUP BY child_order.order_id
HAVING child_order.filled_quantity <> coalesce(sum(allocation.quantity), 0)
    OR child_order.amount_paise <> coalesce(sum(allocation.amount_paise), 0)
"""

_TOLD = """
SELECT allocation.allocation_id::text AS key,
       format('an allocation of %s units for %s paise was told %s times, %s of them with these figures',
              allocation.quantity, allocation.amount_paise, count(outbox.id), count(outbox.id) FILTER (WHERE
              (outbox.payload->>'quantity')::bigint = allocation.quantity
              AND (outbox.payload->>'amount_paise')::bigint = allocation.amount_paise)) AS detail
  FROM allocation JOIN touched USING (block_id)
  LEFT JOIN outbox ON outbox.aggregate_id = allocation.order_id::text AND outbox.type = 'OrderAllocated'
       AND outbox.payload->>'allocation_id' = allocation.allocation_id::text
 GROUP BY allocation.allocation_id
HAVING count(outbox.id) <> 1 OR count(outbox.id) FILTER (WHERE
       (outbox.payload->>'quantity')::bigint = allocation.quantity
       AND (outbox.payload->>'amount_paise')::bigint = allocation.amount_paise) <> 1
"""

_HOUSE_TOLD = """
SELECT house_fill_id::text AS key,
       format('a fill of the house of %s units was told %s times', quantity, count(outbox.id)) AS detail
  FROM house_fill
  LEFT JOIN outbox ON outbox.aggregate_id = house_fill_id::text AND outbox.type = 'HouseFilled'
 WHERE account = :account AND house_fill.recorded_at > :since
 GROUP BY house_fill_id HAVING count(outbox.id) <> 1
"""

_PARENTS = """
, sent AS (
    SELECT block_id, sum(broker_order.quantity) FILTER (WHERE state NOT IN
           ('REFUSED', 'VOID', 'LOST', 'GHOST', 'CLOSED')) AS units
      FROM broker_order JOIN touched USING (block_id) GROUP BY block_id
), asked AS (
    SELECT block_id, sum(block_child.quantity) AS units FROM block_child JOIN touched USING (block_id) GROUP BY block_id
)
SELECT block_id::text AS key,
       format('block of %s: its orders asked for %s, its attempts for %s', touched.quantity, asked.units, sent.units)
       AS detail
  FROM touched LEFT JOIN sent USING (block_id) LEFT JOIN asked USING (block_id)
 WHERE touched.quantity IS DISTINCT FROM asked.units OR coalesce(sent.units, 0) > touched.quantity
"""

_OVERFILLED = """
SELECT block_id::text AS key,
       format('the broker says %s of %s units were filled', broker_order.filled_quantity, broker_order.quantity) AS detail
  FROM broker_order JOIN touched USING (block_id)
 WHERE block_state <> 'DONE' AND broker_order.filled_quantity > broker_order.quantity
"""

RULES: tuple[tuple[str, str], ...] = (
    (breaks.MISALLOCATED, _TOUCHED + _ROUNDS),
    (breaks.MISALLOCATED, _TOUCHED + _SHARES),
    (breaks.MISALLOCATED, _TOUCHED + _ORDERS),
    (breaks.UNTOLD, _TOUCHED + _TOLD),
    (breaks.UNTOLD, _HOUSE_TOLD),
    (breaks.PARENT_MISMATCH, _TOUCHED + _PARENTS),
    (breaks.OVERFILLED, _TOUCHED + _OVERFILLED),
)


@dataclass(frozen=True)
class Finding:
    """A rule about our own books that does not hold."""

    kind: str
    key: str
    detail: str


def check(session: Session, account: str, *, memory_s: float) -> list[Finding]:
    """Run all rules over blocks that live or ended within `memory_s` seconds; at most FOUND_MAX findings a rule."""
    # A value, not an expression: the planner then knows how few blocks that are.
    since = session.scalar(sa.select(_now - sa.func.make_interval(0, 0, 0, 0, 0, 0, memory_s)))
    return [
        Finding(kind, row.key, row.detail)
        for kind, rule in RULES
        for row in session.execute(text(_first(rule)), {"account": account, "since": since})
    ]


def _first(rule: str) -> str:
    # Materialized: a limit inside would have the planner look for a first finding where there is none.
    return f"WITH found AS MATERIALIZED ({rule}) SELECT key, detail FROM found LIMIT {FOUND_MAX}"  # noqa: S608  our own rules


def add_missing(session: Session, account: str) -> int:
    """The one repair there is: facts of the broker that are on record and not booked yet."""
    return house.book_own(session, account)


def day_net(session: Session, account: str, day: date) -> dict[str, int]:
    """Net units of all trades of the account on a day, users' and house's, by instrument."""
    net: dict[str, int] = {}
    for table in (Fill, HouseFill):
        own = sa.select(
            table.exchange, table.tradingsymbol, sa.func.sum(_signed(table.side, table.quantity)).label("units")
        ).where(table.account == account, table.trade_date == day, table.recorded_at > _midnight_before(day))
        if table is HouseFill:
            # Those of our own orders are among the fills.
            own = own.where(HouseFill.fill_id.is_(None))
        for row in session.execute(own.group_by(table.exchange, table.tradingsymbol)):
            key = reconciling.key_of(row.exchange, row.tradingsymbol)
            net[key] = net.get(key, 0) + int(row.units)
    return net


def told(session: Session) -> dict[str, reconciling.Told]:
    """All that was ever given out to users and house, by asset and direction, as the ledger names assets.

    Over all broker accounts: the ledger does not tell them apart.
    """
    units: dict[str, list[int]] = {}
    for exchange, symbol, side, quantity, amount_paise in _given(session):
        bought = side == "BUY"
        share = units.setdefault(reconciling.key_of(exchange, symbol), [0, 0])
        money = units.setdefault(reconciling.INR, [0, 0])
        share[1 if bought else 0] += int(quantity)
        money[0 if bought else 1] += int(amount_paise)
    return {key: reconciling.Told(*both) for key, both in units.items()}


def _given(session: Session) -> Iterator[tuple[Any, ...]]:
    allocated = (
        sa.select(
            Block.exchange,
            Block.tradingsymbol,
            Block.side,
            sa.func.sum(Allocation.quantity),
            sa.func.sum(Allocation.amount_paise),
        )
        .join(Block, Block.block_id == Allocation.block_id)
        .group_by(Block.exchange, Block.tradingsymbol, Block.side)
    )
    to_house = sa.select(
        HouseFill.exchange,
        HouseFill.tradingsymbol,
        HouseFill.side,
        sa.func.sum(HouseFill.quantity),
        sa.func.sum(HouseFill.amount_paise),
    ).group_by(HouseFill.exchange, HouseFill.tradingsymbol, HouseFill.side)
    for statement in (allocated, to_house):
        yield from (tuple(row) for row in session.execute(statement))


def unsettled(session: Session, account: str, *, within_s: float) -> frozenset[str]:
    """Instruments with something of ours at the broker, a fill that nobody was given, or one of the last seconds."""
    young = _now - sa.func.make_interval(0, 0, 0, 0, 0, 0, within_s)
    at_broker = (
        sa.select(Block.exchange, Block.tradingsymbol)
        .join(BrokerOrder, BrokerOrder.block_id == Block.block_id)
        .where(Block.account == account, BrokerOrder.state.in_(_AT_BROKER))
    )
    waiting = sa.select(Fill.exchange, Fill.tradingsymbol).where(
        Fill.account == account, Fill.round_no.is_(None), Fill.booked_to == "block"
    )
    recent = [
        sa.select(table.exchange, table.tradingsymbol).where(table.account == account, table.recorded_at > young)
        for table in (Fill, HouseFill)
    ]
    found = session.execute(sa.union(at_broker, waiting, *recent))
    return frozenset(reconciling.key_of(row.exchange, row.tradingsymbol) for row in found)


def anything_under_way(session: Session, account: str, *, within_s: float) -> bool:
    """Whether blocks live, or ended within the last seconds."""
    ended = Block.done_at > _now - sa.func.make_interval(0, 0, 0, 0, 0, 0, within_s)
    live = sa.select(Block.block_id).where(Block.account == account, sa.or_(Block.state != "DONE", ended))
    return session.execute(live.limit(1)).first() is not None


def _midnight_before(day: date) -> datetime:
    """A bound for an index: a trade is recorded after it was made, whatever the time zone."""
    return datetime.combine(day - timedelta(days=1), time(), UTC)


def _signed(side: Any, quantity: Any) -> Any:
    return sa.case((side == "BUY", quantity), else_=-quantity)
