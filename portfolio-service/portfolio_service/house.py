"""The house's own trades: facts of the broker account that belong to no user, posted once to the house's accounts."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.clock import Clock
from common.events import HouseFilled
from common.logging import get_logger
from portfolio_service import ledger, postings
from portfolio_service.breaks import SEVERITY_STOP, open_break
from portfolio_service.ledger import Transfer
from portfolio_service.models import TransferRow

log = get_logger(__name__)


def apply_house_fill(session: Session, event: HouseFilled, clock: Clock) -> None:
    """Post the shares and the money of a trade to the house. The same trade told again changes nothing.

    Told again with other figures it is a break: what was posted stays, a person decides (execution.md 3.10, B5).
    """
    transfers = ledger.book_to_house(
        event.house_fill_id,
        None,
        event.side,
        ledger.asset_of(event.exchange, event.tradingsymbol),
        event.quantity,
        event.amount_paise,
    )
    known = _posted(session, transfers)
    if known:
        told = {(one.debit.id, one.credit.id, one.amount) for one in transfers}
        if {(row.debit_account, row.credit_account, row.amount) for row in known} != told:
            open_break(
                session,
                kind="house_fill_changed",
                key=str(event.house_fill_id),
                severity=SEVERITY_STOP,
                detail=f"booked {[row.amount for row in known]},"
                f" told {event.side} {event.quantity} for {event.amount_paise} paise of {event.tradingsymbol}",
                now=clock.now(),
            )
        return
    postings.open_accounts(session, ledger.effects(transfers))
    postings.post(session, transfers, clock.now())
    log.warning(
        "house.fill_booked",
        house_fill_id=str(event.house_fill_id),
        why=event.why,
        side=event.side,
        quantity=event.quantity,
        tradingsymbol=event.tradingsymbol,
    )


def _posted(session: Session, transfers: Sequence[Transfer]) -> Sequence[TransferRow]:
    # By cause: a trade worth nothing has no money transfer, one that changed may have another number of them.
    shares = transfers[0].cause
    causes = [shares, shares.removesuffix("shares") + "cash"]
    ids = [ledger.transfer_id(cause) for cause in causes]
    return session.scalars(sa.select(TransferRow).where(TransferRow.id.in_(ids)).order_by(TransferRow.seq)).all()
