"""Replacing the master key that addresses of contact points are sealed with, while processes read them.

Every process gets the new key beside the old one (NOTIFICATION_SEAL_KEYS) and makes it the current one; then all rows are
sealed anew, batch by batch, each in a transaction of its own: stopped anywhere, it goes on where it was. After that the
old key may go. Codes that were sent under the old key do not count any more; a new one can be asked for.
"""

from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common.db import Database, run_in_transaction
from common.logging import get_logger
from common.sealing import SealBroken, Sealer
from notification_service.contact_points import COLUMN, TABLE, fingerprint_of
from notification_service.kinds import Channel
from notification_service.models import ContactPoint

log = get_logger(__name__)

BATCH = 200


@dataclass
class Resealed:
    """What a rotation has done; `unreadable` are the places that no key opens and that stay as they are."""

    version: int
    resealed: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate(db: Database, sealer: Sealer) -> Resealed:
    """Seal every address of another key version with the current one."""
    done = Resealed(sealer.current)
    last: UUID | None = None
    while True:
        batch, last = run_in_transaction(db, partial(_batch, sealer=sealer, after=last))
        done.resealed += batch.resealed
        done.unreadable += batch.unreadable
        if last is None:
            log.info("keys.rotated", rows=done.resealed, version=done.version, unreadable=len(done.unreadable))
            return done


def _batch(session: Session, sealer: Sealer, after: UUID | None) -> tuple[Resealed, UUID | None]:
    """One batch in the order of ids; answers also the last id looked at, None at the end."""
    done = Resealed(sealer.current)
    statement = (
        sa.select(ContactPoint)
        .where(ContactPoint.removed_at.is_(None), ~ContactPoint.sealed.startswith(f"{sealer.current}:"))
        .order_by(ContactPoint.contact_id)
        .limit(BATCH)
        # Whoever removes one meanwhile comes first or second, not in between.
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if after is not None:
        statement = statement.where(ContactPoint.contact_id > after)
    rows = session.scalars(statement).all()
    for row in rows:
        place = {"table": TABLE, "row": str(row.contact_id), "column": COLUMN}
        try:
            address = sealer.open(row.sealed, **place)
        except SealBroken:
            done.unreadable.append(f"contact_point.sealed of {row.contact_id}")
            continue
        row.sealed = sealer.seal(address, **place)
        row.fingerprint = fingerprint_of(sealer, row.user_id, Channel(row.channel), address)
        done.resealed += 1
    return done, rows[-1].contact_id if len(rows) == BATCH else None
