"""Registration: who gets an account, under which address, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest


def test_a_new_account_is_a_plain_user_without_kyc(house):
    answer = house.register("Asha.Rao@Example.com", phone="98765 43210")

    assert answer.status_code == 201
    body = answer.json()
    assert body["email"] == "Asha.Rao@example.com"
    assert (body["roles"], body["status"], body["kyc_status"]) == (["user"], "active", "none")
    assert body["phone"] == "+919876543210"
    assert body["email_verified"] is False
    assert "password" not in answer.text


def test_registration_writes_its_events_with_the_account(house):
    user_id = house.register("a@example.com").json()["user_id"]

    (registered,) = house.events("UserRegistered")
    (verification,) = house.events("EmailVerificationRequested")
    assert (registered["user_id"], registered["email"], registered["full_name"]) == (
        user_id, "a@example.com", "Asha Rao",
    )  # fmt: skip
    assert verification["user_id"] == user_id


@pytest.mark.parametrize(
    "twin",
    ["asha@example.com", "ASHA@EXAMPLE.COM", "asha@Example.Com", "ａsha@example.com", "as\u212aa@example.com"],
)
def test_an_address_that_differs_only_in_form_is_taken(house, twin):
    house.register("aska@example.com" if "\u212a" in twin else "asha@example.com")

    answer = house.register(twin)

    assert answer.status_code == 409
    assert answer.json()["code"] == "email_taken"


def test_composed_and_decomposed_letters_are_one_address(house):
    assert house.register("jos\u00e9@example.com").status_code == 201
    assert house.register("jose\u0301@example.com").json()["code"] == "email_taken"
    assert house.login("JOSE\u0301@example.com").status_code == 200


def test_sql_in_fields_is_text(house):
    name = "Robert'); DROP TABLE users;--"

    created = house.register("o'brien+x@example.com", full_name=name)

    assert created.status_code == 201
    assert created.json()["full_name"] == name
    assert house.login("o'brien+x@example.com").status_code == 200
    assert house.login("' OR '1'='1'@example.com").status_code in (401, 422)


def test_parallel_registrations_of_one_address_make_one_account(house):
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda i: house.register("race@example.com" if i % 2 else "RACE@example.com"), range(8))
        )

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert len(house.events("UserRegistered")) == 1
    assert house.rows("SELECT count(*) AS n FROM users")[0]["n"] == 1


BAD_INPUT = [
    ({"email": "no-at-sign"}, "invalid_request"),
    ({"email": "a@b"}, "invalid_request"),
    ({"email": "x" * 300 + "@example.com"}, "invalid_request"),
    ({"email": "a\u0000@example.com"}, "invalid_request"),
    ({"password": "short"}, "weak_password"),
    ({"password": "password123"}, "weak_password"),
    ({"password": "PASSWORD123"}, "weak_password"),
    ({"password": "aaaaaaaaaaaaaaa"}, "weak_password"),
    ({"password": "New@example.com", "email": "new@example.com"}, "weak_password"),
    ({"password": "x" * 129}, "invalid_request"),
    ({"password": "y" * 1_000_000}, "invalid_request"),
    ({"password": ""}, "invalid_request"),
    ({"password": None}, "invalid_request"),
    ({"password": ["a"]}, "invalid_request"),
    ({"full_name": "  "}, "invalid_request"),
    ({"full_name": "a\u0000b"}, "invalid_request"),
    ({"full_name": "a\u202eb"}, "invalid_request"),
    ({"full_name": "z" * 121}, "invalid_request"),
    ({"phone": "12"}, "invalid_request"),
    ({"phone": "not a number"}, "invalid_request"),
    ({"roles": ["admin"]}, "invalid_request"),
    ({"kyc_status": "approved"}, "invalid_request"),
    ({"is_admin": True}, "invalid_request"),
]


def test_bad_input_is_refused_and_nothing_is_written(house):
    for change, code in BAD_INPUT:
        answer = house.register(**{"email": "new@example.com", **change})
        assert (answer.status_code, answer.json()["code"]) == (422, code), str(change)[:80]
    assert house.rows("SELECT 1 FROM users") == []
    assert house.rows("SELECT 1 FROM outbox") == []


def test_an_error_never_repeats_the_password(house):
    answer = house.register(password="z" * 200)

    assert answer.status_code == 422
    assert "zzz" not in answer.text


BAD_BODIES = [b"", b"{", b"[]", b"null", b'"x"', b'{"email":"\\ud800@example.com"}', b"[" * 50_000]


def test_a_body_that_is_no_object_is_a_client_error(house):
    for path, body in product(("/api/v1/auth/register", "/api/v1/auth/login"), BAD_BODIES):
        answer = house.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert 400 <= answer.status_code < 500, (path, answer.text)


def test_passwords_and_tokens_are_stored_as_hashes_only(house):
    person = house.person("hash@example.com")

    stored = ""
    for table in ("users", "auth_sessions", "refresh_tokens", "mail_tokens", "outbox", "login_attempts"):
        rows = house.rows(f"SELECT row_to_json(t)::text AS t FROM {table} t")  # noqa: S608
        stored += "".join(row["t"] for row in rows)
    assert "$argon2id$" in stored
    assert person.password not in stored
    assert person.tokens["refresh_token"] not in stored
    verification = house.events("EmailVerificationRequested")[0]["mail_token_id"]
    assert verification in stored
    assert len(house.rows("SELECT 1 FROM mail_tokens")) == 1


def test_the_alias_under_users_registers_too(house):
    body = {"email": "alias@example.com", "password": "correct horse battery", "full_name": "A"}
    assert house.post("/users/register", body).status_code == 201
