"""What only a person can decide: a frozen block whose broker's books are gone or contradict ours."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.errors import Conflict, NotFound
from common.logging import get_logger
from trade_executor import allocating, breaks, closing, house, states
from trade_executor.models import Block, BlockChild, BrokerOrder

log = get_logger(__name__)

ENDED_BY_OPERATOR = "ended_by_operator"


class BlockNotFrozen(Conflict):
    """Only a frozen block is decided by hand; the others decide themselves from the broker's books."""


def settle_frozen(session: Session, block_id: UUID, *, actor: str, reason: str) -> Block:
    """Declare that the fills on record are all that a frozen block got (the contract note says so).

    Fills not yet given out are allocated; what the block got beyond its quantity is the house's; the rest of its orders
    expires. Raises NotFound, BlockNotFrozen.
    """
    if session.get(Block, block_id) is None:
        raise NotFound(f"There is no block {block_id}.", code="block_not_found")
    block = closing.lock_block(session, block_id)
    if block.state != "FROZEN":
        raise BlockNotFrozen(f"The block is {block.state}.")
    block.state = states.BLOCK.require(block.state, "WORKING")
    session.flush()
    allocating.allocate_new_fills(session, block, taken=_excess_to_house(session, block))
    _end_attempt(session, block)
    rest = closing.Close("EXPIRED", ENDED_BY_OPERATOR, "The order was ended by the operator after a check of the day.")
    closing.end_block(session, block, rest, why=ENDED_BY_OPERATOR)
    for kind in (breaks.PAST_DAY, breaks.OVERFILLED):
        breaks.cure(session, block.account, kind, str(block_id), f"settled by {actor}: {reason}")
    log.warning("block.settled_by_hand", block_id=str(block_id), actor=actor, reason=reason)
    return block


def _excess_to_house(session: Session, block: Block) -> allocating.Taken:
    """What the open fills hold beyond the block's quantity, given to the house; a fill that is all excess is its own."""
    given = session.scalars(sa.select(BlockChild.allocated_quantity).where(BlockChild.block_id == block.block_id))
    fills = allocating.open_fills(session, block)
    excess = sum(given) + sum(fill.quantity for fill in fills) - block.quantity
    if excess <= 0:
        return {}
    taken = house.book_excess(session, block, fills, excess)
    for fill in fills:
        if taken.get(fill.fill_id, (0, 0))[0] == fill.quantity:
            fill.booked_to = "house"
    session.flush()
    return taken


def _end_attempt(session: Session, block: Block) -> None:
    attempt = session.scalars(
        sa.select(BrokerOrder)
        .where(BrokerOrder.block_id == block.block_id, BrokerOrder.state.in_(states.ATTEMPT_UNRESOLVED))
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if attempt is None:
        return
    path = {
        "INTENT": ("VOID",),
        "SENDING": ("UNKNOWN", "LOST"),
        "UNKNOWN": ("LOST",),
        "ACKED": ("CANCELLED", "SETTLED"),
    }.get(attempt.state, ("SETTLED",))
    for state in path:
        attempt.state = states.ATTEMPT.require(attempt.state, state)
    attempt.outcome_code = ENDED_BY_OPERATOR
    session.flush()
