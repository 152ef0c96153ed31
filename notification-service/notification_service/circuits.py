"""Leaving a failing provider alone: after some failures in a row it is asked again only now and then, with one message.

The state is a row, so all workers see it; messages wait meanwhile without using up their tries.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.logging import get_logger
from notification_service.config import Settings
from notification_service.models import Circuit

log = get_logger(__name__)


def may_ask(session: Session, provider: str, settings: Settings, now: datetime) -> bool:
    """Whether a provider may be asked now; of a failing one exactly one caller learns that it may.

    Part of the claim's transaction: whoever may ask holds the circuit's row until the claim is committed.
    """
    failing = session.scalars(
        sa.select(Circuit.failures).where(Circuit.provider == provider, Circuit.failures >= settings.circuit_failures)
    ).one_or_none()
    if failing is None:
        return True
    # One probe: until its answer, or the end of its lease, nobody else asks.
    probing = (
        sa.update(Circuit)
        .where(Circuit.provider == provider, sa.or_(Circuit.open_until.is_(None), Circuit.open_until <= now))
        .values(open_until=now + timedelta(seconds=settings.lease_seconds), changed_at=now)
    )
    return session.execute(probing.returning(Circuit.provider)).first() is not None


def failed(session: Session, provider: str, code: str, settings: Settings, now: datetime) -> bool:
    """Count a failure; answers whether the provider is left alone from now on."""
    values = {"failures": 1, "error_code": code, "changed_at": now}
    statement = (
        insert(Circuit)
        .values(provider=provider, **values)
        .on_conflict_do_update(index_elements=[Circuit.provider], set_={**values, "failures": Circuit.failures + 1})
        .returning(Circuit.failures)
    )
    failures = session.execute(statement).scalar_one()
    if failures < settings.circuit_failures:
        return False
    pause = settings.circuits.after(failures - settings.circuit_failures + 1)
    session.execute(sa.update(Circuit).where(Circuit.provider == provider).values(open_until=now + pause))
    if failures == settings.circuit_failures:
        log.warning("provider.left_alone", provider=provider, code=code)
    return True


def not_asked(session: Session, provider: str, now: datetime) -> None:
    """A probe did not come to asking: the next message may be one."""
    session.execute(
        sa.update(Circuit).where(Circuit.provider == provider, Circuit.open_until > now).values(open_until=now)
    )


def answered(session: Session, provider: str, now: datetime) -> None:
    """The provider works."""
    recovered = (
        sa.update(Circuit)
        .where(Circuit.provider == provider, Circuit.failures > 0)
        .values(failures=0, open_until=None, error_code=None, changed_at=now)
    )
    session.execute(recovered)
