"""The second factor: set up, confirm, ask, use once, remove; mandatory for administrators outside development."""

from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest
from sqlalchemy import text

from user_service.admin_cli import reset_totp
from user_service.sealing import Unsealable
from user_service.two_factor import judge

WRONG = "wrong horse battery"


def test_setup_changes_nothing_until_it_is_confirmed(house):
    person = house.person()

    answer = house.post("/auth/totp/setup", headers=person.headers)

    assert answer.status_code == 200
    body = answer.json()
    assert len(body["secret"]) == 32
    assert body["otpauth_uri"].startswith("otpauth://totp/Saras:")
    assert pyotp.parse_uri(body["otpauth_uri"]).secret == body["secret"]
    assert body["qr_svg_data_uri"].startswith("data:image/svg+xml")
    assert house.login(person.email).status_code == 200
    assert house.me(person).json()["totp_enabled"] is False


def test_a_sign_in_needs_the_code_once_it_is_enabled(house):
    person = house.enable_totp(house.person())
    house.clock.advance(60)

    missing = house.login(person.email)
    assert (missing.status_code, missing.json()["code"]) == (401, "totp_required")
    wrong = house.login(person.email, totp_code="000000" if house.code(person) != "000000" else "000001")
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_totp")
    right = house.login(person.email, totp_code=house.code(person))
    assert right.status_code == 200
    person.tokens = right.json()
    assert house.me(person).json()["mfa"] is True


def test_the_code_is_asked_for_only_after_the_right_password(house):
    person = house.enable_totp(house.person())
    assert house.login(person.email, WRONG).json()["code"] == "invalid_credentials"
    assert house.login(person.email, WRONG, totp_code=house.code(person)).json()["code"] == "invalid_credentials"


def test_a_code_is_usable_once(house):
    person = house.enable_totp(house.person())
    confirming = house.code(person)
    assert house.login(person.email, totp_code=confirming).json()["code"] == "invalid_totp"
    house.clock.advance(30)
    code = house.code(person)
    assert house.login(person.email, totp_code=code).status_code == 200
    assert house.login(person.email, totp_code=code).json()["code"] == "invalid_totp"
    assert house.login(person.email, totp_code=confirming).json()["code"] == "invalid_totp"


def test_of_parallel_sign_ins_with_one_code_exactly_one_succeeds(house):
    person = house.enable_totp(house.person())
    house.clock.advance(30)
    code = house.code(person)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: house.login(person.email, totp_code=code), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


@pytest.mark.parametrize(("offset", "status"), [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)])
def test_one_step_of_drift_is_allowed(house, offset, status):
    person = house.enable_totp(house.person())
    house.clock.advance(300)
    assert house.login(person.email, totp_code=house.code(person, offset=offset)).status_code == status


def test_a_malformed_code_is_refused_before_anything_is_checked(house):
    person = house.enable_totp(house.person())
    for code in ["12345", "1234567", "12345a", "١٢٣٤٥٦", " 12345", "", "123456\n"]:
        answer = house.login(person.email, totp_code=code)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), code


def test_guessing_codes_is_throttled_although_the_password_is_known(house):
    person = house.enable_totp(house.person())
    house.clock.advance(600)
    right = house.code(person)
    wrong = f"{(int(right) + 500_000) % 1_000_000:06}"
    found = []
    for _ in range(6):
        found.append(house.login(person.email, totp_code=wrong).status_code)
        # Asking without a code shows that the password is right; it must not wipe the count of guesses.
        found.append(house.login(person.email).status_code)
    assert found[:9] == [401] * 9
    assert 429 in found
    assert house.login(person.email, totp_code=right).status_code == 429


def test_enabling_ends_sessions_that_were_opened_without_it(house):
    person = house.person()
    other = house.login(person.email).json()
    house.enable_totp(person)
    assert house.post("/auth/refresh", {"refresh_token": other["refresh_token"]}).status_code == 401
    assert house.me(person).json()["mfa"] is True


def test_a_factor_in_use_cannot_be_replaced(house):
    person = house.enable_totp(house.person())
    for path in ("setup", "confirm"):
        body = {"code": house.code(person)} if path == "confirm" else None
        answer = house.post(f"/auth/totp/{path}", body, headers=person.headers)
        assert answer.status_code == 409
        assert answer.json()["code"] == "totp_already_enabled"


def test_a_wrong_confirmation_enables_nothing(house):
    person = house.person()
    assert (
        house.post("/auth/totp/confirm", {"code": "123456"}, headers=person.headers).json()["code"] == "totp_not_set_up"
    )
    secret = house.post("/auth/totp/setup", headers=person.headers).json()["secret"]
    far = pyotp.TOTP(secret).at(int(house.clock.now().timestamp()) + 3000)
    answer = house.post("/auth/totp/confirm", {"code": far}, headers=person.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_totp")
    assert house.login(person.email).status_code == 200


def test_setting_up_needs_a_recent_sign_in(house):
    person = house.person()
    house.clock.advance(14 * 60)
    person.tokens = house.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json()
    house.clock.advance(2 * 60)
    answer = house.post("/auth/totp/setup", headers=person.headers)
    assert answer.status_code == 403
    assert answer.json()["code"] == "reauthentication_required"


def test_disabling_needs_password_and_code(house):
    person = house.enable_totp(house.person())
    house.clock.advance(30)

    def disable(password, code):
        return house.post("/auth/totp/disable", {"password": password, "code": code}, headers=person.headers)

    assert disable(WRONG, house.code(person)).json()["code"] == "wrong_password"
    assert disable(person.password, house.code(person, offset=5)).json()["code"] == "invalid_totp"
    assert house.login(person.email).json()["code"] == "totp_required"
    assert disable(person.password, house.code(person)).status_code == 204
    assert house.login(person.email).status_code == 200
    assert house.me(person).json()["mfa"] is False
    assert disable(person.password, "123456").json()["code"] == "totp_not_set_up"


def test_anonymous_callers_reach_no_totp_route(house):
    for path in ("setup", "confirm", "disable"):
        assert house.post(f"/auth/totp/{path}", {"code": "123456", "password": "x"}).status_code == 401


def test_the_secret_is_sealed_and_bound_to_its_row(house):
    first, second = house.enable_totp(house.person()), house.enable_totp(house.person())
    stored = b"".join(bytes(row["sealed_secret"]) for row in house.rows("SELECT sealed_secret FROM totp_factors"))
    assert first.totp_secret.encode() not in stored
    with house.db.transaction() as session:
        session.execute(
            text(
                "UPDATE totp_factors SET sealed_secret ="
                " (SELECT sealed_secret FROM totp_factors WHERE user_id = :first) WHERE user_id = :second"
            ),
            {"first": first.user_id, "second": second.user_id},
        )
    house.clock.advance(30)
    with house.db.session() as session, pytest.raises(Unsealable):
        judge(session, house.client.app.state.room, second.user_id, house.code(first), house.clock.now())
    assert house.login(first.email, totp_code=house.code(first)).status_code == 200


@pytest.fixture
def production(build):
    return build(environment="production")


@pytest.mark.parametrize("role", ["admin", "ops"])
def test_outside_development_a_privileged_account_must_enrol_first(production, role):
    house = production
    admin = house.admin(role)
    assert admin.tokens["totp_setup_required"] is True
    assert house.me(admin).json()["totp_setup_required"] is True

    refused = [
        house.client.get("/api/v1/admin/users", headers=admin.headers),
        house.client.get("/api/v1/users/profile", headers=admin.headers),
        house.client.put("/api/v1/users/profile", json={"full_name": "X"}, headers=admin.headers),
        house.client.get("/api/v1/users/stats", headers=admin.headers),
        house.client.get("/api/v1/kyc", headers=admin.headers),
        house.post("/auth/change-password", {"current_password": "a", "new_password": "b"}, headers=admin.headers),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(403, "mfa_required")}

    house.enable_totp(admin)

    assert admin.tokens["totp_setup_required"] is False
    assert house.client.get("/api/v1/users/profile", headers=admin.headers).status_code == 200
    expected = 200 if role == "admin" else 403
    assert house.client.get("/api/v1/admin/users", headers=admin.headers).status_code == expected


def test_outside_development_a_plain_user_needs_no_second_factor(production):
    person = production.person()
    assert person.tokens["totp_setup_required"] is False
    assert production.client.get("/api/v1/users/profile", headers=person.headers).status_code == 200


def test_an_administrator_who_disables_the_factor_is_back_at_enrolling(production):
    admin = production.enable_totp(production.admin())
    production.clock.advance(30)
    body = {"password": admin.password, "code": production.code(admin)}
    assert production.post("/auth/totp/disable", body, headers=admin.headers).status_code == 204
    assert production.client.get("/api/v1/admin/users", headers=admin.headers).json()["code"] == "mfa_required"


def test_a_promoted_user_without_the_factor_cannot_act_as_administrator(production):
    admin = production.enable_totp(production.admin())
    person = production.person()
    production.client.put(
        f"/api/v1/admin/users/{person.user_id}/roles", json={"roles": ["user", "admin"]}, headers=admin.headers
    )
    person.tokens = production.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).json()
    assert production.client.get("/api/v1/admin/users", headers=person.headers).json()["code"] == "mfa_required"


def test_operators_can_take_a_lost_factor_away(house):
    person = house.enable_totp(house.person())
    reset_totp(house.db, person.email.upper(), clock=house.clock)
    assert house.me(person).status_code == 401
    assert house.login(person.email).status_code == 200
    assert [row["action"] for row in house.rows("SELECT action FROM audit_log WHERE actor_kind = 'command_line'")] == [
        "totp_reset"
    ]
