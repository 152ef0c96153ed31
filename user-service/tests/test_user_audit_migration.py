"""The move into one audit log keeps what was written before, and lets the release before go on writing."""

from uuid import uuid4

import pytest
import sqlalchemy as sa

from common import audit_chain
from common.db import run_downgrade, run_migrations

EVENT = "INSERT INTO security_events (at, kind, user_id, address, details) VALUES (now(), :kind, :user, '::1', '{}') RETURNING id"
ACTION = (
    "INSERT INTO admin_actions (at, actor_id, action, target_user_id, address, details)"
    " VALUES (now(), :actor, :action, :target, '::1', '{\"after\": \"closed\"}') RETURNING id"
)
USER = (
    "INSERT INTO users (id, email, email_key, full_name, password_hash, roles, status, kyc_status, login_count,"
    " created_at, updated_at) VALUES (:id, :name, :name, 'A', 'x', ARRAY['user'], 'active', 'none', 0, now(), now())"
)


@pytest.fixture
def people(scratch_database):
    run_migrations("user_service", scratch_database.url, "0001")
    ids = [uuid4(), uuid4()]
    with scratch_database.transaction() as session:
        for number, user_id in enumerate(ids):
            session.execute(sa.text(USER), {"id": user_id, "name": f"u{number}@example.com"})
    return ids


def write(session, user, admin):
    """What the release before writes, and how."""
    for kind, user_id in (("password.changed", user), ("password.reset_requested", None)):
        assert session.scalar(sa.text(EVENT), {"kind": kind, "user": user_id}) is not None
    for action, actor in (("admin_created", None), ("status_set", admin)):
        assert session.scalar(sa.text(ACTION), {"action": action, "actor": actor, "target": user}) is not None


def old_rows(session):
    events = session.execute(sa.text("SELECT kind, user_id, address, details FROM security_events ORDER BY id"))
    actions = session.execute(
        sa.text("SELECT actor_id, action, target_user_id, address, details FROM admin_actions ORDER BY id")
    )
    return [tuple(row) for row in events], [tuple(row) for row in actions]


def test_old_rows_move_the_old_release_writes_on_and_the_way_back_loses_nothing(scratch_database, people):
    db, (user, admin) = scratch_database, people
    with db.transaction() as session:
        write(session, user, admin)
        before = old_rows(session)

    run_migrations("user_service", db.url)

    with db.transaction() as session:
        assert old_rows(session) == before
        write(session, user, admin)
        events, actions = old_rows(session)
        assert (events, actions) == (before[0] * 2, before[1] * 2)
        logged = session.execute(sa.text("SELECT actor_kind, actor, action, target FROM audit_log ORDER BY id")).all()
        assert sorted(map(tuple, logged)) == sorted(
            [
                ("user", str(user), "password.changed", f"user:{user}"),
                ("unknown", "", "password.reset_requested", "nobody"),
                ("command_line", "command line", "admin_created", f"user:{user}"),
                ("operator", str(admin), "status_set", f"user:{user}"),
            ]
            * 2
        )
        assert audit_chain.extend(session) == 8
        assert audit_chain.verify(session).ok

    run_downgrade("user_service", db.url, "0001")

    with db.transaction() as session:
        assert old_rows(session) == (events, actions)
        write(session, user, admin)
