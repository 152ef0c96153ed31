"""What the broker sends by itself, kept as evidence. Nothing here moves an order: it only rings."""

import hashlib

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.clock import Clock, trading_date
from trade_executor.models import BrokerEvent


def keep_postback(session: Session, account: str, body: bytes, clock: Clock) -> bool:
    """Store an authentic postback once a day; False for a copy, which is only counted."""
    statement = insert(BrokerEvent).values(
        account=account,
        kind="postback",
        sha256=hashlib.sha256(body).digest(),
        received_on=trading_date(clock.now()),
        body=body.decode("utf-8", "replace").replace("\x00", ""),
        authentic=True,
    )
    copies = session.execute(
        statement.on_conflict_do_update(
            index_elements=[BrokerEvent.sha256, BrokerEvent.received_on],
            set_={"copies": BrokerEvent.copies + 1},
        ).returning(BrokerEvent.copies)
    ).scalar_one()
    return bool(copies == 1)


def count(session: Session, account: str) -> int:
    """How many different postbacks were kept."""
    return session.scalar(sa.select(sa.func.count()).where(BrokerEvent.account == account)) or 0
