"""Processes start when the database is new enough, and stay in service while a newer release brings it further."""

import subprocess
import sys
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from common.app import service_app
from common.await_migrations import wait
from common.db import Database, lacks_migrations, run_downgrade, run_migrations

PACKAGE = "user_service"


def readiness(db: Database) -> tuple[int, dict[str, Any]]:
    app = service_app(name="user-service", title="Users", routers=[], db=db, package=PACKAGE)
    with TestClient(app) as client:
        answer = client.get("/health/ready")
    return answer.status_code, answer.json()["checks"]["db"]


def test_a_room_is_ready_from_its_own_revision_on(scratch_database: Database) -> None:
    assert lacks_migrations(PACKAGE, scratch_database)
    assert readiness(scratch_database)[0] == 503
    run_migrations(PACKAGE, scratch_database.url)
    assert readiness(scratch_database) == (200, {"ok": True})
    # The next release has migrated, and this one still runs beside it.
    with scratch_database.transaction() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = 'of_the_next_release'"))
    assert readiness(scratch_database) == (200, {"ok": True})


def test_a_room_is_not_ready_at_an_older_revision(scratch_database: Database) -> None:
    run_migrations(PACKAGE, scratch_database.url)
    run_downgrade(PACKAGE, scratch_database.url, "-1")
    status, check = readiness(scratch_database)
    assert (status, check["ok"]) == (503, False)
    assert "older than this release" in check["detail"]


def test_waiting_ends_with_the_migration(scratch_database: Database) -> None:
    answers: list[bool] = []
    waiting = threading.Thread(
        target=lambda: answers.append(wait(PACKAGE, scratch_database, timeout_s=60, pause_s=0.05))
    )
    waiting.start()
    run_migrations(PACKAGE, scratch_database.url)
    waiting.join(60)
    assert answers == [True]


def test_waiting_is_bounded(scratch_database: Database) -> None:
    assert not wait(PACKAGE, scratch_database, timeout_s=0.1, pause_s=0.05)


def test_the_command_answers_with_its_exit_code(scratch_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    run_migrations(PACKAGE, scratch_database.url)
    monkeypatch.setenv("USER_DATABASE_URL", scratch_database.url)
    command = [sys.executable, "-m", "common.await_migrations"]
    assert subprocess.run([*command, PACKAGE], check=False, timeout=60).returncode == 0
    monkeypatch.delenv("USER_DATABASE_URL")
    missing = subprocess.run([*command, PACKAGE], check=False, timeout=60, capture_output=True, text=True)
    assert (missing.returncode, "USER_DATABASE_URL" in missing.stderr) == (1, True)
    assert subprocess.run(command, check=False, timeout=60, capture_output=True).returncode == 2
