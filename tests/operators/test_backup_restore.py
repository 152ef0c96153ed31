"""Backup under load, everything destroyed, restored, started again: the ledger proves itself, orders in flight end."""

import json
import random
import secrets
import shutil
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg2
import pytest
from psycopg2 import sql
from sqlalchemy.engine import make_url

from common.testing import eventually
from scripts.backup.restoring import own_server
from tests.operators.conftest import Saras

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

SHARES = ("INFY", "TCS", "ITC", "HDFCBANK", "RELIANCE", "SBIN")
BEFORE_BACKUP = 80
"""Orders taken before the backup begins."""
LIVE = ("ACCEPTED", "WORKING", "PARTIAL")
SETTLE_S = 240


@contextmanager
def load(saras: Saras, users: list[str], password: str, accepted: list[str]) -> Iterator[None]:
    """Every user sends small lists of market orders, until the block ends or the platform dies."""
    stop = threading.Event()

    def trade(email: str) -> None:
        rng = random.Random(email)  # noqa: S311  repeatable choices, no secret
        with httpx.Client(base_url=f"{saras.url}/api/v1", timeout=20, trust_env=False) as http:
            token = http.post("/auth/login", json={"email": email, "password": password}).json()["access_token"]
            http.headers["Authorization"] = f"Bearer {token}"
            while not stop.is_set():
                some = [
                    {"tradingsymbol": rng.choice(SHARES), "side": "BUY", "quantity": 1, "confirm_duplicate": True}
                    for _ in range(4)
                ]
                try:
                    answer = http.post(
                        "/orders/batch",
                        json={"orders": some, "atomic": False},
                        headers={"Idempotency-Key": uuid4().hex},
                    )
                except httpx.TransportError:
                    return
                if answer.is_success:
                    accepted.extend(row["order"]["order_id"] for row in answer.json()["results"] if row["order"])
                stop.wait(0.1)

    threads = [threading.Thread(target=trade, args=(email,)) for email in users]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(40)


def counts(saras: Saras) -> Counter[str]:
    with saras.http("asha") as http:
        return Counter(http.get("/admin/orders").raise_for_status().json()["counts"])


def copied(backup: Path, to: Path) -> Path:
    shutil.copytree(backup, to / backup.name)
    return to / backup.name


@contextmanager
def verifier(server: str) -> Iterator[str]:
    """The URL of a role of its own on a server; gone afterwards."""
    name, password = f"saras_verify_{uuid4().hex[:8]}", secrets.token_hex(16)
    role = sql.Identifier(name)
    connection = psycopg2.connect(server)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, sql.Literal(password)))
        try:
            url = make_url(server).set(username=name, password=password, database="postgres")
            yield url.render_as_string(hide_password=False)
        finally:
            cursor.execute(sql.SQL("DROP ROLE {}").format(role))
            connection.close()


def test_everything_comes_back_and_orders_in_flight_end(saras: Saras, tmp_path: Path) -> None:
    seeded = saras.done("seed", "users", "--count", "4", "--funds", "2000000.00", person="asha")
    accepted: list[str] = []
    with load(saras, seeded["users"], seeded["password"], accepted):
        eventually(lambda: len(accepted) > BEFORE_BACKUP, timeout=120)
        made = saras.done("backup", "create")
        saras.destroy()
    folder = Path(made["folder"])
    assert made["held_ms"] < 3_000

    # --- what is not whole, not ours, or not of this key is refused before anything is touched ---
    other = {**saras.environ, "SARAS_BACKUP_KEY": b64encode(secrets.token_bytes(32)).decode()}
    code, _, remarks = Saras(saras.directory, saras.port, other).run("backup", "verify")
    assert (code, "was made with the key" in remarks) == (1, True)
    cut = copied(folder, tmp_path / "cut") / "portfolio-service.dump.sealed"
    cut.write_bytes(cut.read_bytes()[:-1000])
    code, _, remarks = saras.run("backup", "restore", "--yes", "--dir", str(tmp_path / "cut"))
    assert (code, "portfolio-service.dump.sealed" in remarks) == (1, True)
    forged = copied(folder, tmp_path / "forged") / "manifest.json"
    document = json.loads(forged.read_text())
    document["manifest"]["taken_at"] = "2026-01-01T00:00:00Z"
    forged.write_text(json.dumps(document))
    code, _, remarks = saras.run("backup", "verify", "--dir", str(tmp_path / "forged"))
    assert (code, "manifest" in remarks) == (1, True)
    assert saras.run("backup", "restore", "../elsewhere", "--yes")[0] == 1

    # --- the restore proves what it brings back ---
    restored = saras.done("backup", "restore", "--yes")
    assert restored["ok"]
    assert restored["ledger"]["figures"]["orders"] > BEFORE_BACKUP // 2
    assert {rule["rule"]: rule["broken"] for rule in restored["rooms"] if rule["broken"]} == {}
    assert sum(restored["to_catch_up"].values()) > 0, "messages were on their way at that moment"
    assert any("HALTED" in line for line in restored["done"])
    code, _, remarks = saras.run("backup", "restore", "--yes")
    assert (code, "not empty" in remarks) == (1, True)

    # --- and the platform goes on from there ---
    saras.start()
    assert saras.run("status", person="asha")[0] == 1, "sessions have ended with the restore"
    for person in ("asha", "ravi"):
        saras.sign_in(person, "")
    assert saras.done("status", person="asha")["control"]["trading_state"] == "HALTED"
    saras.run("reconcile", "run", person="ravi")
    for row in saras.run("reconcile", "report", person="ravi")[1]["breaks"]:
        # Orders that were sent after the backup: known to the broker, not to the books. They are the house's now.
        code, _, remarks = saras.run(
            "reconcile", "close", row["break_id"], "--reason", "sent after the backup", person="ravi", as_json=False
        )
        assert code == 0, (row, remarks)
    for person in ("asha", "ravi"):
        told = saras.done("resume", "--reason", "books compared after a restore", "--yes", person=person)
    assert told["trading_state"] == "ACTIVE"
    eventually(lambda: not any(counts(saras)[state] for state in LIVE), timeout=SETTLE_S, interval=1.0)
    with saras.http("asha") as http:
        ledger = http.get("/admin/ledger/check").raise_for_status().json()
    assert ledger["ok"], ledger["problems"]
    assert ledger["figures"]["orders"] == restored["ledger"]["figures"]["orders"]
    verdicts = eventually(lambda: saras.done("audit", "verify"), timeout=30)
    assert all(verdict["ok"] for verdict in verdicts.values())
    # A backup of the restored platform is as sound as the first.
    saras.done("backup", "create")
    assert saras.done("backup", "verify")["ok"]
    # Also on a server that is named, by a role that may make databases and nothing else.
    with own_server(tmp_path) as server, verifier(server) as url:
        named = Saras(saras.directory, saras.port, {**saras.environ, "SARAS_VERIFY_SERVER": url})
        assert named.done("backup", "verify")["ok"]
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_database JOIN pg_roles ON datdba = pg_roles.oid WHERE rolname = user"
            )
            assert cursor.fetchone() == (0,)
        connection.close()
    gone = {**saras.environ, "SARAS_VERIFY_SERVER": url}
    assert Saras(saras.directory, saras.port, gone).run("backup", "verify")[0] == 3
