"""The ledger's side of the comparison: what portfolio-service says users and house have."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from common.auth import ServiceIdentity
from common.http import ServiceClient
from trade_executor.config import SERVICE, Settings
from trade_executor.reconciling import LedgerAsset

TIMEOUT_S = 20.0
"""The totals are summed over the whole ledger."""
PATH = "/internal/v1/ledger/totals"


class LedgerBooks(Protocol):
    """Where the totals of users and house come from."""

    def totals(self) -> Mapping[str, LedgerAsset]:
        """Every asset by its name (`INR`, `NSE:INFY`); raises AppError when they cannot be read."""
        ...


class PortfolioLedger:
    """The totals over HTTP."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    def totals(self) -> Mapping[str, LedgerAsset]:
        return {
            row["asset"]: LedgerAsset(row["users"], row["house"], row["to_market"], row["from_market"])
            for row in self._client.get(PATH)["assets"]
        }


def ledger_from(settings: Settings) -> LedgerBooks | None:
    """The ledger of portfolio-service; None for a process without a key of its own, which may not ask."""
    if settings.service_key_file is None:
        return None
    return _ledger(settings.portfolio_service_url, settings.service_key_file)


@cache
def _ledger(url: str, key_file: Path) -> LedgerBooks:
    identity = ServiceIdentity(SERVICE, key_file.read_text())
    return PortfolioLedger(ServiceClient(url, audience="portfolio-service", identity=identity, timeout_s=TIMEOUT_S))
