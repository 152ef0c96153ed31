"""`python -m analytics_service rebuild`: every fact read again from its producer's outbox, everything derived made again.

Rows are made right where they stand, never removed first: readers see the model whole all the time, and facts that an
outbox no longer holds stay. Running beside the consumer or twice is harmless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from analytics_service import service
from analytics_service.facts import Portfolio
from analytics_service.models import CashFlow, ImportedPortfolio, Trade
from analytics_service.models_derived import DERIVED_FROM_FACTS
from analytics_service.valuing import bring_up_to_date
from common.catching_up import BEGINNING
from common.db import Database, run_in_transaction
from common.events import BasketUpdated, CashMoved, Envelope, OrderUpdated, OrderWorking, sources_of
from common.logging import get_logger
from common.outbox_reading import BODIES_MAX, GRACE_MIN_S, PAGE_MAX, OutboxSource, Position

log = get_logger(__name__)

EVENTS = (OrderUpdated, CashMoved, OrderWorking, BasketUpdated)


@dataclass(frozen=True)
class Rebuilt:
    """What a rebuild went over."""

    facts: int
    portfolios: int


def rebuild(db: Database, sources: Mapping[str, OutboxSource]) -> Rebuilt:
    """Go over all outboxes (by room) and all portfolios; raises PeerUnavailable when a room does not answer."""
    read = sum(_read_again(db, room, source) for room, source in sources.items())
    with db.transaction() as session:
        for table in DERIVED_FROM_FACTS:
            session.execute(delete(table))
    made = _value_all(db)
    log.info("rebuild.done", facts=read, portfolios=made)
    return Rebuilt(read, made)


def _read_again(db: Database, room: str, source: OutboxSource) -> int:
    types = sorted(event.type_name() for event in sources_of(EVENTS)[room])
    position, read = Position(recorded_at=BEGINNING), 0
    while True:
        page = source.page(types, position, grace_s=GRACE_MIN_S, limit=PAGE_MAX)
        ids = [message.message_id for message in page.messages]
        for start in range(0, len(ids), BODIES_MAX):
            envelopes = source.bodies(ids[start : start + BODIES_MAX])
            run_in_transaction(db, partial(_book_all, envelopes))
            read += len(envelopes)
        if len(ids) < PAGE_MAX:
            return read
        position = page.messages[-1]


def _book_all(envelopes: Sequence[Envelope], session: Session) -> None:
    events = [envelope.event() for envelope in envelopes]
    service.book_orders(session, [event for event in events if isinstance(event, OrderUpdated)], repair=True)
    service.book_blocks(session, [event for event in events if isinstance(event, OrderWorking)])
    for event in events:
        if isinstance(event, CashMoved):
            service.book_cash(session, event, repair=True)
        elif isinstance(event, BasketUpdated):
            service.book_basket(session, event)


def _value_all(db: Database) -> int:
    with db.session() as session:
        own = {
            Portfolio(portfolio_id, user_id)
            for table in (Trade, CashFlow)
            for portfolio_id, user_id in session.execute(select(table.portfolio_id, table.user_id).distinct())
        }
        imported = {
            Portfolio(portfolio_id, user_id, True)
            for portfolio_id, user_id in session.execute(
                select(ImportedPortfolio.portfolio_id, ImportedPortfolio.user_id)
            )
        }
    for portfolio in sorted(own | imported, key=lambda one: one.portfolio_id):
        run_in_transaction(db, partial(bring_up_to_date, portfolio=portfolio))
    return len(own | imported)
