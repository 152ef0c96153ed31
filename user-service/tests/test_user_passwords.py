"""Changing, forgetting and resetting passwords; verifying addresses."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from common.config import InvalidSettings
from common.db import count_statements

NEW = "another fine passphrase"


@pytest.fixture
def open_house(build):
    """Development with mail tokens in the answers."""
    return build(expose_reset_token=True)


def change(house, person, current, new, path="/auth/change-password"):
    return house.post(path, {"current_password": current, "new_password": new}, headers=person.headers)


def forgot(house, email, **options):
    return house.post("/auth/forgot-password", {"email": email}, **options)


def reset(house, token, new=NEW):
    return house.post("/auth/reset-password", {"token": token, "new_password": new})


@pytest.mark.parametrize("path", ["/auth/change-password", "/users/change-password"])
def test_a_change_ends_the_other_sessions_and_keeps_this_one(house, path):
    person = house.person()
    other = house.login(person.email).json()

    assert change(house, person, person.password, NEW, path).status_code == 204

    assert house.me(person).status_code == 200
    assert house.post("/auth/refresh", {"refresh_token": other["refresh_token"]}).json()["code"] == "session_revoked"
    assert house.login(person.email).status_code == 401
    assert house.login(person.email, NEW).status_code == 200


def test_a_change_needs_the_present_password_and_a_good_new_one(house):
    person = house.person()
    assert change(house, person, "wrong horse battery", NEW).json()["code"] == "wrong_password"
    assert change(house, person, person.password, "short").json()["code"] == "weak_password"
    assert change(house, person, person.password, person.password).json()["code"] == "weak_password"
    assert change(house, person, person.password, person.email).json()["code"] == "weak_password"
    assert house.post("/auth/change-password", {"current_password": "a", "new_password": NEW}).status_code == 401
    assert house.login(person.email).status_code == 200


def test_a_stolen_session_cannot_guess_the_password(house):
    person = house.person()
    found = [change(house, person, f"wrong guess number {n}", NEW).status_code for n in range(7)]
    assert found == [403] * 5 + [429] * 2


def test_of_parallel_changes_one_wins(house):
    person = house.person()
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda n: change(house, person, person.password, f"{NEW} {n}"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 403, 403, 403]
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 204)
    house.clock.advance(900)
    assert house.login(person.email, f"{NEW} {winner}").status_code == 200


def test_forgetting_answers_the_same_for_everybody(house):
    house.register("known@example.com")

    known, unknown = forgot(house, "known@example.com"), forgot(house, "nobody@example.com")

    assert known.status_code == unknown.status_code == 202
    assert known.json() == unknown.json()
    assert set(known.json()) == {"detail"}
    (event,) = house.events("PasswordResetRequested")
    assert event["email"] == "known@example.com"
    assert house.rows("SELECT 1 FROM mail_tokens WHERE purpose = 'reset_password'").__len__() == 1


def test_forgetting_runs_the_same_statements_for_everybody(house):
    house.register("known@example.com")
    with count_statements(house.db) as known:
        forgot(house, "known@example.com")
    with count_statements(house.db) as unknown:
        forgot(house, "nobody@example.com")
    # Only the end of the savepoint differs: kept for a known account, taken back for an unknown one.
    assert [s.replace("ROLLBACK TO", "RELEASE") for s in unknown] == known


def test_the_token_is_in_no_answer_row_or_event_outside_its_mail(house, service_identity):
    """Only the room that sends the mail gets it, over its internal route, until it is used."""
    person = house.person()
    answer = forgot(house, person.email)
    (event,) = house.events("PasswordResetRequested")
    path = f"/internal/v1/mail-tokens/{event['mail_token_id']}"

    def fetch(room):
        token = service_identity(room).token("user-service")
        return house.client.get(path, headers={"Authorization": f"Bearer {token}"})

    assert house.client.get(path, headers=person.headers).status_code == 401
    assert fetch("analytics-service").status_code == 403
    fetched = fetch("notification-service")
    assert fetched.status_code == 200
    assert fetched.json()["purpose"] == "reset_password"
    token = fetched.json()["token"]
    assert token not in answer.text
    assert token not in str(event)
    assert token not in "".join(row["t"] for row in house.rows("SELECT row_to_json(m)::text AS t FROM mail_tokens m"))
    assert reset(house, token).status_code == 204
    assert fetch("notification-service").status_code == 404


def test_a_reset_sets_the_password_ends_all_sessions_and_verifies_the_address(open_house):
    house = open_house
    person = house.person()
    token = forgot(house, person.email.upper()).json()["reset_token"]

    assert reset(house, token).status_code == 204

    assert house.me(person).status_code == 401
    assert house.login(person.email).status_code == 401
    person.password = NEW
    house.sign_in(person)
    assert house.me(person).json()["email_verified"] is True


def test_a_reset_token_works_once(open_house):
    person = open_house.person()
    token = forgot(open_house, person.email).json()["reset_token"]
    assert reset(open_house, token).status_code == 204
    again = reset(open_house, token, NEW + "2")
    assert again.status_code == 400
    assert again.json()["code"] == "invalid_token"
    assert open_house.login(person.email, NEW).status_code == 200


def test_of_parallel_resets_with_one_token_exactly_one_works(open_house):
    person = open_house.person()
    token = forgot(open_house, person.email).json()["reset_token"]
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda n: reset(open_house, token, f"{NEW} {n}").status_code, range(5)))
    assert sorted(answers) == [204, 400, 400, 400, 400]


def test_using_one_token_ends_the_others(open_house):
    person = open_house.person()
    first = forgot(open_house, person.email).json()["reset_token"]
    second = forgot(open_house, person.email).json()["reset_token"]
    assert reset(open_house, second).status_code == 204
    assert reset(open_house, first).json()["code"] == "invalid_token"


def test_a_reset_token_ends_after_an_hour(open_house):
    person = open_house.person()
    token = forgot(open_house, person.email).json()["reset_token"]
    open_house.clock.advance(3600)
    assert reset(open_house, token).json()["code"] == "invalid_token"


def test_a_weak_new_password_does_not_use_the_token_up(open_house):
    person = open_house.person()
    token = forgot(open_house, person.email).json()["reset_token"]
    assert reset(open_house, token, "password123").json()["code"] == "weak_password"
    assert reset(open_house, token).status_code == 204


def test_tokens_of_another_purpose_or_nobody_are_refused(open_house):
    house = open_house
    person = house.person()
    verification = house.post("/users/verify-email/resend", headers=person.headers).json()["verification_token"]
    for token in (verification, "x", "é", "\u0000", person.tokens["access_token"], person.tokens["refresh_token"]):
        assert reset(house, token).json()["code"] == "invalid_token", token
    reset_token = forgot(house, person.email).json()["reset_token"]
    assert house.post("/users/verify-email", {"token": reset_token}).json()["code"] == "invalid_token"


def test_a_reset_does_not_remove_the_second_factor(open_house):
    person = open_house.enable_totp(open_house.person())
    assert reset(open_house, forgot(open_house, person.email).json()["reset_token"]).status_code == 204
    assert open_house.login(person.email, NEW).json()["code"] == "totp_required"


def test_a_reset_lets_a_throttled_owner_in(open_house):
    person = open_house.person()
    for n in range(8):
        open_house.login(person.email, "wrong horse battery", address=f"203.0.113.{n}")
    assert open_house.login(person.email, address="198.51.100.1").status_code == 429
    assert reset(open_house, forgot(open_house, person.email).json()["reset_token"]).status_code == 204
    assert open_house.login(person.email, NEW, address="198.51.100.1").status_code == 200


def test_nobodys_inbox_is_flooded(house):
    house.register("flood@example.com")
    answers = {forgot(house, "flood@example.com").text for _ in range(12)}
    assert len(answers) == 1
    assert len(house.events("PasswordResetRequested")) == 5


def test_a_closed_account_gets_no_mail(house):
    person = house.person()
    closed = house.client.request(
        "DELETE", "/api/v1/users/account", json={"password": person.password}, headers=person.headers
    )
    assert closed.status_code == 204
    assert forgot(house, person.email).status_code == 202
    assert house.events("PasswordResetRequested") == []


def test_tokens_are_shown_in_development_only():
    from user_service.config import Settings

    for environment in ("staging", "production"):
        with pytest.raises(ValueError, match="development only"):
            Settings(environment=environment, expose_reset_token=True)
    assert Settings(environment="development", expose_reset_token=True).expose_reset_token is True
    assert Settings().expose_reset_token is False


def test_the_refused_setting_is_named_at_start(monkeypatch):
    from user_service.config import Settings

    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("USER_EXPOSE_RESET_TOKEN", "true")
    with pytest.raises(InvalidSettings, match="USER_EXPOSE_RESET_TOKEN"):
        Settings.load()


def test_an_address_is_verified_with_the_token_of_its_mail_once(open_house):
    house = open_house
    person = house.person()
    token = house.post("/users/verify-email/resend", headers=person.headers).json()["verification_token"]

    assert house.post("/users/verify-email", {"token": token}).status_code == 204

    assert house.me(person).json()["email_verified"] is True
    assert house.post("/users/verify-email", {"token": token}).status_code == 400
    again = house.post("/users/verify-email/resend", headers=person.headers)
    assert again.status_code == 202
    assert "verification_token" not in again.json()
    assert house.post("/users/verify-email/resend").status_code == 401
    assert house.post("/users/verify-email", {"token": str(uuid4())}).status_code == 400
