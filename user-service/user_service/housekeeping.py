"""Old rows go: expired tokens, ended sessions, quiet throttles, old sign-in records. Audit rows stay."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.clock import Clock
from common.db import Database
from common.logging import bound, get_logger
from user_service.models import AuthSession, LoginAttempt, LoginThrottle, MailToken, RefreshToken

log = get_logger(__name__)

SWEEP_SECONDS = 3600.0
BATCH_ROWS = 5_000
KEEP_SESSIONS = timedelta(days=30)
"""As long as attempts.KNOWN_ADDRESS_DAYS needs them."""
KEEP_MAIL_TOKENS = timedelta(days=1)
KEEP_THROTTLES = timedelta(days=2)
KEEP_LOGIN_ATTEMPTS = timedelta(days=90)


def purge(session: Session, now: datetime) -> dict[str, int]:
    """Delete up to BATCH_ROWS outdated rows per table; answers how many of each."""
    outdated: list[tuple[type[Any], Any, ColumnElement[bool]]] = [
        (RefreshToken, RefreshToken.token_hash, RefreshToken.expires_at < now),
        (AuthSession, AuthSession.id, AuthSession.expires_at < now - KEEP_SESSIONS),
        (MailToken, MailToken.id, MailToken.expires_at < now - KEEP_MAIL_TOKENS),
        (LoginThrottle, LoginThrottle.subject, LoginThrottle.last_attempt_at < now - KEEP_THROTTLES),
        (LoginAttempt, LoginAttempt.id, LoginAttempt.at < now - KEEP_LOGIN_ATTEMPTS),
    ]
    counts = {}
    for model, key, condition in outdated:
        # Rows that somebody works on are left for the next sweep, so a sweep never waits and never deadlocks.
        chosen = select(key).where(condition).limit(BATCH_ROWS).with_for_update(skip_locked=True)
        result = session.execute(delete(model).where(key.in_(chosen)).returning(key))
        counts[model.__tablename__] = len(result.all())
    return counts


def sweeper(db: Database, clock: Clock) -> Callable[[threading.Event], None]:
    """A loop for `common.process.run_until_signal`: purges every SWEEP_SECONDS until told to stop."""

    def sweep(stop: threading.Event) -> None:
        with bound(service="user-service"):
            while not stop.is_set():
                try:
                    with db.transaction() as session:
                        counts = purge(session, clock.now())
                    log.info("housekeeping.purged", **counts)
                except DBAPIError as error:
                    log.warning("housekeeping.failed", error=type(error).__name__)
                stop.wait(SWEEP_SECONDS)

    return sweep
