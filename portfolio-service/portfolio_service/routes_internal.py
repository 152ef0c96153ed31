"""What other rooms read of the ledger; only with their own service token."""

from typing import Annotated

from fastapi import APIRouter, Depends

from common.auth import require_service
from common.db import SessionDep
from common.dependencies import ClockDep
from portfolio_service import totals
from portfolio_service.schemas_money import LedgerTotalsOut

router = APIRouter(prefix="/internal/v1", tags=["internal"], include_in_schema=False)


@router.get("/ledger/totals")
def ledger_totals(
    _caller: Annotated[str, Depends(require_service("trade-executor"))], session: SessionDep, clock: ClockDep
) -> LedgerTotalsOut:
    """Users' and the house's totals of every asset, for the comparison with the broker's books."""
    return LedgerTotalsOut.model_validate({"as_of": clock.now(), "assets": totals.totals(session)})
