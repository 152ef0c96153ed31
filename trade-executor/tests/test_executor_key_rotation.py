"""The master key of the broker credentials is replaced while they are read: no read fails, the old key may go."""

import base64
import random
import threading
from contextlib import suppress
from uuid import uuid4

import pytest
import sqlalchemy as sa

from common.clock import SystemClock, trading_date
from common.sealing import SealBroken, Sealer, UnknownKeyVersion
from common.testing import eventually
from trade_executor import key_rotation
from trade_executor.models import BrokerAccount, BrokerSession
from trade_executor.sessions import KiteAccess
from trade_executor.testing import ACCOUNT

FIRST, SECOND = b"\x01" * 32, b"\x02" * 32
OLD = Sealer({1: FIRST}, current=1)
BOTH = Sealer({1: FIRST, 2: SECOND}, current=2)
NEW = Sealer({2: SECOND}, current=2)
SESSIONS = 40
SECRET, TOKEN = "secret-of-the-tests", "the token in use"


@pytest.fixture
def sealed(room, monkeypatch):
    """An account, the session in use and many ended ones, all sealed with the old key; batches of seven."""
    monkeypatch.setattr(key_rotation, "BATCH", 7)
    access_with(room, OLD).ensure_account()
    now = SystemClock().now()
    with room.db.transaction() as session:
        for number in range(SESSIONS):
            session_id, live = uuid4(), number == SESSIONS // 2
            token = TOKEN if live else f"token {number}"
            session.add(
                BrokerSession(
                    session_id=session_id,
                    account=ACCOUNT,
                    trading_date=trading_date(now),
                    access_token_sealed=OLD.seal(
                        token, table="broker_session", row=str(session_id), column="access_token"
                    ),
                    broker_user_id="AB1234",
                    started_by="tests",
                    expires_at=now.replace(year=now.year + 1),
                    ended_at=None if live else now,
                )
            )
    return room


def access_with(room, sealer):
    """A process's view of the credentials, with nothing remembered."""
    return KiteAccess(room.db, room.desk.settings, sealer, SystemClock())


def versions(room):
    with room.db.session() as session:
        texts = [
            *session.scalars(sa.select(BrokerAccount.api_secret_sealed)),
            *session.scalars(sa.select(BrokerSession.access_token_sealed)),
        ]
    return sorted({text.partition(":")[0] for text in texts})


def test_a_rotation_under_load_fails_no_read(sealed):
    reads, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            access = access_with(sealed, BOTH)
            try:
                reads.append((access.credentials(ACCOUNT)[1], access.access_token(ACCOUNT)[1]))
            except SealBroken as error:
                reads.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    eventually(lambda: len(reads) > 20)
    done = key_rotation.rotate(sealed.db, BOTH)
    reached = len(reads)
    eventually(lambda: len(reads) > reached + 20)
    stop.set()
    for reader in readers:
        reader.join(20)
    assert set(reads) == {(SECRET, TOKEN)}
    assert (done.version, done.resealed, done.unreadable, versions(sealed)) == (2, SESSIONS + 1, [], ["2"])
    assert access_with(sealed, NEW).access_token(ACCOUNT)[1] == TOKEN
    with pytest.raises(UnknownKeyVersion):
        access_with(sealed, OLD).credentials(ACCOUNT)


def test_a_rotation_that_was_stopped_goes_on_where_it_was(sealed, monkeypatch):
    real, calls = key_rotation._batch, []

    def dies_after_three(session, **given):
        calls.append(given)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(session, **given)

    monkeypatch.setattr(key_rotation, "_batch", dies_after_three)
    with pytest.raises(KeyboardInterrupt):
        key_rotation.rotate(sealed.db, BOTH)
    monkeypatch.setattr(key_rotation, "_batch", real)
    assert versions(sealed) == ["1", "2"]
    assert access_with(sealed, BOTH).access_token(ACCOUNT)[1] == TOKEN
    assert key_rotation.rotate(sealed.db, BOTH).resealed == SESSIONS + 1 - (1 + 7 + 7)
    assert key_rotation.rotate(sealed.db, BOTH).resealed == 0
    assert versions(sealed) == ["2"]


def test_two_rotations_at_once_do_the_work_once(sealed):
    done, lock = [], threading.Lock()

    def rotate():
        outcome = key_rotation.rotate(sealed.db, BOTH)
        with lock:
            done.append(outcome)

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(outcome.resealed for outcome in done) == SESSIONS + 1
    assert [outcome.unreadable for outcome in done] == [[], []]
    assert versions(sealed) == ["2"]


def test_a_rotation_is_in_the_audit_log_and_its_keys_are_not(sealed):
    key_rotation.rotate(sealed.db, BOTH)
    with sealed.db.session() as session:
        rows = session.execute(
            sa.text("SELECT action, target, details, audit_log::text AS everything FROM audit_log ORDER BY id")
        ).all()
    assert {(row.action, row.target) for row in rows} == {
        ("keys.rotated", "table:broker_account"),
        ("keys.rotated", "table:broker_session"),
    }
    assert sum(row.details["rows"] for row in rows) == SESSIONS + 1
    told = "".join(row.everything for row in rows)
    for secret in (SECRET, TOKEN, base64.b64encode(FIRST).decode(), base64.b64encode(SECOND).decode()):
        assert secret not in told


def test_a_damaged_credential_is_named_and_the_others_are_rotated(sealed):
    sealed.run("UPDATE broker_account SET api_secret_sealed = overlay(api_secret_sealed placing 'AAAA' from 30)")
    done = key_rotation.rotate(sealed.db, BOTH)
    assert (done.resealed, done.unreadable) == (SESSIONS, [f"broker_account.api_secret_sealed of {ACCOUNT}"])


def test_swapped_rows_and_columns_do_not_open(sealed):
    one, two = [row.session_id for row in sealed.rows(BrokerSession)[:2]]
    sealed.run(
        "UPDATE broker_session AS a SET access_token_sealed = b.access_token_sealed FROM broker_session AS b"
        " WHERE a.session_id IN (:one, :two) AND b.session_id IN (:one, :two) AND a.session_id <> b.session_id",
        one=one, two=two,
    )  # fmt: skip
    sealed.run(
        "UPDATE broker_account SET api_secret_sealed = (SELECT access_token_sealed FROM broker_session"
        " WHERE ended_at IS NULL)"
    )
    done = key_rotation.rotate(sealed.db, BOTH)
    assert set(done.unreadable) == {
        f"broker_account.api_secret_sealed of {ACCOUNT}",
        f"broker_session.access_token_sealed of {one}",
        f"broker_session.access_token_sealed of {two}",
    }
    with pytest.raises(SealBroken):
        access_with(sealed, BOTH).credentials(ACCOUNT)


def test_ten_thousand_altered_texts_are_refused():
    place = {"table": "broker_session", "row": str(uuid4()), "column": "access_token"}
    sealed = BOTH.seal("canary-access-token", **place)
    dice = random.Random(5)  # noqa: S311  a repeatable series
    opened, tried = 0, set()
    while len(tried) < 10_000:
        raw = bytearray(sealed.encode())
        for bit in dice.sample(range(len(raw) * 8), dice.randint(1, 6)):
            raw[bit // 8] ^= 1 << bit % 8
        tried.add(raw.decode("latin-1"))
    for text in tried:
        with suppress(SealBroken):
            BOTH.open(text, **place)
            opened += 1
    assert (len(tried), opened) == (10_000, 0)
