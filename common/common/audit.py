"""The audit log of a room: who did what to whom, written in the transaction of the act and never changed afterwards.

Rows are insert-only by trigger and by missing privilege. `common.audit_chain` links them to a hash chain a moment later,
so whatever is changed behind the triggers' back is found; `audit_pending` names the rows that still wait for their link.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Request
from sqlalchemy import MetaData, Table
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from common.db import NAMING, UtcDateTime
from common.logging import current_correlation_id, get_logger, names_a_secret

log = get_logger(__name__)

ActorKind = Literal["user", "operator", "command_line", "system", "unknown"]
"""A user acts for himself, an operator on others; `unknown`: it came from outside and nobody has proved who it was."""
ACTOR_KINDS: tuple[ActorKind, ...] = ("user", "operator", "command_line", "system", "unknown")
ADDRESS_LENGTH_MAX = 64

_metadata = MetaData(naming_convention=NAMING)
audit_log = Table(
    "audit_log",
    _metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("at", UtcDateTime(), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("details", JSONB, nullable=False),
    sa.Column("correlation_id", sa.Text),
    sa.CheckConstraint(f"actor_kind IN ({', '.join(repr(kind) for kind in ACTOR_KINDS)})", name="actor_kind"),
    sa.Index("ix_audit_log_target", "target", "id"),
    sa.Index("ix_audit_log_at", "at"),
)
# No foreign keys: their checks need the UPDATE privilege that is taken away here. The verifier proves what they would.
audit_pending = Table(
    "audit_pending", _metadata, sa.Column("audit_id", sa.BigInteger, primary_key=True, autoincrement=False)
)
audit_chain = Table(
    "audit_chain",
    _metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("audit_id", sa.BigInteger, nullable=False, unique=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("octet_length(hash) = 32", name="hash_is_sha256"),
)
_TABLES = (audit_log, audit_pending, audit_chain)

_FUNCTIONS = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'restrict_violation', MESSAGE = 'rows of ' || TG_TABLE_NAME || ' are never changed';
END $$;
CREATE FUNCTION await_audit_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_pending (audit_id) VALUES (NEW.id);
    RETURN NULL;
END $$;
CREATE TRIGGER audit_log_awaits_link AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION await_audit_link();
"""
_APPEND_ONLY = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER {table}_keeps_rows BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM PUBLIC, CURRENT_USER;
"""


def add_tables(metadata: MetaData) -> None:
    """Make the three tables part of a service's metadata (call it in `models.py`)."""
    for table in _TABLES:
        table.to_metadata(metadata)


def create_tables(bind: sa.Connection) -> None:
    """Create tables, triggers and privileges in a migration: `create_tables(op.get_bind())`."""
    for table in _TABLES:
        table.create(bind)
    bind.exec_driver_sql(_FUNCTIONS)
    for table in (audit_log, audit_chain):
        bind.exec_driver_sql(_APPEND_ONLY.format(table=table.name))


def drop_tables(bind: sa.Connection) -> None:
    """Drop everything again in a migration's downgrade."""
    for table in reversed(_TABLES):
        table.drop(bind)
    bind.execute(sa.text("DROP FUNCTION refuse_audit_change(), await_audit_link()"))


@dataclass(frozen=True)
class Actor:
    """Who acts. `name` is a user id, or the name of a program."""

    kind: ActorKind
    name: str


def operator(user_id: UUID) -> Actor:
    """A person with a role above a plain user's, acting by it."""
    return Actor("operator", str(user_id))


def record(
    session: Session,
    actor: Actor,
    action: str,
    *,
    target: str,
    address: str = "",
    at: datetime | None = None,
    **details: Any,
) -> int:
    """Write what is being done, in the transaction that does it; answers the row's id.

    `target` is `kind:id` (`user:…`, `account:pool`). Details are texts, whole numbers, booleans, lists and mappings of
    them; raises ValueError for anything else and for a name that promises a secret.
    """
    _check(details)
    row = {
        "at": at or datetime.now(UTC),
        "actor": actor.name,
        "actor_kind": actor.kind,
        "action": action,
        "target": target,
        "address": address[:ADDRESS_LENGTH_MAX],
        "details": details,
        "correlation_id": current_correlation_id(),
    }
    audit_id: int = session.execute(sa.insert(audit_log).values(row).returning(audit_log.c.id)).scalar_one()
    log.info("audit.recorded", audit_id=audit_id, action=action, actor=actor.name, target=target)
    return audit_id


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str) or names_a_secret(name):
                raise ValueError(f"the audit log takes no detail named {name!r}")
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)
    elif value is not None and not isinstance(value, str | int):
        # Fractions have no one spelling, and amounts are whole paise anyway.
        raise ValueError(f"the audit log takes no {type(value).__name__}")


def entries(
    session: Session,
    *,
    action: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    before: int | None = None,
    limit: int,
) -> Sequence[Any]:
    """Rows with their place in the chain (`seq`, `hash`; None while they wait for it), newest first.

    `before` is the id of the last row of the page before.
    """
    statement = (
        sa.select(audit_log, audit_chain.c.seq, audit_chain.c.hash)
        .outerjoin(audit_chain, audit_chain.c.audit_id == audit_log.c.id)
        .order_by(audit_log.c.id.desc())
        .limit(limit)
    )
    for column, wanted in ((audit_log.c.action, action), (audit_log.c.actor, actor), (audit_log.c.target, target)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    if before is not None:
        statement = statement.where(audit_log.c.id < before)
    return session.execute(statement).all()


async def _caller_address(request: Request) -> str:
    """The client as the gateway saw it (the last entry of X-Forwarded-For), otherwise the peer of the connection."""
    forwarded = ",".join(request.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip()
    peer = request.client.host if request.client else "unknown"
    return (forwarded or peer)[:ADDRESS_LENGTH_MAX]


CallerAddress = Annotated[str, Depends(_caller_address)]
"""What a route passes as `address`."""
