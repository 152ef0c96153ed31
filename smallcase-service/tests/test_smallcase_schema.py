"""The migration builds exactly what the models say and can be taken back; the process starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import inspect

from common.db import Database, migration_state, run_downgrade, run_migrations
from smallcase_service.__main__ import main
from smallcase_service.models import Base

PACKAGE = "smallcase_service"


def is_own(_: object, name: str | None, kind: str, *__: object) -> bool:
    """Whether a table is the room's own: those of common are tested there."""
    return kind != "table" or name != "idempotency_key"


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
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "migrate"],
        env={**os.environ, "SMALLCASE_DATABASE_URL": scratch_database.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    current, head = migration_state(PACKAGE, scratch_database)
    assert current == head


def test_unknown_command_gets_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["serve"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"usage: {PACKAGE}")


def test_malformed_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # away from a developer's .env
    monkeypatch.setenv("SMALLCASE_PORT", "none")
    assert main(["api"]) == 1
    assert "SMALLCASE_PORT" in capsys.readouterr().err
