"""Sealing secrets are replaced while people sign in: nobody is turned away, and the old secret is no longer needed."""

import threading

import pyotp
import pytest
import sqlalchemy as sa

from common.testing import eventually
from user_service import key_rotation, two_factor
from user_service.context import Room
from user_service.models import TotpFactor
from user_service.sealing import Sealer, Unsealable
from user_service.two_factor import Judgement

MASTER, SECOND = b"\x07" * 32, b"\x08" * 32
OLD = Sealer(MASTER)
BOTH = Sealer(MASTER, seal_secrets={1: MASTER, 2: SECOND}, current=2)
NEW = Sealer(MASTER, seal_secrets={2: SECOND}, current=2)
PEOPLE = 60


@pytest.fixture
def people(house, monkeypatch):
    """People with a factor that the old secret sealed, and batches small enough to be many."""
    monkeypatch.setattr(key_rotation, "BATCH", 7)
    secrets = {}
    with house.db.transaction() as session:
        for number in range(PEOPLE):
            user_id = session.scalar(
                sa.text(
                    "INSERT INTO users (id, email, email_key, full_name, password_hash, roles, status, kyc_status,"
                    " login_count, created_at, updated_at) VALUES (gen_random_uuid(), :name, :name, 'A', 'x',"
                    " ARRAY['user'], 'active', 'none', 0, :now, :now) RETURNING id"
                ),
                {"name": f"u{number}@example.com", "now": house.clock.now()},
            )
            secrets[user_id] = pyotp.random_base32()
            session.add(
                TotpFactor(
                    user_id=user_id,
                    sealed_secret=OLD.seal_totp(user_id, secrets[user_id]),
                    created_at=house.clock.now(),
                    confirmed_at=house.clock.now(),
                )
            )
    return secrets


def versions(house):
    return [
        row["v"] for row in house.rows("SELECT DISTINCT get_byte(sealed_secret, 0) AS v FROM totp_factors ORDER BY 1")
    ]


def room_with(house, sealer):
    room: Room = house.client.app.state.room
    return Room(**{**vars(room), "sealer": sealer})


def judged(house, room, user_id, secret, offset):
    """What a sign-in makes of the present code."""
    code = pyotp.TOTP(secret).at(int(house.clock.now().timestamp()) + 30 * offset)
    with house.db.transaction() as session:
        return two_factor.judge(session, room, user_id, code, house.clock.now())


def test_a_rotation_under_load_turns_nobody_away(house, people):
    room, outcomes, stop = room_with(house, BOTH), [], threading.Event()

    def sign_in():
        while not stop.is_set():
            for user_id, secret in people.items():
                # A wrong code: it opens the secret as well, and may be tried for ever.
                try:
                    outcomes.append(judged(house, room, user_id, secret, 50))
                except Unsealable as error:
                    outcomes.append(error)

    readers = [threading.Thread(target=sign_in) for _ in range(3)]
    for reader in readers:
        reader.start()
    eventually(lambda: len(outcomes) > 20)
    done = key_rotation.rotate(house.db, BOTH, house.clock.now())
    reached = len(outcomes)
    eventually(lambda: len(outcomes) > reached + 2 * PEOPLE)
    stop.set()
    for reader in readers:
        reader.join(20)
    assert (done.resealed, done.unreadable, versions(house)) == (PEOPLE, [], [2])
    assert set(outcomes) == {Judgement.WRONG}, "every read opened its secret"
    assert {judged(house, room_with(house, NEW), user_id, secret, 0) for user_id, secret in people.items()} == {
        Judgement.RIGHT
    }
    with house.db.session() as session:
        logged = session.execute(sa.text("SELECT sum((details->>'rows')::int), count(*) FROM audit_log")).one()
    assert (logged[0], logged[1] > 5) == (PEOPLE, True)


def test_a_rotation_that_was_stopped_goes_on_where_it_was(house, people, monkeypatch):
    real, calls = key_rotation._batch, []

    def dies_after_three(session, **given):
        calls.append(given)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return real(session, **given)

    monkeypatch.setattr(key_rotation, "_batch", dies_after_three)
    with pytest.raises(KeyboardInterrupt):
        key_rotation.rotate(house.db, BOTH, house.clock.now())
    monkeypatch.setattr(key_rotation, "_batch", real)
    assert versions(house) == [1, 2]
    assert key_rotation.rotate(house.db, BOTH, house.clock.now()).resealed == PEOPLE - 3 * 7
    assert key_rotation.rotate(house.db, BOTH, house.clock.now()).resealed == 0
    assert versions(house) == [2]


def test_a_damaged_secret_is_named_and_the_others_are_rotated(house, people):
    victim = next(iter(people))
    with house.db.transaction() as session:
        session.execute(
            sa.text(
                "UPDATE totp_factors SET sealed_secret = set_byte(sealed_secret, 20, get_byte(sealed_secret, 20) # 1)"
                " WHERE user_id = :id"
            ),
            {"id": victim},
        )
    done = key_rotation.rotate(house.db, BOTH, house.clock.now())
    assert done.unreadable == [f"totp_factors.sealed_secret of user {victim}"]
    assert done.resealed == PEOPLE - 1
