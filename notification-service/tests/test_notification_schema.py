"""The migration builds exactly what the models say and can be taken back; the process starts it."""

import os
import subprocess
import sys

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import inspect

from common.db import Database, migration_state, run_downgrade, run_migrations
from notification_service.models import Base

PACKAGE = "notification_service"


def is_own(_: object, name: str | None, kind: str, *__: object) -> bool:
    """Whether a table is the room's own: those of common are tested there."""
    return kind != "table" or name not in {"outbox", "inbox"}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFICATION_")}
    return subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_models_and_migrations_agree(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": is_own})
        assert compare_metadata(context, Base.metadata) == []


def test_room_is_ready_when_its_database_is_at_head(client: TestClient) -> None:
    answer = client.get("/health/ready")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"]["db"] == {"ok": True}


def test_migration_can_be_taken_back_and_made_again(scratch_database: Database) -> None:
    run_migrations(PACKAGE, scratch_database.url)
    run_downgrade(PACKAGE, scratch_database.url, "base")
    assert set(inspect(scratch_database.engine).get_table_names()) == {"alembic_version"}
    run_migrations(PACKAGE, scratch_database.url)
    current, head = migration_state(PACKAGE, scratch_database)
    assert current == head


def test_migrate_command_brings_a_database_to_head(scratch_database: Database) -> None:
    done = run("migrate", NOTIFICATION_DATABASE_URL=scratch_database.url)
    assert done.returncode == 0, done.stderr
    current, head = migration_state(PACKAGE, scratch_database)
    assert current == head


def test_missing_database_is_named_and_unknown_command_gets_the_usage() -> None:
    missing = run("migrate")
    assert missing.returncode == 1
    assert "NOTIFICATION_DATABASE_URL" in missing.stderr
    unknown = run("serve")
    assert unknown.returncode == 2
    assert "usage:" in unknown.stderr
