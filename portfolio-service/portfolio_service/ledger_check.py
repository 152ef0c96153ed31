"""Proof of the ledger: what must always hold, counted in SQL (design.md section 4, execution.md 4.4 items 7 to 9).

Every check is one statement, so it sees one moment of the database while orders flow. `check` is the same for the ops
route, the operator scripts and the tests.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

PROBLEMS_SHOWN_MAX = 100
"""Rows shown per check; the count behind them is exact up to this bound."""
STATEMENT_TIMEOUT_MS = 120_000
"""A replay reads the whole ledger; requests for money keep the shorter limit."""

_SUMS = """
SELECT asset, sum(posted) AS off_by FROM account GROUP BY asset HAVING sum(posted) <> 0
"""

_REPLAY = """
WITH moved AS (
    SELECT account_id, sum(posted) AS posted, sum(held) AS held
    FROM (
        SELECT credit_account AS account_id, amount AS posted, 0 AS held
          FROM transfer WHERE kind IN ('posted', 'post')
        UNION ALL
        SELECT debit_account, -amount, 0 FROM transfer WHERE kind IN ('posted', 'post')
        UNION ALL
        SELECT debit_account, 0, amount FROM transfer WHERE kind = 'pending'
        UNION ALL
        SELECT hold.debit_account, 0, -hold.amount
          FROM transfer resolved JOIN transfer hold ON hold.id = resolved.pending_id
         WHERE resolved.kind IN ('post', 'void')
    ) AS movement GROUP BY account_id
)
SELECT coalesce(account.id, moved.account_id) AS account_id, account.owner, account.kind, account.asset,
       account.posted, coalesce(moved.posted, 0) AS replayed, account.held, coalesce(moved.held, 0) AS replayed_held
  FROM account FULL JOIN moved ON moved.account_id = account.id
 WHERE account.posted IS DISTINCT FROM coalesce(moved.posted, 0)
    OR account.held IS DISTINCT FROM coalesce(moved.held, 0)
"""

_NEGATIVE = """
SELECT owner, kind, asset, posted, held FROM account
 WHERE held < 0 OR (NOT allow_negative AND (posted < 0 OR posted - held < 0))
"""

_HOLDS = """
WITH open_hold AS (
    SELECT id, order_id, amount FROM transfer hold
     WHERE kind = 'pending' AND NOT EXISTS (SELECT 1 FROM transfer resolved WHERE resolved.pending_id = hold.id
                                               AND resolved.kind IN ('post', 'void'))
), live AS (
    SELECT order_id, hold_transfer_id, hold_amount FROM user_order
     WHERE state IN ('ACCEPTED', 'WORKING', 'PARTIAL') AND hold_transfer_id IS NOT NULL
)
SELECT coalesce(open_hold.order_id, live.order_id) AS order_id, open_hold.id AS open_hold, live.hold_transfer_id,
       open_hold.amount, live.hold_amount
  FROM open_hold FULL JOIN live ON live.hold_transfer_id = open_hold.id
 WHERE open_hold.id IS NULL OR live.order_id IS NULL OR open_hold.amount <> live.hold_amount
    OR open_hold.order_id <> live.order_id
"""

_LOTS = """
WITH lots AS (
    SELECT portfolio_id::text AS owner, CASE product WHEN 'MIS' THEN 'intraday' ELSE 'shares' END AS kind,
           exchange || ':' || tradingsymbol AS asset, sum(remaining_quantity) AS units
      FROM tax_lot GROUP BY 1, 2, 3
)
SELECT coalesce(account.owner, lots.owner) AS owner, coalesce(account.asset, lots.asset) AS asset,
       coalesce(account.posted, 0) AS ledger_units, coalesce(lots.units, 0) AS lot_units
  FROM (SELECT * FROM account WHERE kind IN ('shares', 'intraday')) AS account
  FULL JOIN lots ON lots.owner = account.owner AND lots.kind = account.kind AND lots.asset = account.asset
 WHERE coalesce(account.posted, 0) <> coalesce(lots.units, 0)
"""

_FILLS = """
WITH given AS (
    SELECT order_id, sum(quantity - house_quantity) AS units, sum(amount_paise - house_amount_paise) AS paise
      FROM order_allocation GROUP BY order_id
)
SELECT user_order.order_id, filled_quantity, coalesce(units, 0) AS allocated, amount_paise, coalesce(paise, 0) AS paid
  FROM user_order LEFT JOIN given ON given.order_id = user_order.order_id
 WHERE filled_quantity <> coalesce(units, 0) OR amount_paise <> coalesce(paise, 0)
"""

CHECKS = {
    "asset_sums_to_zero": _SUMS,
    "balance_is_replay": _REPLAY,
    "user_not_negative": _NEGATIVE,
    "hold_has_live_order": _HOLDS,
    "shares_equal_lots": _LOTS,
    "orders_equal_allocations": _FILLS,
}

_FIGURES = """
SELECT (SELECT count(*) FROM account) AS accounts, (SELECT count(*) FROM transfer) AS transfers,
       (SELECT count(*) FROM user_order) AS orders,
       (SELECT count(*) FROM ledger_break WHERE closed_at IS NULL) AS open_breaks
"""


@dataclass(frozen=True)
class LedgerReport:
    """Result of a check: figures, and per rule the rows that break it (at most PROBLEMS_SHOWN_MAX each)."""

    figures: dict[str, int]
    problems: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every rule holds."""
        return not any(self.problems.values())


def check(session: Session) -> LedgerReport:
    """Run all checks; writes nothing."""
    session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    problems = {
        name: [_plain(row) for row in session.execute(text(f"{query} LIMIT {PROBLEMS_SHOWN_MAX}")).mappings()]
        for name, query in CHECKS.items()
    }
    return LedgerReport(dict(session.execute(text(_FIGURES)).mappings().one()), problems)


def _plain(row: Any) -> dict[str, Any]:
    return {key: value if isinstance(value, (int, str, type(None))) else str(value) for key, value in row.items()}
