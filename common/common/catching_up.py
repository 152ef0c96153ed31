"""Catching up: a consumer compares other rooms' outboxes with its inbox and takes what the bus has lost.

A purged queue, a dead letter, a broker that came back without its disk: the message is still in its producer's outbox,
and its absence from the inbox says that it has no effect here. What is missing goes through the same `consumers.handle`,
whose inbox row makes an effect happen once, so running beside the bus or beside another process like this is harmless.
What the bus is still bringing is left to it: two who handle the same message wait for each other.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import MetaData
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from common import metrics
from common.auth import ServiceIdentity
from common.backlog import Backlog
from common.bus import Bus, ConsumerNotReady, deliver
from common.config import ServiceSettings
from common.consumers import Handlers, handler_of, run_consumer
from common.db import NAMING, Database
from common.errors import AppError
from common.events import sources_of
from common.http import ServiceClient
from common.logging import bound, get_logger
from common.outbox import inbox
from common.outbox_reading import BODIES_MAX, GRACE_MAX_S, PAGE_MAX, OutboxSource, Position, RemoteOutbox

log = get_logger(__name__)

INTERVAL_S = 5.0
GRACE_S = 10.0
"""Younger messages are left to the bus: they are most likely on their way. With a backlog, this much behind what it brings."""
OVERLAP = timedelta(seconds=10)
"""Looked at again every time, in case a producer's clock was set back."""
OWED_PAUSE_S = 60.0
OWED_MAX = 1000
"""With more failing messages than this it is not the messages: nothing further is looked at until some succeed."""
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)

_metadata = MetaData(naming_convention=NAMING)
cursor = sa.Table(
    "catching_up_cursor",
    _metadata,
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    # Everything the source recorded before this has its effect here.
    sa.Column("handled_before", sa.DateTime(timezone=True), nullable=False),
)


def add_tables(metadata: MetaData) -> None:
    """Make the cursor part of a consuming room's metadata (call it in `models.py`)."""
    cursor.to_metadata(metadata)


def create_tables(op: Any) -> None:
    """Create it in a migration."""
    _metadata.create_all(op.get_bind())


def drop_tables(op: Any) -> None:
    """Drop it in a migration's downgrade."""
    _metadata.drop_all(op.get_bind())


def handled_before(session: Session, consumer: str, source: str) -> datetime | None:
    """Everything that a source recorded before this has its effect here; None before the first comparison."""
    return session.scalar(
        sa.select(cursor.c.handled_before).where(cursor.c.consumer == consumer, cursor.c.source == source)
    )


class CatchingUp:
    """One consumer's comparison with one source. Several processes may run one each.

    The cursor in the database only ever passes what is known to be handled. Messages whose handler fails are owed: tried
    again now and then, holding the cursor back but not the messages behind them. A process that starts looks from the
    cursor on, so it finds again what was owed before.
    """

    def __init__(
        self,
        db: Database,
        source: OutboxSource,
        *,
        consumer: str,
        source_name: str,
        handlers: Handlers,
        after_commit: Callable[[], None] | None = None,
        grace_s: float = GRACE_S,
        page_size: int = PAGE_MAX,
        backlog: Backlog | None = None,
    ) -> None:
        self.source_name = source_name
        self._db = db
        self._source = source
        self._consumer = consumer
        self._handler = handler_of(db, consumer, handlers, after_commit)
        self._types = sorted(event.type_name() for event in sources_of(handlers)[source_name])
        self._grace_s = grace_s
        self._page_size = page_size
        self._backlog = backlog or Backlog()
        self._seen: datetime | None = None
        self._owed: dict[UUID, datetime] = {}
        self._owed_due_at = 0.0

    def round(self) -> int:
        """Look once at everything recorded since the last look; answers how many missing messages were handled.

        Raises AppError when the source does not answer, SQLAlchemyError or ConsumerNotReady when the own database does
        not. What was done until then stays done, the rest is looked at again.
        """
        taken = self._settle_owed()
        position = Position(recorded_at=max(BEGINNING, (self._seen or self._stored()) - OVERLAP))
        grace_s = min(GRACE_MAX_S, self._grace_s + self._backlog.behind_s(self.source_name))
        while len(self._owed) < OWED_MAX:
            page = self._source.page(self._types, position, grace_s=grace_s, limit=self._page_size)
            recorded = {message.message_id: message.recorded_at for message in page.messages}
            taken += self._take({key: recorded[key] for key in self._missing(recorded) if key not in self._owed})
            full = len(page.messages) == self._page_size
            position = page.messages[-1] if full else Position(recorded_at=page.settled_before)
            self._seen = max(self._seen or BEGINNING, position.recorded_at)
            if not full:
                break
        self._store()
        return taken

    def _settle_owed(self) -> int:
        if not self._owed or time.monotonic() < self._owed_due_at:
            return 0
        self._owed_due_at = time.monotonic() + OWED_PAUSE_S
        missing = self._missing(self._owed)
        # The bus or another process may have brought one meanwhile.
        self._owed = {message_id: self._owed[message_id] for message_id in missing}
        return self._take(self._owed)

    def _take(self, wanted: Mapping[UUID, datetime]) -> int:
        """Fetch messages and handle them; answers how many were handled, the others are owed."""
        ids, taken = list(wanted), 0
        recorded = dict(wanted)
        for start in range(0, len(ids), BODIES_MAX):
            envelopes = self._source.bodies(ids[start : start + BODIES_MAX])
            if gone := set(ids[start : start + BODIES_MAX]) - {envelope.id for envelope in envelopes}:
                log.error("catching_up.gone", source=self.source_name, message_ids=sorted(map(str, gone)))
                self._owed = {key: at for key, at in self._owed.items() if key not in gone}
            handled = deliver(self._consumer, self._handler, envelopes)
            for envelope, done in zip(envelopes, handled, strict=True):
                if done:
                    taken += 1
                    self._owed.pop(envelope.id, None)
                else:
                    self._owed.setdefault(envelope.id, recorded[envelope.id])
        if taken:
            log.warning("catching_up.taken", consumer=self._consumer, source=self.source_name, messages=taken)
        metrics.messages_caught_up.labels(self._consumer, self.source_name).inc(taken)
        metrics.messages_owed.labels(self._consumer, self.source_name).set(len(self._owed))
        return taken

    def _missing(self, message_ids: Iterable[UUID]) -> list[UUID]:
        wanted = list(message_ids)
        if not wanted:
            return []
        statement = sa.select(inbox.c.message_id).where(
            inbox.c.consumer == self._consumer, inbox.c.message_id.in_(wanted)
        )
        with self._db.transaction() as session:
            known = set(session.scalars(statement))
        return [message_id for message_id in wanted if message_id not in known]

    def _stored(self) -> datetime:
        with self._db.transaction() as session:
            return handled_before(session, self._consumer, self.source_name) or BEGINNING + OVERLAP

    def _store(self) -> None:
        seen = self._seen
        if seen is None:
            return
        statement = insert(cursor).values(
            consumer=self._consumer, source=self.source_name, handled_before=min([seen, *self._owed.values()])
        )
        # Another process may know more: each only says what it has compared itself, on top of what was known.
        latest = sa.func.greatest(cursor.c.handled_before, statement.excluded.handled_before)
        with self._db.transaction() as session:
            session.execute(
                statement.on_conflict_do_update(
                    index_elements=[cursor.c.consumer, cursor.c.source], set_={"handled_before": latest}
                )
            )


def comparisons_of(
    settings: ServiceSettings,
    db: Database,
    identity: ServiceIdentity,
    *,
    handlers: Handlers,
    backlog: Backlog,
    after_commit: Callable[[], None] | None = None,
) -> list[CatchingUp]:
    """The comparisons of a room with every room whose facts it acts on."""
    return [
        CatchingUp(
            db,
            RemoteOutbox(ServiceClient(settings.peer_url(room), audience=room, identity=identity)),
            consumer=identity.name,
            source_name=room,
            handlers=handlers,
            after_commit=after_commit,
            backlog=backlog,
        )
        for room in sorted(sources_of(handlers))
    ]


def consuming(
    settings: ServiceSettings,
    bus: Bus,
    db: Database,
    identity: ServiceIdentity,
    *,
    handlers: Handlers,
    after_commit: Callable[[], None] | None = None,
) -> list[Callable[[threading.Event], None]]:
    """What a room's consumer runs: it takes from the bus, and compares with every room whose facts it acts on."""
    backlog = Backlog()
    comparisons = comparisons_of(settings, db, identity, handlers=handlers, after_commit=after_commit, backlog=backlog)

    def take(stop: threading.Event) -> None:
        run_consumer(
            bus, db, consumer=identity.name, handlers=handlers, stop=stop, after_commit=after_commit, backlog=backlog
        )

    return [take, partial(run, comparisons, identity.name)]


def run(comparisons: Sequence[CatchingUp], consumer: str, stop: threading.Event) -> None:
    """Compare every few seconds until told to stop. A source that does not answer delays its own messages only."""
    with bound(service=consumer):
        while not stop.wait(INTERVAL_S * random.uniform(0.8, 1.2)):  # noqa: S311  spreads processes, no secret
            for comparison in comparisons:
                try:
                    while comparison.round() and not stop.is_set():
                        pass
                except (AppError, SQLAlchemyError, ConsumerNotReady) as error:
                    log.warning(
                        "catching_up.delayed",
                        source=comparison.source_name,
                        error=type(error).__name__,
                        detail=str(error),
                    )
