"""What users and house have together, asset by asset: what trade-executor compares with the broker's books."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

STATEMENT_TIMEOUT_MS = 60_000
"""The movements with the market are summed over the whole ledger; requests for money keep the shorter limit."""

# One statement, so that balances and movements are of one moment.
_TOTALS = text(
    """
WITH moved AS (
    SELECT market.asset, sum(transfer.amount) AS to_market, 0 AS from_market
      FROM account market JOIN transfer ON transfer.credit_account = market.id
     WHERE market.owner = 'market' AND transfer.kind IN ('posted', 'post') GROUP BY market.asset
    UNION ALL
    SELECT market.asset, 0, sum(transfer.amount)
      FROM account market JOIN transfer ON transfer.debit_account = market.id
     WHERE market.owner = 'market' AND transfer.kind IN ('posted', 'post') GROUP BY market.asset
), market AS (
    SELECT asset, sum(to_market) AS to_market, sum(from_market) AS from_market FROM moved GROUP BY asset
), held AS (
    SELECT asset,
           coalesce(sum(posted) FILTER (WHERE kind IN ('cash', 'due', 'shares', 'intraday')), 0) AS users,
           coalesce(sum(posted) FILTER (WHERE kind = 'error'), 0) AS house
      FROM account GROUP BY asset
)
SELECT held.asset, held.users, held.house, coalesce(market.to_market, 0) AS to_market,
       coalesce(market.from_market, 0) AS from_market
  FROM held LEFT JOIN market ON market.asset = held.asset ORDER BY held.asset
"""
)


@dataclass(frozen=True)
class AssetTotal:
    """One asset, in paise or units: what users and the house have, and all that ever went to and came from the market."""

    asset: str
    users: int
    house: int
    to_market: int
    from_market: int


def totals(session: Session) -> list[AssetTotal]:
    """Every asset of the ledger."""
    session.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    return [
        AssetTotal(row.asset, int(row.users), int(row.house), int(row.to_market), int(row.from_market))
        for row in session.execute(_TOTALS)
    ]
