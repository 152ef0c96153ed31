"""The hash chain over a room's audit log: each link's hash covers its row and the hash before it.

    hash(seq) = SHA-256(hash(seq - 1) || canonical(seq, row)),  hash(0) = 32 zero bytes

`canonical` is the UTF-8 text of one JSON object with the members action, actor, actor_kind, address, at, correlation_id,
details, id, seq and target: names sorted by code point at every depth, no white space, nothing escaped but `"`, `\\` and
control characters (the short escapes where JSON has them), whole numbers in decimal, `at` in UTC as PostgreSQL's
`to_jsonb(timestamp)` writes it (ISO 8601, up to six decimals, trailing zeros left out, no zone).

Links are made by one writer at a time a moment after the rows: a chain inside every act's transaction would be a lock
that all acts wait for. A row dropped within that moment leaves no trace; so does a chain that somebody with the rights
of the database's superuser has computed anew from some row on, which is why the head is kept elsewhere as well and given
to `verify`.
"""

import json
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common import metrics
from common.audit import audit_chain, audit_log, audit_pending
from common.db import Database
from common.logging import bound, get_logger

log = get_logger(__name__)

GENESIS: Final = bytes(32)
WRITER_LOCK_KEY = 0x5A4A7
LINK_BATCH = 500
SWEEP_SECONDS = 1.0
VERIFY_BATCH = 1_000
PROBLEMS_MAX = 100

# The instant as the database writes it: some that a tamperer can store are beyond Python.
_AT = sa.func.to_jsonb(sa.func.timezone("UTC", audit_log.c.at)).op("#>>", return_type=sa.Text())(sa.text("'{}'"))
_ROW = (*(column for column in audit_log.c if column.name != "at"), _AT.label("at_text"))


@dataclass(frozen=True)
class Head:
    """The newest link; seq 0 is the empty chain."""

    seq: int
    hash: bytes


@dataclass(frozen=True)
class Problem:
    """Where the log and its chain contradict each other."""

    kind: str
    detail: str
    seq: int | None = None
    audit_id: int | None = None


@dataclass
class Verdict:
    """What verification found; `problems` holds the first PROBLEMS_MAX, by place in the chain."""

    chained: int = 0
    waiting: int = 0
    head: Head = field(default_factory=lambda: Head(0, GENESIS))
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    def add(self, kind: str, detail: str, *, seq: int | None = None, audit_id: int | None = None) -> None:
        """Remember a problem."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(Problem(kind, detail, seq, audit_id))


def canonical(seq: int, row: Any) -> bytes:
    """The bytes of a row that its link covers; see the module's docstring."""
    members = {
        "seq": seq,
        "id": row.id,
        "at": row.at_text,
        "actor": row.actor,
        "actor_kind": row.actor_kind,
        "action": row.action,
        "target": row.target,
        "address": row.address,
        "details": row.details,
        "correlation_id": row.correlation_id,
    }
    return json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def head(session: Session) -> Head:
    """The newest link."""
    row = session.execute(
        sa.select(audit_chain.c.seq, audit_chain.c.hash).order_by(audit_chain.c.seq.desc()).limit(1)
    ).one_or_none()
    return Head(row.seq, bytes(row.hash)) if row is not None else Head(0, GENESIS)


def waiting(session: Session) -> int:
    """How many rows have no link yet."""
    return session.scalar(sa.select(sa.func.count()).select_from(audit_pending)) or 0


def extend(session: Session) -> int:
    """Link a batch of waiting rows in the order of their ids; answers how many. 0 also while another writer works."""
    if not session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(WRITER_LOCK_KEY))):
        return 0
    return link_waiting(session)


def link_waiting(session: Session) -> int:
    """As `extend`, without asking for the writer's lock: of two at once the second one fails on the link's key."""
    newest = head(session)
    rows = session.execute(
        sa.select(*_ROW)
        .join(audit_pending, audit_pending.c.audit_id == audit_log.c.id)
        .order_by(audit_log.c.id)
        .limit(LINK_BATCH)
    ).all()
    if not rows:
        return 0
    links, previous = [], newest.hash
    for seq, row in enumerate(rows, start=newest.seq + 1):
        previous = sha256(previous + canonical(seq, row)).digest()
        links.append({"seq": seq, "audit_id": row.id, "hash": previous})
    session.execute(sa.insert(audit_chain), links)
    session.execute(sa.delete(audit_pending).where(audit_pending.c.audit_id.in_([row.id for row in rows])))
    return len(rows)


def run(db: Database, name: str, stop: threading.Event) -> None:
    """Link what waits, every SWEEP_SECONDS until told to stop; any number of processes may run this."""
    with bound(service=name):
        while not stop.is_set():
            try:
                with db.transaction() as session:
                    linked = extend(session)
                with db.transaction() as session:
                    metrics.live_rows.labels(name, "audit", "waiting").set(waiting(session))
            except DBAPIError as error:
                log.warning("audit.links_delayed", error=type(error).__name__)
                linked = 0
            if linked < LINK_BATCH:
                stop.wait(SWEEP_SECONDS)


def verify(session: Session, *, known_head: bytes | None = None) -> Verdict:
    """Compute the whole chain again and look for rows outside it.

    `known_head` is a hash that was the head once: a chain that was cut or made anew does not contain it. Run it in a
    REPEATABLE READ transaction while the room works, so that all reads see one moment.
    """
    verdict = Verdict()
    known_seen = known_head in (None, GENESIS)
    statement = (
        sa.select(audit_chain.c.seq, audit_chain.c.audit_id, audit_chain.c.hash, *_ROW)
        .outerjoin(audit_log, audit_log.c.id == audit_chain.c.audit_id)
        .order_by(audit_chain.c.seq)
        # Read through a cursor of the server: with all rows at hand at once the transaction would lie idle too long.
        .execution_options(yield_per=VERIFY_BATCH)
    )
    for row in session.execute(statement):
        found = bytes(row.hash)
        if row.seq != verdict.head.seq + 1:
            verdict.add("links_missing", f"link {row.seq} follows link {verdict.head.seq}", seq=row.seq)
        if row.id is None:
            verdict.add("row_missing", "the link's row is gone", seq=row.seq, audit_id=row.audit_id)
        elif sha256(verdict.head.hash + canonical(row.seq, row)).digest() != found:
            verdict.add("hash_differs", "the row or its link was altered", seq=row.seq, audit_id=row.audit_id)
        known_seen = known_seen or found == known_head
        verdict.chained += 1
        verdict.head = Head(row.seq, found)
    _look_outside(session, verdict)
    if not known_seen and known_head is not None:
        verdict.add("head_missing", f"no link has the known hash {known_head.hex()}: cut off or made anew")
    return verdict


def _look_outside(session: Session, verdict: Verdict) -> None:
    """Rows without a link must wait for one, and only they."""
    linked = sa.exists().where(audit_chain.c.audit_id == audit_log.c.id)
    pending = sa.exists().where(audit_pending.c.audit_id == audit_log.c.id)
    strangers = sa.select(audit_log.c.id).where(~linked, ~pending).order_by(audit_log.c.id).limit(PROBLEMS_MAX)
    for audit_id in session.scalars(strangers):
        verdict.add("row_outside", "the row has no link and waits for none", audit_id=audit_id)
    kept = sa.exists().where(audit_log.c.id == audit_pending.c.audit_id)
    done = sa.exists().where(audit_chain.c.audit_id == audit_pending.c.audit_id)
    wrong = sa.select(audit_pending.c.audit_id).where(~kept | done).order_by(audit_pending.c.audit_id)
    for audit_id in session.scalars(wrong.limit(PROBLEMS_MAX)):
        verdict.add("waiting_wrongly", "a row that waits for its link is gone or has one", audit_id=audit_id)
    verdict.waiting = waiting(session)
