"""What an operator runs at the command line: verifying the audit logs, replacing keys."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from common import audit, audit_chain
from common.audit import Actor
from common.db import Database
from common.sealing import Sealer
from common.testing_servers import empty
from scripts import saras
from scripts.embedded_environment import PREFIXES
from scripts.saras_cli import audit as audit_command
from trade_executor.models import BrokerAccount

VERIFY, ROTATE = ("audit", "verify"), ("keys", "rotate")
KEYS = {version: base64.b64encode(bytes([version]) * 32).decode() for version in (1, 2)}
PLACE = {"table": "broker_account", "row": "pool", "column": "api_secret"}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(saras.build(arguments), list(arguments))


@pytest.fixture
def rooms(
    service_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Database]:
    """The rooms with an audit log, their addresses in the environment, away from a developer's `.env`."""
    monkeypatch.chdir(tmp_path)
    # The runner's streams are closed after a command; the tests' logging must not be left on them.
    monkeypatch.setattr(saras, "configure", lambda *_, **__: None)
    opened = {}
    for room in audit_command.ROOMS:
        opened[room] = service_database(room.replace("-", "_"))
        empty(opened[room])
        monkeypatch.setenv(f"{PREFIXES[room]}DATABASE_URL", opened[room].url)
    return opened


def write(db: Database, rows: int) -> str:
    """Acts with their links; answers the head."""
    with db.transaction() as session:
        for number in range(rows):
            audit.record(session, Actor("system", "tests"), "thing.done", target=f"thing:{number}")
        audit_chain.extend(session)
        return audit_chain.head(session).hash.hex()


def tamper(db: Database, statement: str) -> None:
    with db.transaction() as session:
        session.execute(sa.text("SET LOCAL session_replication_role = replica"))
        session.execute(sa.text(statement))


def test_sound_logs_are_said_to_be_sound(rooms: dict[str, Database]) -> None:
    head = write(rooms["trade-executor"], 3)
    all_rooms = run(*VERIFY)
    assert all_rooms.exit_code == 0, all_rooms.output
    assert "trade-executor: sound, 3 rows chained, 0 waiting" in all_rooms.output
    assert f"head 3 {head}" in all_rooms.output
    assert run(*VERIFY, "--room", "trade-executor", "--head", head).exit_code == 0


def test_the_first_bad_row_is_printed_and_the_exit_code_is_1(rooms: dict[str, Database]) -> None:
    write(rooms["user-service"], 5)
    with rooms["user-service"].session() as session:
        ids = session.scalars(sa.text("SELECT id FROM audit_log ORDER BY id")).all()
    tamper(rooms["user-service"], f"UPDATE audit_log SET actor = 'x' WHERE id = {ids[3]}")  # noqa: S608
    answer = run(*VERIFY)
    assert answer.exit_code == 1
    assert "user-service: TAMPERED WITH" in answer.output
    assert f"first bad row: link 4, row {ids[3]}: hash_differs" in answer.output
    figures = json.loads(run(*VERIFY, "--room", "user-service", "--json").output)
    assert (figures["user-service"]["ok"], figures["user-service"]["problems"][0]["seq"]) == (False, 4)


def test_a_cut_log_is_found_by_the_head_that_was_kept(rooms: dict[str, Database]) -> None:
    db = rooms["portfolio-service"]
    head = write(db, 4)
    tamper(db, "DELETE FROM audit_log WHERE id = (SELECT max(id) FROM audit_log)")
    tamper(db, "DELETE FROM audit_chain WHERE seq = 4")
    assert run(*VERIFY, "--room", "portfolio-service").exit_code == 0
    answer = run(*VERIFY, "--room", "portfolio-service", "--head", head)
    assert (answer.exit_code, "head_missing" in answer.output) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--room", "api-gateway"],
        ["--head", "00" * 32],
        ["--room", "user-service", "--head", "00"],
        ["--head", "zz" * 32],
    ],
)
def test_wrong_questions_are_not_answered(rooms: dict[str, Database], arguments: list[str]) -> None:
    assert run(*VERIFY, *arguments).exit_code == 2


def test_a_database_that_does_not_answer_is_not_called_tampered_with(rooms: dict[str, Database]) -> None:
    answer = run(*VERIFY, "--room", "user-service", "--url", "postgresql://nobody@127.0.0.1:1/none")
    assert (answer.exit_code, "not verified" in answer.output) == (3, True)


def test_keys_are_rotated_from_the_command_line(rooms: dict[str, Database], monkeypatch: pytest.MonkeyPatch) -> None:
    db = rooms["trade-executor"]
    old = Sealer.from_base64({1: KEYS[1]}, current=1)
    with db.transaction() as session:
        sealed = old.seal("canary", **PLACE)
        session.add(BrokerAccount(account="pool", broker="kite", api_key="key", api_secret_sealed=sealed))
    missing = run(*ROTATE, "--room", "trade-executor")
    assert (missing.exit_code, "EXECUTOR_SEAL_KEYS has no key of version 1" in missing.output) == (2, True)

    monkeypatch.setenv("EXECUTOR_SEAL_KEYS", json.dumps(KEYS))
    monkeypatch.setenv("EXECUTOR_SEAL_KEY_CURRENT", "2")
    done = run(*ROTATE, "--room", "trade-executor")
    assert done.exit_code == 0, done.output
    assert "trade-executor: 1 secrets sealed with version 2" in done.output
    assert "trade-executor: 0 secrets" in run(*ROTATE, "--room", "trade-executor").output
    with db.session() as session:
        text = session.get_one(BrokerAccount, "pool").api_secret_sealed
    assert Sealer.from_base64({2: KEYS[2]}, current=2).open(text, **PLACE) == "canary"

    monkeypatch.setenv("EXECUTOR_SEAL_KEYS", json.dumps({3: KEYS[1]}))
    monkeypatch.setenv("EXECUTOR_SEAL_KEY_CURRENT", "3")
    lost = run(*ROTATE, "--room", "trade-executor")
    assert (lost.exit_code, "cannot be opened: broker_account.api_secret_sealed of pool" in lost.output) == (1, True)


def test_keys_of_rooms_that_seal_nothing_are_not_asked_for() -> None:
    assert run(*ROTATE, "--room", "portfolio-service").exit_code == 2
