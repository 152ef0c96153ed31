"""Replacing the secret that TOTP secrets are sealed with, while people sign in.

Every process gets the new secret beside the old one and makes it the current one; then all rows are sealed anew, batch
by batch, each in a transaction of its own: stopped anywhere, it goes on where it was. After that the old secret may go.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from common import audit
from common.audit import Actor
from common.db import Database, run_in_transaction
from user_service.models import TotpFactor
from user_service.sealing import Sealer, Unsealable

BATCH = 200
ACTOR = Actor("command_line", "key rotation")


@dataclass
class Resealed:
    """What a rotation has done; `unreadable` are the places that no secret opens and that stay as they are."""

    version: int
    resealed: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate(db: Database, sealer: Sealer, now: datetime) -> Resealed:
    """Seal every TOTP secret of another version with the current one."""
    done = Resealed(sealer.current)
    last: UUID | None = None
    while True:
        batch, last = run_in_transaction(db, partial(_batch, sealer=sealer, after=last, now=now))
        done.resealed += batch.resealed
        done.unreadable += batch.unreadable
        if last is None:
            return done


def _batch(session: Session, sealer: Sealer, after: UUID | None, now: datetime) -> tuple[Resealed, UUID | None]:
    """One batch in the order of the users' ids; answers also the last id looked at, None at the end."""
    done = Resealed(sealer.current)
    # Locked: a code that is being judged opens the value it has read, and whoever sets up a factor anew comes first or
    # second but not in between.
    statement = (
        sa.select(TotpFactor)
        .where(sa.func.substring(TotpFactor.sealed_secret, 1, 1) != bytes([sealer.current]))
        .order_by(TotpFactor.user_id)
        .limit(BATCH)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if after is not None:
        statement = statement.where(TotpFactor.user_id > after)
    rows = session.scalars(statement).all()
    for row in rows:
        try:
            row.sealed_secret = sealer.reseal_totp(row.user_id, row.sealed_secret)
            done.resealed += 1
        except Unsealable:
            done.unreadable.append(f"totp_factors.sealed_secret of user {row.user_id}")
    if done.resealed:
        session.flush()
        audit.record(
            session, ACTOR, "keys.rotated", target="table:totp_factors", at=now,
            rows=done.resealed, version=sealer.current,
        )  # fmt: skip
    return done, rows[-1].user_id if len(rows) == BATCH else None
