"""Migrations, settings, the command line and housekeeping."""

import subprocess
import sys
from datetime import timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from common.config import InvalidSettings
from common.db import migration_state, run_downgrade, run_migrations
from user_service.__main__ import main
from user_service.config import Settings
from user_service.housekeeping import purge
from user_service.models import Base


def test_the_migrations_make_what_the_models_say(db):
    with db.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert differences == []


def test_the_migrations_can_be_taken_back_and_run_again(db):
    url = db.url
    run_downgrade("user_service", url, "base")
    with db.engine.connect() as connection:
        left = connection.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
    assert left == ["alembic_version"]
    run_migrations("user_service", url)
    current, head = migration_state("user_service", db)
    assert current == head is not None


def test_health_and_readiness(house):
    assert house.client.get("/health").json() == {"status": "ok"}
    ready = house.client.get("/health/ready")
    assert ready.status_code == 200
    assert house.client.get("/health/db").status_code == 200
    assert "saras_http_requests_total" in house.client.get("/metrics").text


def test_a_mistyped_setting_is_named(monkeypatch):
    monkeypatch.setenv("USER_ACCES_TOKEN_MINUTES", "5")
    with pytest.raises(InvalidSettings, match="USER_ACCES_TOKEN_MINUTES"):
        Settings.load()


def test_a_missing_key_file_is_named():
    with pytest.raises(InvalidSettings, match="USER_SIGNING_KEY_FILE"):
        Settings().required("signing_key_file")


@pytest.fixture
def environment(db, monkeypatch, tmp_path):
    monkeypatch.setenv("USER_DATABASE_URL", db.url)
    monkeypatch.setenv("USER_SIGNING_KEY_FILE", str(tmp_path / "signing.pem"))
    monkeypatch.setenv("USER_SECRET_FILE", str(tmp_path / "secret"))
    return tmp_path


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "user_service", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def test_the_command_line_makes_keys(environment):
    made = run("create-keys")
    assert made.returncode == 0, made.stderr
    assert {entry.name for entry in environment.iterdir()} == {"signing.pem", "secret"}


def test_the_command_line_makes_an_administrator_and_shows_the_password_once(environment, house):
    made = run("create-admin", "--email", "root@example.com", "--role", "admin")
    assert made.returncode == 0, made.stderr
    address, password = made.stdout.splitlines()
    assert address == "root@example.com"
    assert password not in made.stderr
    assert house.login("root@example.com", password).json()["totp_setup_required"] is False


def test_the_command_line_says_what_is_wrong(environment):
    answer = run("reset-totp", "--email", "nobody@example.com")
    assert answer.returncode == 1
    assert "no user" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    "arguments", [["create-admin"], ["create-admin", "--email", "a@example.com", "--role", "root"], ["drop"], []]
)
def test_unknown_commands_are_refused(arguments):
    with pytest.raises(SystemExit):
        main(arguments)


def test_housekeeping_takes_old_rows_only(house):
    person = house.person()
    house.login(person.email, "wrong horse battery", address="203.0.113.1")
    start = house.clock.now()

    def swept(age):
        with house.db.transaction() as session:
            return purge(session, start + age)

    assert set(swept(timedelta(0)).values()) == {0}
    assert house.me(person).status_code == 200
    week = swept(timedelta(days=8))
    assert (week["refresh_tokens"], week["auth_sessions"], week["mail_tokens"]) == (1, 0, 1)
    assert week["login_throttles"] >= 1
    later = swept(timedelta(days=100))
    assert (later["auth_sessions"], later["login_attempts"]) == (1, 2)
    assert len(house.rows("SELECT 1 FROM users")) == 1


def test_the_openapi_document_describes_both_forms_of_a_sign_in(house):
    document = house.client.app.openapi()
    content = document["paths"]["/api/v1/auth/login"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-www-form-urlencoded"}
    assert "/internal/v1/sessions/{session_id}" not in document["paths"]
