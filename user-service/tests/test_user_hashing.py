"""The pool that hashes passwords: Argon2id only, bounded, polite to everything else."""

import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from passlib.context import CryptContext

from user_service.config import Settings
from user_service.hashing import LoginBusy, PasswordHashing, password_context
from user_service.throttle import ADDRESS


def check(hashing, password, stored):
    with hashing.place():
        return hashing.check_in_place(password, stored)


class Gate:
    """Stands for a hash function that takes as long as the test wants."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()
        self.niceness: set[int] = set()

    def hash(self, password: str) -> str:
        if not self.open.is_set():
            with self._lock:
                self.running += 1
                self.most = max(self.most, self.running)
                if sys.platform == "linux":
                    self.niceness.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
            self.open.wait(20)
            with self._lock:
                self.running -= 1
        return "hash of " + password


class GatedContext:
    """A CryptContext whose work passes through a Gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.hash = gate.hash

    def verify_and_update(self, password: str, _: str) -> tuple[bool, None]:
        self._gate.hash(password)
        return True, None


@pytest.fixture
def gated():
    gate = Gate()
    gate.open.set()
    hashing = PasswordHashing(workers=2, waiting_max=3, context=GatedContext(gate))
    gate.open.clear()
    yield gate, hashing
    gate.open.set()
    hashing.close()


def test_hashes_are_argon2id_with_the_stated_cost():
    hashed = password_context().hash("correct horse battery")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_no_other_scheme_is_understood():
    context = password_context()
    assert context.schemes() == ("argon2",)
    assert context.identify("$2b$12$" + "a" * 53) is None


def test_a_burst_is_refused_beyond_the_pool_and_its_line(gated):
    gate, hashing = gated

    def attempt(_: int) -> str:
        try:
            check(hashing, "x" * 10, "stored")
        except LoginBusy as busy:
            return f"busy {busy.status} {busy.headers['Retry-After']}"
        return "checked"

    with ThreadPoolExecutor(30) as threads:
        futures = [threads.submit(attempt, n) for n in range(30)]
        deadline = time.monotonic() + 10
        while sum(f.done() for f in futures) < 25 and time.monotonic() < deadline:
            time.sleep(0.005)
        gate.open.set()
        found = Counter(f.result(timeout=20) for f in futures)

    assert found == {"checked": 5, "busy 503 1": 25}
    assert gate.most == 2


def test_places_are_given_back(gated):
    gate, hashing = gated
    gate.open.set()
    for _ in range(20):
        assert hashing.hash("a" * 10) == "hash of " + "a" * 10


@pytest.mark.skipif(sys.platform != "linux", reason="per-thread priorities are Linux's")
def test_workers_give_way_to_other_threads(gated):
    gate, hashing = gated
    threading.Timer(0.2, gate.open.set).start()
    hashing.hash("a" * 10)
    assert gate.niceness
    assert min(gate.niceness) >= 10
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < 10


def test_a_closed_pool_refuses_instead_of_failing(gated):
    gate, hashing = gated
    gate.open.set()
    hashing.close()
    with pytest.raises(LoginBusy):
        hashing.hash("a" * 10)


def test_a_burst_of_sign_ins_answers_503_and_counts_no_failures(build):
    """Over HTTP: the line is full, so the rest is told to come again, and none of them is held against anybody."""
    gate = Gate()
    gate.open.set()
    hashing = PasswordHashing(workers=1, waiting_max=1, context=GatedContext(gate))
    house = build(hashing=hashing)
    emails = [house.register().json()["email"] for _ in range(12)]
    gate.open.clear()
    with ThreadPoolExecutor(12) as threads:
        futures = [threads.submit(house.login, email, address=f"192.0.2.{n}") for n, email in enumerate(emails)]
        deadline = time.monotonic() + 15
        while sum(f.done() for f in futures) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert house.client.get("/health").status_code == 200
        gate.open.set()
        answers = [f.result(timeout=20) for f in futures]
    hashing.close()

    found = Counter(answer.status_code for answer in answers)
    assert found == {200: 2, 503: 10}
    busy = next(answer for answer in answers if answer.status_code == 503)
    assert busy.json()["code"] == "login_busy"
    assert busy.headers["retry-after"] == "1"
    assert {row["failed_login_attempts"] for row in house.rows("SELECT * FROM login_throttles")} <= {0}


def test_the_defaults_hold_fewer_sign_ins_than_an_address_has_free_failures():
    assert Settings(hashing_workers=8, hashing_waiting_max=20).hashing_waiting_max + 8 < ADDRESS.free
    with pytest.raises(ValueError, match="hashing_waiting_max"):
        Settings(hashing_waiting_max=21)


def test_right_passwords_that_arrive_together_are_not_taken_for_guesses(build):
    """Sixty people behind one address at once: each is let in or told that it is busy, nobody is throttled."""
    hashing = PasswordHashing(workers=2, waiting_max=16)
    house = build(hashing=hashing)
    emails = [house.register().json()["email"] for _ in range(60)]
    with ThreadPoolExecutor(60) as threads:
        found = Counter(answer.status_code for answer in threads.map(house.login, emails))
    hashing.close()
    assert set(found) <= {200, 503}
    assert found[200] >= 18


def test_a_hash_with_older_parameters_is_replaced_at_sign_in(build):
    old = CryptContext(schemes=["argon2"], argon2__memory_cost=64, argon2__time_cost=1, argon2__parallelism=2)
    hashing = PasswordHashing()
    house = build(hashing=hashing)
    email = house.register().json()["email"]
    with house.db.transaction() as session:
        from user_service.models import User

        session.query(User).update({User.password_hash: old.hash("correct horse battery")})

    assert house.login(email).status_code == 200

    (row,) = house.rows("SELECT password_hash FROM users")
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert house.login(email).status_code == 200
    hashing.close()


def test_composed_and_decomposed_passwords_are_the_same(house):
    email = house.register(password="caf\u00e9 au lait please").json()["email"]
    assert house.login(email, "cafe\u0301 au lait please").status_code == 200


def test_every_character_of_a_long_password_counts(house):
    """bcrypt would stop at 72 bytes and at a NUL."""
    password = "correct horse " * 9 + "y"
    email = house.register(password=password).json()["email"]
    assert house.login(email, "correct horse " * 9 + "z").status_code == 401
    assert house.login(email, password).status_code == 200
    nul = house.register(password="long enough\u0000tail-a").json()["email"]
    assert house.login(nul, "long enough\u0000tail-b").status_code == 401
