"""The audit log: written with the act, never changed, and found out when somebody changes it all the same."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common import audit, audit_chain
from common.app import service_app
from common.audit import Actor
from common.audit_chain import GENESIS, LINK_BATCH, Verdict
from common.audit_routes import audit_router
from common.db import Database
from common.logging import bound
from common.testing import client_for, eventually

SYSTEM = Actor("system", "tests")
TAMPERINGS = 300
ROWS = 20


@pytest.fixture
def db(scratch_database: Database) -> Database:
    with scratch_database.engine.begin() as connection:
        audit.create_tables(connection)
    return scratch_database


def write(db: Database, count: int = 1, **changes: Any) -> None:
    with db.transaction() as session:
        for number in range(count):
            given: dict[str, Any] = {
                "target": f"thing:{number}",
                "number": number,
                "reason": f"why ₹ {number}",
                **changes,
            }
            audit.record(session, SYSTEM, "thing.done", **given)


def link(db: Database) -> int:
    total = 0
    while True:
        with db.transaction() as session:
            linked = audit_chain.extend(session)
        total += linked
        if linked < LINK_BATCH:
            return total


def verdict(db: Database, known_head: bytes | None = None) -> Verdict:
    with db.session() as session:
        return audit_chain.verify(session, known_head=known_head)


def blocked(db: Database) -> int:
    """How many connections of this database wait for a lock."""
    with db.session() as session:
        return int(
            session.scalar(
                sa.text(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )
            or 0
        )


def kinds(found: Verdict) -> set[str]:
    return {problem.kind for problem in found.problems}


def test_an_act_and_its_row_are_one_transaction(db: Database) -> None:
    undone = db.session()
    audit.record(undone, SYSTEM, "thing.done", target="thing:1")
    undone.rollback()
    undone.close()
    with bound(correlation_id="request-4711"):
        write(db)
    with db.session() as session:
        [row] = audit.entries(session, limit=10)
    assert (row.actor, row.actor_kind, row.action, row.target) == ("tests", "system", "thing.done", "thing:0")
    assert (row.details, row.correlation_id) == ({"number": 0, "reason": "why ₹ 0"}, "request-4711")
    assert (row.seq, row.hash) == (None, None)


@pytest.mark.parametrize(
    "details", [{"password": "x"}, {"new": {"api_key": "x"}}, {"rate": 0.5}, {"seen": datetime.now(UTC)}]
)
def test_secrets_and_values_without_one_spelling_are_not_taken(db: Database, details: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="audit log takes no"), db.transaction() as session:
        audit.record(session, SYSTEM, "thing.done", target="thing:1", **details)


@pytest.mark.parametrize("table", ["audit_log", "audit_chain"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_even_a_superuser_is_told_that_rows_are_never_changed(db: Database, table: str, statement: str) -> None:
    write(db)
    link(db)
    column = {"audit_log": "id", "audit_chain": "seq"}[table]
    with pytest.raises(DBAPIError, match=f"rows of {table} are never changed"), db.transaction() as session:
        session.execute(sa.text(statement.format(table, column, column)))
    assert verdict(db).ok


def test_the_service_s_own_role_lacks_the_privilege(scratch_database: Database) -> None:
    """With a role of its own, as on servers: the owner of the tables is not a superuser."""
    role, name = f"saras_test_{uuid4().hex[:12]}", sa.make_url(scratch_database.url).database
    with scratch_database.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE ROLE {role}"))
        connection.execute(sa.text(f'ALTER DATABASE "{name}" OWNER TO {role}'))
        connection.execute(sa.text(f"ALTER SCHEMA public OWNER TO {role}"))
    try:
        with scratch_database.engine.begin() as connection:
            connection.execute(sa.text(f"SET LOCAL ROLE {role}"))
            audit.create_tables(connection)
            session = Session(connection)
            audit.record(session, SYSTEM, "thing.done", target="thing:1")
            assert audit_chain.extend(session) == 1
            session.flush()
        for statement in (
            "UPDATE audit_log SET id = id", "DELETE FROM audit_log", "TRUNCATE audit_log",
            "UPDATE audit_chain SET seq = seq", "DELETE FROM audit_chain", "TRUNCATE audit_chain",
        ):  # fmt: skip
            with pytest.raises(DBAPIError, match="permission denied"), scratch_database.engine.begin() as connection:
                connection.execute(sa.text(f"SET LOCAL ROLE {role}; {statement}"))
    finally:
        with scratch_database.engine.begin() as connection:
            connection.execute(sa.text(f'ALTER DATABASE "{name}" OWNER TO CURRENT_USER'))
            connection.execute(sa.text("ALTER SCHEMA public OWNER TO CURRENT_USER"))
            connection.execute(sa.text(f"DROP OWNED BY {role}"))
            connection.execute(sa.text(f"DROP ROLE {role}"))


def test_a_link_is_what_the_definition_says(db: Database) -> None:
    """Written out by hand: a verifier in another language must come to the same hash."""
    at = datetime(2026, 11, 23, 4, 30, 0, 120000, tzinfo=UTC)
    write(db, at=at, address="203.0.113.9", reason='₹ "1"\n\\ é', nested={"b": [True, None, 10**20], "a": -1})
    link(db)
    text = (
        '{"action":"thing.done","actor":"tests","actor_kind":"system","address":"203.0.113.9",'
        '"at":"2026-11-23T04:30:00.12","correlation_id":null,'
        '"details":{"nested":{"a":-1,"b":[true,null,100000000000000000000]},"number":0,"reason":"₹ \\"1\\"\\n\\\\ é"},'
        '"id":1,"seq":1,"target":"thing:0"}'
    )
    with db.session() as session:
        assert audit_chain.head(session).hash == sha256(bytes(32) + text.encode()).digest()


def test_links_follow_the_rows_whatever_the_order_of_their_commits(db: Database) -> None:
    slow = db.session()
    audit.record(slow, SYSTEM, "thing.done", target="thing:slow")
    write(db, 3)
    assert link(db) == 3
    slow.commit()
    slow.close()
    assert verdict(db).waiting == 1
    assert link(db) == 1
    assert link(db) == 0
    found = verdict(db)
    assert (found.ok, found.chained, found.waiting, found.head.seq) == (True, 4, 0, 4)


def test_many_writers_at_once_make_one_chain(db: Database) -> None:
    stop = threading.Event()

    def keep_linking() -> None:
        while not stop.is_set():
            with db.transaction() as session:
                audit_chain.extend(session)

    with ThreadPoolExecutor(7) as threads:
        linkers = [threads.submit(keep_linking) for _ in range(3)]
        authors = [threads.submit(write, db, 5) for _ in range(40)]
        for done in authors:
            done.result(30)
        eventually(lambda: verdict(db).waiting == 0)
        stop.set()
        for done in linkers:
            done.result(10)
    found = verdict(db)
    assert (found.problems, found.chained) == ([], 200)


def test_two_writers_without_the_lock_cannot_fork_the_chain(db: Database) -> None:
    """The lock is an optimisation; the keys of the links are what makes it one chain."""
    write(db, 3)
    one, two = db.session(), db.session()
    assert audit_chain.link_waiting(one) == 3
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(audit_chain.link_waiting, two)
        eventually(lambda: blocked(db))
        one.commit()
        with pytest.raises(DBAPIError, match="pk_audit_chain"):
            second.result(10)
    one.close()
    two.close()
    assert (verdict(db).problems, verdict(db).chained) == ([], 3)


def test_the_loop_links_and_goes_on_after_an_outage(db: Database) -> None:
    # Of their own: an outage meets the connections of the loop alone.
    others = Database(db.url, pool_size=1)
    stop = threading.Event()
    loop = threading.Thread(target=audit_chain.run, args=(db, "room", stop))
    loop.start()
    try:
        write(others, 2)
        eventually(lambda: verdict(others).chained == 2)
        with others.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        write(others, 2)
        eventually(lambda: verdict(others).chained == 4)
    finally:
        stop.set()
        loop.join(10)
        others.dispose()
    assert not loop.is_alive()


# --- tampering, by somebody with the rights of a superuser ---------------------------------------------------------

Tampering = Callable[[Session, random.Random], None]


def run_sql(session: Session, statement: str, **values: Any) -> None:
    assert session.execute(sa.text(statement), values).rowcount > 0  # type: ignore[attr-defined]


def change(session: Session, dice: random.Random) -> None:
    column, value = dice.choice(
        [
            ("actor", "'somebody'"), ("actor_kind", "'operator'"), ("action", "'thing.undone'"), ("target", "'thing:x'"),
            ("address", "'::1'"), ("correlation_id", "'x'"), ("at", "at + interval '1 microsecond'"),
            ("at", "'infinity'"), ("at", "at - interval '4050 years'"), ("details", "details || '{\"number\": 99}'"),
            ("details", "details - 'reason'"), ("details", "jsonb_set(details, '{number}', '1e400')"),
            ("details", "jsonb_set(details, '{number}', to_jsonb(details->>'number'))"),
            ("details", "jsonb_set(details, '{number}', ((details->>'number') || '.0')::jsonb)"),
        ]
    )  # fmt: skip
    run_sql(session, f"UPDATE audit_log SET {column} = {value} WHERE id = :id", id=dice.randint(1, ROWS))  # noqa: S608


def change_link(session: Session, dice: random.Random) -> None:
    run_sql(
        session,
        "UPDATE audit_chain SET hash = set_byte(hash, :at, get_byte(hash, :at) # :bit) WHERE seq = :seq",
        at=dice.randrange(32), bit=1 << dice.randrange(8), seq=dice.randint(1, ROWS),
    )  # fmt: skip


def drop_row(session: Session, dice: random.Random) -> None:
    run_sql(session, "DELETE FROM audit_log WHERE id = :id", id=dice.randint(1, ROWS))


def drop_link(session: Session, dice: random.Random) -> None:
    run_sql(session, "DELETE FROM audit_chain WHERE seq = :seq", seq=dice.randint(1, ROWS))


def drop_both(session: Session, dice: random.Random) -> None:
    """A row and its link; the later links move up, so that no number is missing."""
    number = dice.randint(1, ROWS - 1)
    run_sql(session, "DELETE FROM audit_log WHERE id = :id", id=number)
    run_sql(session, "DELETE FROM audit_chain WHERE seq = :seq", seq=number)
    run_sql(session, "UPDATE audit_chain SET seq = -seq + 1 WHERE seq > :seq", seq=number)
    run_sql(session, "UPDATE audit_chain SET seq = -seq WHERE seq < 0 OR seq = 0 AND :seq = 0", seq=number)


def swap_rows(session: Session, dice: random.Random) -> None:
    one, two = dice.sample(range(1, ROWS + 1), 2)
    run_sql(session, "UPDATE audit_log SET id = -1 WHERE id = :one", one=one)
    run_sql(session, "UPDATE audit_log SET id = :one WHERE id = :two", one=one, two=two)
    run_sql(session, "UPDATE audit_log SET id = :two WHERE id = -1", two=two)


def swap_links(session: Session, dice: random.Random) -> None:
    """The two rows change places: each takes the other's link with it."""
    one, two = dice.sample(range(1, ROWS + 1), 2)
    run_sql(session, "UPDATE audit_chain SET seq = -1 WHERE seq = :one", one=one)
    run_sql(session, "UPDATE audit_chain SET seq = :one WHERE seq = :two", one=one, two=two)
    run_sql(session, "UPDATE audit_chain SET seq = :two WHERE seq = -1", two=two)


def insert_row(session: Session, dice: random.Random) -> None:
    run_sql(
        session,
        "INSERT INTO audit_log (id, at, actor, actor_kind, action, target, address, details)"
        " OVERRIDING SYSTEM VALUE SELECT :new, at, actor, actor_kind, action, target, address, details"
        " FROM audit_log WHERE id = :id",
        new=dice.choice([0, -7, ROWS + 1, 10**9]), id=dice.randint(1, ROWS),
    )  # fmt: skip


def insert_with_link(session: Session, dice: random.Random) -> None:
    """A forged row at the end with a link made up without the hash before."""
    insert_row(session, dice)
    forged = bytes(dice.randrange(256) for _ in range(32))
    run_sql(
        session,
        "INSERT INTO audit_chain (seq, audit_id, hash)"
        " SELECT :seq, id, :hash FROM audit_log WHERE id NOT IN (SELECT audit_id FROM audit_chain)",
        seq=ROWS + 1, hash=forged,
    )  # fmt: skip


def truncate(session: Session, dice: random.Random) -> None:
    """The newest rows and their links: found only by somebody who knows a head."""
    kept = dice.randint(0, ROWS - 1)
    run_sql(session, "DELETE FROM audit_log WHERE id > :kept", kept=kept)
    run_sql(session, "DELETE FROM audit_chain WHERE seq > :kept", kept=kept)


def truncate_links(session: Session, dice: random.Random) -> None:
    run_sql(session, "DELETE FROM audit_chain WHERE seq > :kept", kept=dice.randint(0, ROWS - 1))


def rewrite(session: Session, dice: random.Random) -> None:
    """A row is changed and the chain computed anew from it on: found only by somebody who knows a head."""
    number = dice.randint(1, ROWS)
    run_sql(session, "UPDATE audit_log SET actor = 'somebody else' WHERE id = :id", id=number)
    run_sql(session, "INSERT INTO audit_pending SELECT audit_id FROM audit_chain WHERE seq >= :seq", seq=number)
    run_sql(session, "DELETE FROM audit_chain WHERE seq >= :seq", seq=number)
    assert audit_chain.link_waiting(session) == ROWS - number + 1


BY_THE_CHAIN: tuple[Tampering, ...] = (
    change, change_link, drop_row, drop_link, drop_both, swap_rows, swap_links, insert_row, insert_with_link,
    truncate_links,
)  # fmt: skip
BY_THE_HEAD: tuple[Tampering, ...] = (truncate, rewrite)


@contextmanager
def behind_the_triggers(db: Database) -> Iterator[Session]:
    """What is done inside is done by a superuser without triggers, and undone afterwards."""
    session = db.session()
    session.execute(sa.text("SET LOCAL session_replication_role = replica"))
    yield session
    session.rollback()
    session.close()


def test_every_one_of_many_random_tamperings_is_found(db: Database) -> None:
    write(db, ROWS)
    link(db)
    known = verdict(db).head.hash
    dice = random.Random(20261123)  # noqa: S311  a repeatable series
    missed: list[str] = []
    for number in range(TAMPERINGS):
        tamper = dice.choice(BY_THE_CHAIN + BY_THE_HEAD)
        with behind_the_triggers(db) as session:
            tamper(session, dice)
            found = audit_chain.verify(session, known_head=known)
            alone = audit_chain.verify(session)
        if found.ok or (tamper in BY_THE_CHAIN and alone.ok):
            missed.append(f"{number}: {tamper.__name__}")
    assert missed == []
    assert verdict(db, known).ok, "nothing is left of the tamperings"


@pytest.mark.parametrize("tamper", BY_THE_HEAD)
def test_what_only_a_known_head_finds_is_said_to_be_so(db: Database, tamper: Tampering) -> None:
    write(db, ROWS)
    link(db)
    known = verdict(db).head.hash
    with behind_the_triggers(db) as session:
        tamper(session, random.Random(1))  # noqa: S311
        assert audit_chain.verify(session).ok
        assert kinds(audit_chain.verify(session, known_head=known)) == {"head_missing"}


def test_an_old_head_is_known_for_ever(db: Database) -> None:
    assert verdict(db, GENESIS).ok
    write(db)
    link(db)
    old = verdict(db).head.hash
    write(db, 3)
    link(db)
    assert verdict(db, old).ok
    assert kinds(verdict(db, bytes(31) + b"x")) == {"head_missing"}


def test_the_first_bad_row_is_named(db: Database) -> None:
    write(db, 9)
    link(db)
    with behind_the_triggers(db) as session:
        run_sql(session, "UPDATE audit_log SET actor = 'x' WHERE id IN (4, 7)")
        found = audit_chain.verify(session)
    assert [(problem.kind, problem.seq, problem.audit_id) for problem in found.problems] == [
        ("hash_differs", 4, 4),
        ("hash_differs", 7, 7),
    ]


def test_a_row_dropped_while_it_waits_is_found_unless_its_wait_is_dropped_too(db: Database) -> None:
    write(db, 2)
    with behind_the_triggers(db) as session:
        run_sql(session, "DELETE FROM audit_log WHERE id = 1")
        assert kinds(audit_chain.verify(session)) == {"waiting_wrongly"}
    with behind_the_triggers(db) as session:
        run_sql(session, "DELETE FROM audit_pending WHERE audit_id = 1")
        assert kinds(audit_chain.verify(session)) == {"row_outside"}


def test_verification_of_a_working_room_raises_no_false_alarm(db: Database) -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            write(db, 3)
            link(db)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        eventually(lambda: verdict_of_one_moment(db).chained > 30)
        for _ in range(20):
            assert verdict_of_one_moment(db).problems == []
    finally:
        stop.set()
        worker.join(10)


def test_a_long_verification_does_not_lie_idle_until_the_database_ends_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come in portions: the time between two of them counts, not that of all."""
    write(db, 120)
    link(db)
    real = audit_chain.canonical

    def slow(seq: int, row: Any) -> bytes:
        time.sleep(0.01)
        return real(seq, row)

    monkeypatch.setattr(audit_chain, "VERIFY_BATCH", 5)
    monkeypatch.setattr(audit_chain, "canonical", slow)
    with db.session() as session:
        session.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = '600ms'"))
        assert audit_chain.verify(session).chained == 120


def verdict_of_one_moment(db: Database) -> Verdict:
    with db.session() as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return audit_chain.verify(session)


# --- over HTTP ------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(db: Database, authenticator: Callable[..., Any]) -> TestClient:
    app = service_app(
        name="room", title="Room", routers=[audit_router("room")], db=db, authenticator=authenticator("room")
    )
    return client_for(app)


def test_operators_read_the_log_and_the_head(
    db: Database, client: TestClient, auth_headers: Callable[..., Any]
) -> None:
    write(db, 3)
    link(db)
    write(db, 1, target="thing:9")
    ops = auth_headers(roles=("ops",))
    page = client.get("/api/v1/admin/audit/room?limit=2", headers=ops).json()
    assert [(item["id"], item["seq"]) for item in page["items"]] == [(4, None), (3, 3)]
    rest = client.get(f"/api/v1/admin/audit/room?before={page['next_before']}", headers=ops).json()
    assert ([item["id"] for item in rest["items"]], rest["next_before"]) == ([2, 1], None)
    one = client.get("/api/v1/admin/audit/room?target=thing:9&action=thing.done&actor=tests", headers=ops).json()
    assert [item["details"]["number"] for item in one["items"]] == [0]
    head = client.get("/api/v1/admin/audit/room/head", headers=ops).json()
    assert head == {"seq": 3, "hash": verdict(db).head.hash.hex(), "waiting": 1}
    assert page["items"][1]["hash"] == head["hash"]


@pytest.mark.parametrize("path", ["", "/head"])
def test_nobody_else_does(client: TestClient, auth_headers: Callable[..., Any], path: str) -> None:
    assert client.get(f"/api/v1/admin/audit/room{path}").status_code == 401
    assert client.get(f"/api/v1/admin/audit/room{path}", headers=auth_headers()).status_code == 403


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=0", f"before={2**63}", "target=", "actor=%00"])
def test_bad_queries_are_refused(client: TestClient, auth_headers: Callable[..., Any], query: str) -> None:
    answer = client.get(f"/api/v1/admin/audit/room?{query}", headers=auth_headers(roles=("admin",)))
    assert answer.status_code == 422
