"""Placing what a user asked for once and the platform does by itself: instalments and rebalances, without the user's token.

`write` leaves an order and what is true with it, or nothing; `submit` has it accepted. Whoever dies in between is followed
by the driver, as everywhere.
"""

from collections.abc import Callable
from uuid import UUID

from common.errors import Forbidden
from common.http import PeerUnavailable
from common.logging import get_logger
from common.standing import Standings
from smallcase_service.desk import Desk, Proposed
from smallcase_service.proposals import checked

log = get_logger(__name__)


class AccountNotActive(Forbidden):
    """The account is suspended or closed."""


def write(desk: Desk, standings: Standings, user_id: UUID, propose: Callable[[str], Proposed]) -> UUID:
    """Write the order that `propose` makes of the account's KYC; answers its id.

    Raises AccountNotActive, what `propose` and `Proposed.also` raise, and what `checked` and `Desk.write` do.
    """
    # No token speaks for the user here: whether the account may trade is asked at this moment.
    standing = standings.of(user_id)
    if standing.status != "active":
        raise AccountNotActive(f"The account is {standing.status}; nothing can be traded in it.")
    proposed = checked(desk, lambda: propose(standing.kyc))()
    with desk.db.transaction() as session:
        return desk.write(session, proposed).basket_order_id


def submit(desk: Desk, order_id: UUID) -> None:
    """Have a written order accepted; without an answer the driver asks again."""
    try:
        desk.submit(order_id)
    except PeerUnavailable as error:
        log.warning("basket.answer_unknown", basket_order_id=str(order_id), detail=error.detail)
