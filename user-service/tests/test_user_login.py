"""Signing in: equal answers, delays that grow and end, the OAuth2 form."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from common.clock import SystemClock
from user_service.hashing import PasswordHashing

WRONG = "wrong horse battery"


def test_a_right_password_opens_a_session(house):
    house.register("a@example.com")

    answer = house.login("A@Example.com")

    assert answer.status_code == 200
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 900
    assert answer.headers["cache-control"] == "no-store"
    me = house.client.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {body['access_token']}"})
    assert me.status_code == 200
    assert me.json()["email"] == "a@example.com"


def test_the_oauth2_form_signs_in_too(house):
    house.register("form@example.com")

    form = {"grant_type": "password", "username": "form@example.com", "password": "correct horse battery", "scope": ""}
    answer = house.client.post("/api/v1/auth/login", data=form)

    assert answer.status_code == 200
    assert answer.json()["access_token"]


def test_a_bad_form_is_refused(house):
    forms = [
        "username=form%40example.com",
        "username=form%40example.com&password=x&admin=1",
        "username=form%40example.com&password=x&password=y",
        "username=form%40example.com&password=%ff",
        "&".join(f"f{i}=1" for i in range(50)),
        "",
    ]
    for form in forms:
        answer = house.client.post(
            "/api/v1/auth/login", content=form, headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert answer.status_code == 422
        assert answer.json()["code"] == "invalid_request"


def test_an_oversize_body_is_refused_before_it_is_read(house):
    answer = house.client.post("/api/v1/auth/login", content=b"x" * 100_000)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"


def test_extra_fields_and_oversize_passwords_are_refused(house):
    house.register("a@example.com")
    assert house.login("a@example.com", remember="me").json()["code"] == "invalid_request"
    assert house.login("a@example.com", "x" * 129).json()["code"] == "invalid_request"
    assert house.rows("SELECT 1 FROM login_throttles") == []


def test_unknown_user_and_wrong_password_get_the_same_answer(house):
    house.register("known@example.com")

    wrong = house.login("known@example.com", WRONG, address="192.0.2.1")
    unknown = house.login("nobody@example.com", WRONG, address="192.0.2.2")

    assert wrong.status_code == unknown.status_code == 401
    first, second = wrong.json(), unknown.json()
    first.pop("request_id")
    second.pop("request_id")
    assert first == second
    assert first["code"] == "invalid_credentials"
    assert {k: v for k, v in wrong.headers.items() if k != "x-request-id"} == {
        k: v for k, v in unknown.headers.items() if k != "x-request-id"
    }


def test_unknown_user_and_wrong_password_run_the_same_statements(house):
    from common.db import count_statements

    house.register("known@example.com")
    with count_statements(house.db) as wrong:
        house.login("known@example.com", WRONG, address="192.0.2.1")
    with count_statements(house.db) as unknown:
        house.login("nobody@example.com", WRONG, address="192.0.2.2")
    assert wrong == unknown


def work_of(stored_hash: str) -> tuple[object, ...]:
    """What decides how long a hash takes to check: algorithm, version, memory, passes, lanes, and the lengths."""
    _, algorithm, version, parameters, salt, digest = stored_hash.split("$")
    return (algorithm, version, parameters, len(salt), len(digest))


def test_unknown_user_and_wrong_password_take_the_same_hash_work(house, cheap_hashing, monkeypatch):
    """Not timed: a busy machine would decide. One check each, of hashes that cost the same; also with the real parameters."""
    house.register("known@example.com")
    checked = []
    check = cheap_hashing.check_in_place

    def recorded(password, stored_hash):
        checked.append((password, stored_hash))
        return check(password, stored_hash)

    monkeypatch.setattr(cheap_hashing, "check_in_place", recorded)
    for email in ("known@example.com", "nobody@example.com"):
        assert house.login(email, WRONG).status_code == 401
    assert [password for password, _ in checked] == [WRONG, WRONG]
    stored, decoy = (stored_hash for _, stored_hash in checked)
    assert (stored != decoy, decoy) == (True, cheap_hashing.decoy_hash)
    assert work_of(stored) == work_of(decoy)
    real = PasswordHashing(workers=1)
    try:
        assert work_of(real.hash("correct horse battery")) == work_of(real.decoy_hash)
        assert work_of(real.decoy_hash)[:3] == ("argon2id", "v=19", "m=19456,t=2,p=1")
    finally:
        real.close()


def test_delays_grow_and_the_right_password_works_after_the_delay(house, clock):
    house.register("slow@example.com")
    waits = []
    for _ in range(9):
        answer = house.login("slow@example.com", WRONG)
        while answer.status_code == 429:
            wait = int(answer.headers["retry-after"])
            assert answer.json()["code"] == "too_many_attempts"
            assert answer.json()["retry_after"] == wait
            waits.append(wait)
            clock.advance(wait)
            answer = house.login("slow@example.com", WRONG)
        assert answer.status_code == 401
    assert waits == [1, 2, 4, 8]

    locked = house.login("slow@example.com")
    assert locked.status_code == 429
    clock.advance(int(locked.headers["retry-after"]))
    assert house.login("slow@example.com").status_code == 200
    assert house.login("slow@example.com", WRONG).status_code == 401


def test_an_unknown_account_is_delayed_like_a_known_one(house):
    house.register("known@example.com")
    known = [house.login("known@example.com", WRONG, address="192.0.2.1").status_code for _ in range(7)]
    unknown = [house.login("nobody@example.com", WRONG, address="192.0.2.2").status_code for _ in range(7)]
    assert known == unknown == [401] * 5 + [429] * 2


def test_parallel_wrong_passwords_are_throttled(build):
    """Counting comes before checking: twenty at once get five looks at the password."""
    house = build(time=SystemClock())
    house.register("target@example.com")

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: house.login("target@example.com", WRONG), range(20)))

    found = Counter(answer.status_code for answer in answers)
    assert set(found) == {401, 429}
    assert found[401] <= 7
    assert house.rows("SELECT count(*) AS n FROM login_attempts")[0]["n"] == found[401]


def test_guesses_from_elsewhere_do_not_keep_the_owner_out(house):
    house.register("victim@example.com")
    assert house.login("victim@example.com", address="198.51.100.7").status_code == 200
    for number in range(12):
        house.login("victim@example.com", WRONG, address=f"203.0.113.{number}")

    assert house.login("victim@example.com", address="203.0.113.99").status_code == 429
    assert house.login("victim@example.com", address="198.51.100.7").status_code == 200


def test_the_owners_address_is_throttled_by_itself(house):
    house.register("victim@example.com")
    house.login("victim@example.com", address="198.51.100.7")
    found = [house.login("victim@example.com", WRONG, address="198.51.100.7").status_code for _ in range(7)]
    assert found == [401] * 5 + [429] * 2


def test_one_address_trying_many_accounts_is_throttled(house):
    found = [house.login(f"user{n}@example.com", WRONG, address="203.0.113.5").status_code for n in range(40)]
    assert found[:30] == [401] * 30
    assert found[30:] == [429] * 10
    assert house.login("other@example.com", WRONG, address="203.0.113.6").status_code == 401


def test_addresses_of_one_ipv6_customer_count_together(house):
    found = [house.login(f"user{n}@example.com", WRONG, address=f"2001:db8::{n:x}").status_code for n in range(1, 34)]
    assert found.count(429) == 3


def test_a_forged_forwarded_for_does_not_help(house):
    """The gateway appends the true address; what the client wrote stands further left."""
    found = [
        house.login(f"user{n}@example.com", WRONG, address=f"10.9.8.{n}, 203.0.113.5").status_code for n in range(32)
    ]
    assert found.count(429) == 2


def test_right_sign_ins_do_not_wear_an_address_out(house):
    house.register("busy@example.com")
    found = {house.login("busy@example.com", address="203.0.113.5").status_code for _ in range(50)}
    assert found == {200}


def test_a_suspended_account_says_so_only_to_who_knows_the_password(house):
    person, admin = house.person(), house.admin()
    house.client.put(
        f"/api/v1/admin/users/{person.user_id}/status", json={"status": "suspended"}, headers=admin.headers
    )
    assert house.login(person.email, WRONG).json()["code"] == "invalid_credentials"
    right = house.login(person.email)
    assert right.status_code == 403
    assert right.json()["code"] == "account_suspended"


def test_the_oldest_session_ends_when_there_are_too_many(house, monkeypatch):
    monkeypatch.setattr("user_service.sessions.SESSIONS_PER_USER_MAX", 3)
    person = house.person()
    first = person.headers
    for _ in range(3):
        house.clock.advance(1)
        house.sign_in(person)
    assert house.client.get("/api/v1/auth/me", headers=first).json()["code"] == "session_revoked"
    assert house.me(person).status_code == 200
    assert house.rows("SELECT count(*) AS n FROM auth_sessions WHERE revoked_at IS NULL")[0]["n"] == 3
