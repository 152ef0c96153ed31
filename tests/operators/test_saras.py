"""`saras` against a running platform: trading for users, the kill switch, the broker, the books, retention."""

from pathlib import Path
from typing import Any

import pytest

from common.testing import eventually
from tests.operators.conftest import Saras

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

HEADER = "user,side,symbol,quantity,price\n"


@pytest.fixture(scope="module")
def users(saras: Saras) -> list[str]:
    told = saras.done("seed", "users", "--count", "2", person="asha")
    assert (told["made"], len(told["users"])) == (2, 2)
    assert told["password"]
    again = saras.done("seed", "users", "--count", "2", person="asha")
    assert (again["made"], "password" in again) == (0, False)
    return list(told["users"])


def orders(saras: Saras) -> int:
    with saras.http("asha") as http:
        return sum(http.get("/admin/orders").raise_for_status().json()["counts"].values())


def write(path: Path, *rows: str) -> str:
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return str(path)


def test_a_list_is_looked_at_then_placed_once(saras: Saras, users: list[str], tmp_path: Path) -> None:
    before = orders(saras)
    file = write(
        tmp_path / "orders.csv", f"{users[0]},BUY,INFY,2,", f"{users[1]},BUY,TCS,1,", f"{users[1]},BUY,TCS,900,"
    )
    code, looked, _ = saras.run("trade", "list", file, person="asha")
    assert (code, looked["placed"]) == (1, False)
    assert [row["status"] for row in looked["results"]] == ["would be accepted", "would be accepted", "refused"]
    assert looked["results"][2]["code"] in ("insufficient_funds", "order_value_limit")
    assert orders(saras) == before, "looking places nothing"

    code, nobody, remarks = saras.run("trade", "list", file, "--place", person="asha")
    assert (code, nobody) == (1, ""), "nobody was there to be asked"
    assert "--yes" in remarks
    for statuses in (["accepted", "accepted", "refused"], ["placed before", "placed before", "refused"]):
        code, placed, _ = saras.run("trade", "list", file, "--place", "--yes", "--reason", "a test", person="asha")
        assert (code, [row["status"] for row in placed["results"]]) == (1, statuses)
        assert orders(saras) == before + 2
    with saras.http("asha") as http:
        me = http.get("/auth/me").json()["user_id"]
        rows = http.get("/admin/audit/portfolio-service", params={"action": "orders.placed_for_user"}).json()["items"]
    assert [(row["actor"], row["details"]["reason"]) for row in rows[:2]] == [(me, "a test")] * 2


def test_with_a_bad_row_nothing_is_placed(saras: Saras, users: list[str], tmp_path: Path) -> None:
    before = orders(saras)
    bad = write(tmp_path / "bad.csv", f"{users[0]},BUY,INFY,1,", f"{users[0]},BUY,INFY,none,")
    code, told, _ = saras.run("trade", "list", bad, "--place", "--yes", person="asha")
    assert (code, [fault["line"] for fault in told["faults"]]) == (1, [3])
    unknown = write(tmp_path / "unknown.csv", f"{users[0]},BUY,INFY,1,", "nobody@example.com,BUY,INFY,1,")
    code, _, remarks = saras.run("trade", "list", unknown, "--place", "--yes", person="asha")
    assert (code, "nobody@example.com" in remarks) == (1, True)
    assert orders(saras) == before
    assert saras.run("trade", "list", str(tmp_path / "none.csv"), person="asha")[0] == 2


def test_one_order_for_one_user_takes_an_administrator(saras: Saras, users: list[str]) -> None:
    words = ("trade", "one", users[0], "BUY", "INFY", "1", "--place", "--yes", "--key", "one-of-a-test")
    assert saras.done(*words, person="asha")["counts"] == {"accepted": 1}
    assert saras.done(*words, person="asha")["counts"] == {"placed before": 1}
    code, _, remarks = saras.run(*words, person="ravi")
    assert (code, "forbidden" in remarks) == (1, True)


def test_stopping_takes_one_person_and_starting_two(saras: Saras) -> None:
    assert saras.done("halt", "--reason", "a test", "--yes", person="ravi")["trading_state"] == "HALTED"
    assert saras.run("halt", "--reason", "again", "--yes", person="ravi")[0] == 1
    asked = saras.done("resume", "--reason", "a test", "--yes", person="ravi")
    assert (asked["trading_state"], asked["resume_requested_by"] is not None) == ("HALTED", True)
    code, _, remarks = saras.run("resume", "--reason", "a test", "--yes", person="ravi")
    assert (code, "resume_needs_second_person" in remarks) == (1, True)
    assert saras.done("resume", "--reason", "a test", "--yes", person="asha")["trading_state"] == "ACTIVE"
    assert saras.done("status", person="ravi")["control"]["trading_state"] == "ACTIVE"


def test_the_simulator_is_logged_in_at_without_a_person(saras: Saras) -> None:
    assert saras.done("broker", "login", "--url-only", person="ravi")["login_url"].startswith("http")
    assert saras.done("broker", "login", person="ravi")["account"] == "pool"
    assert saras.done("broker", "status", person="ravi")[0]["session"]["started_by"]
    assert saras.run("broker", "login", "used-up-token", person="ravi")[0] == 1


def _unless_under_way(said: tuple[int, Any, str]) -> tuple[int, Any, str] | None:
    return None if "reconciliation_under_way" in said[2] else said


def test_the_books_are_compared_and_reported(saras: Saras) -> None:
    # The platform's own comparison may be under way: one at a time.
    code, told, remarks = eventually(
        lambda: _unless_under_way(saras.run("reconcile", "run", person="ravi")), timeout=60
    )
    assert (code, told["good"]) == (0, True), remarks
    report = saras.done("reconcile", "report", person="ravi")
    assert (report["open_breaks"], report["last_good_full"]["scope"]) == ([], "full")
    audits = eventually(lambda: saras.done("audit", "verify"), timeout=30)
    assert {verdict["ok"] for verdict in audits.values()} == {True}


def test_nothing_young_is_old(saras: Saras) -> None:
    told = saras.done("retention", "run")
    assert (told["applied"], {line["rows"] for line in told["lines"]}) == (False, {0})
    for wrong in ("outbox=1", "ledger=9", "outbox=x"):
        assert saras.run("retention", "run", "--keep", wrong)[0] == 2


def test_exit_codes_tell_who_was_at_fault(saras: Saras) -> None:
    assert saras.run("no-such-command", as_json=False)[0] == 2
    assert saras.run("status", person="nobody")[0] == 1
    elsewhere = Saras(saras.directory, saras.port, {**saras.environ, "SARAS_GATEWAY_URL": "http://127.0.0.1:1"})
    assert elsewhere.run("status", person="ravi")[0] == 3
    for group in ("", "trade", "backup", "broker", "reconcile", "retention", "seed", "audit", "keys", "admin"):
        code, text, _ = saras.run(*filter(None, [group]), "--help", as_json=False)
        assert (code, "Usage" in text) == (0, True)
