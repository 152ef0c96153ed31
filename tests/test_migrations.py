"""Every room's migrations build exactly what its models say, can be taken back, and are run by its own command."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from common.db import Database, migration_state, run_downgrade, run_migrations

ROOMS = {
    "user_service": "USER_",
    "portfolio_service": "PORTFOLIO_",
    "smallcase_service": "SMALLCASE_",
    "trade_executor": "EXECUTOR_",
    "notification_service": "NOTIFICATION_",
    "analytics_service": "ANALYTICS_",
    "market_data_service": "MARKET_DATA_",
}
each_room = pytest.mark.parametrize("package", ROOMS)


@each_room
def test_models_and_migrations_agree_and_can_be_taken_back(package: str, scratch_database: Database) -> None:
    run_migrations(package, scratch_database.url)
    metadata = importlib.import_module(f"{package}.models").Base.metadata
    with scratch_database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    run_downgrade(package, scratch_database.url, "base")
    assert set(inspect(scratch_database.engine).get_table_names()) == {"alembic_version"}
    run_migrations(package, scratch_database.url)
    current, head = migration_state(package, scratch_database)
    assert current == head


@each_room
def test_the_migrate_command_brings_a_database_to_head(package: str, scratch_database: Database) -> None:
    environ = {**os.environ, f"{ROOMS[package]}DATABASE_URL": scratch_database.url}
    done = subprocess.run(
        [sys.executable, "-m", package, "migrate"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    current, head = migration_state(package, scratch_database)
    assert current == head


@each_room
def test_a_wrong_command_or_setting_ends_the_process_with_its_name(package: str, tmp_path: Path) -> None:
    def run(command: str, **more: str) -> subprocess.CompletedProcess[str]:
        # Away from a developer's .env.
        return subprocess.run(
            [sys.executable, "-m", package, command],
            env={**os.environ, **more}, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    usage = run("serve")
    assert (usage.returncode, usage.stderr.split()[:2]) == (2, ["usage:", package])
    refused = run("api", **{f"{ROOMS[package]}PORT": "none"})
    assert refused.returncode == 1
    assert f"{ROOMS[package]}PORT" in refused.stderr
