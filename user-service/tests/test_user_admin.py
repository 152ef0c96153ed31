"""Administration: who may, what changes, what stays, and that it is written down."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from common import audit_chain
from common.errors import AppError
from user_service.admin_cli import create_admin

SOMEBODY = str(uuid4())
ADMIN_ROUTES = [
    ("GET", "/admin/users", None),
    ("GET", f"/admin/users/{SOMEBODY}", None),
    ("GET", f"/admin/users/{SOMEBODY}/actions", None),
    ("PUT", f"/admin/users/{SOMEBODY}/kyc-status", {"status": "approved"}),
    ("PUT", f"/users/{SOMEBODY}/kyc-status", {"status": "approved"}),
    ("PUT", f"/admin/users/{SOMEBODY}/status", {"status": "suspended"}),
    ("PUT", f"/admin/users/{SOMEBODY}/roles", {"roles": ["user"]}),
    ("GET", "/security/metrics", None),
    ("GET", "/admin/audit/user-service", None),
    ("GET", "/admin/audit/user-service/head", None),
]
OWN_ROUTES = [
    ("GET", "/auth/me", None),
    ("GET", "/users/profile", None),
    ("PUT", "/users/profile", {"full_name": "N"}),
    ("GET", "/users/stats", None),
    ("GET", "/kyc", None),
    ("POST", "/users/verify-email/resend", None),
]


def call(house, method, path, body=None, person=None):
    headers = person.headers if person else {}
    return house.client.request(method, f"/api/v1{path}", json=body, headers=headers)


def put(house, admin, user_id, what, body):
    return call(house, "PUT", f"/admin/users/{user_id}/{what}", body, admin)


def test_the_role_matrix_holds(house):
    """Every route times every kind of caller; 404 is what an administrator gets for somebody who is not there."""
    callers = {"nobody": None, "user": house.person(), "ops": house.admin("ops"), "admin": house.admin()}
    expected = {"nobody": 401, "user": 403, "ops": 403, "admin": 404}
    wrong = {}
    for method, path, body in ADMIN_ROUTES:
        for kind, person in callers.items():
            status = call(house, method, path, body, person).status_code
            right = 200 if kind == "admin" and SOMEBODY not in path else expected[kind]
            if status != right:
                wrong[kind, method, path] = status
    for method, path, body in OWN_ROUTES:
        for kind, person in callers.items():
            status = call(house, method, path, body, person).status_code
            if (status == 401) is not (kind == "nobody") or (kind != "nobody" and status not in (200, 202)):
                wrong[kind, method, path] = status
    assert wrong == {}


def test_every_route_is_known_to_the_matrix_or_public(house):
    """A new route must be added to one of the lists, so that nobody forgets to ask who may call it."""
    public = {
        "/auth/register", "/auth/login", "/auth/refresh", "/auth/logout", "/auth/logout-all", "/auth/forgot-password",
        "/auth/reset-password", "/auth/validate-token", "/auth/change-password", "/auth/totp/setup",
        "/auth/totp/confirm", "/auth/totp/disable", "/users/verify-email", "/users/account", "/kyc",
    }  # fmt: skip
    listed = {path.replace(SOMEBODY, "{user_id}") for _, path, _ in ADMIN_ROUTES + OWN_ROUTES} | public
    paths = {path.removeprefix("/api/v1") for path in house.client.app.openapi()["paths"]}
    assert paths - listed == {"/.well-known/jwks.json"}


def test_users_are_found_by_page_and_filter(house):
    admin = house.admin()
    people = []
    for name in ("anita", "arjun", "a_b", "axb"):
        house.clock.advance(1)
        people.append(house.person(f"{name}@example.com"))

    def found(query):
        answer = call(house, "GET", f"/admin/users?{query}", None, admin)
        assert answer.status_code == 200, answer.text
        return [user["email"].partition("@")[0] for user in answer.json()["items"]], answer.json()["total"]

    assert found("page_size=2") == (["axb", "a_b"], 5)
    assert found("page_size=2&page=2") == (["arjun", "anita"], 5)
    assert found("email=A_B") == (["a_b"], 1)
    assert found("email=%25") == ([], 0)
    assert found("email=ARJUN%40example") == (["arjun"], 1)
    assert found("role=admin")[1] == 1
    assert found("kyc_status=pending") == ([], 0)
    put(house, admin, people[0].user_id, "status", {"status": "suspended"})
    assert found("status=suspended") == (["anita"], 1)


def test_bad_queries_are_refused(house):
    admin = house.admin()
    for query in [
        "page=0",
        "page=-1",
        "page_size=101",
        "page=x",
        "page=99999999999999999999",
        "status=gone",
        "email=%00a",
    ]:
        assert call(house, "GET", f"/admin/users?{query}", None, admin).status_code == 422, query


def test_suspending_ends_sessions_and_reactivating_lets_in_again(house, service_identity):
    person, admin = house.person(), house.admin()

    answer = put(house, admin, person.user_id, "status", {"status": "suspended", "reason": "Chargeback."})

    assert answer.status_code == 200
    assert answer.json()["status"] == "suspended"
    assert house.me(person).json()["code"] == "session_revoked"
    assert house.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]}).status_code == 401
    assert house.login(person.email).json()["code"] == "account_suspended"
    assert put(house, admin, person.user_id, "status", {"status": "active"}).status_code == 200
    assert house.login(person.email).status_code == 200


def test_a_closed_account_stays_closed(house):
    person, admin = house.person(), house.admin()
    assert (
        put(house, admin, person.user_id, "status", {"status": "active"}).json()["code"] == "account_transition_refused"
    )
    assert put(house, admin, person.user_id, "status", {"status": "closed"}).status_code == 200
    for status in ("active", "suspended", "closed"):
        assert put(house, admin, person.user_id, "status", {"status": status}).status_code == 409
    assert house.login(person.email).json()["code"] == "account_closed"
    assert house.register(person.email).json()["code"] == "email_taken"


def test_closing_the_own_account_needs_the_password(house):
    person = house.person()
    assert call(house, "DELETE", "/users/account", {"password": "x"}).status_code == 401
    wrong = call(house, "DELETE", "/users/account", {"password": "wrong horse battery"}, person)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_password")
    assert call(house, "DELETE", "/users/account", {"password": person.password}, person).status_code == 204
    assert house.me(person).status_code == 401
    assert house.login(person.email).json()["code"] == "account_closed"


def test_roles_are_given_and_taken(house):
    person, admin = house.person(), house.admin()
    given = put(house, admin, person.user_id, "roles", {"roles": ["ops", "user", "ops"]})
    assert given.json()["roles"] == ["ops", "user"]
    assert house.me(person).status_code == 200

    put(house, admin, person.user_id, "roles", {"roles": ["user"]})

    assert house.me(person).json()["code"] == "session_revoked"


def test_a_token_that_still_says_admin_is_not_enough(house):
    """The account's roles of now decide, not those the token was issued with."""
    first, second = house.admin(), house.admin()
    with house.db.transaction() as session:
        session.execute(text("UPDATE users SET roles = '{user}' WHERE id = :id"), {"id": second.user_id})
    assert house.me(second).status_code == 200
    assert call(house, "GET", "/admin/users", None, second).status_code == 403
    assert call(house, "GET", "/admin/users", None, first).status_code == 200


def test_bad_roles_are_refused(house):
    person, admin = house.person(), house.admin()
    for roles in [[], ["root"], ["user", "ADMIN"], "admin", [None], ["user"] * 4]:
        assert put(house, admin, person.user_id, "roles", {"roles": roles}).status_code == 422, roles


def test_the_last_administrator_stays(house):
    admin = house.admin()
    answers = [
        put(house, admin, admin.user_id, "roles", {"roles": ["user"]}),
        put(house, admin, admin.user_id, "status", {"status": "suspended"}),
        put(house, admin, admin.user_id, "status", {"status": "closed"}),
        call(house, "DELETE", "/users/account", {"password": admin.password}, admin),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(409, "last_admin")}
    assert call(house, "GET", "/admin/users", None, admin).status_code == 200


def test_a_suspended_administrator_does_not_count(house):
    first, second = house.admin(), house.admin()
    assert put(house, first, second.user_id, "status", {"status": "suspended"}).status_code == 200
    assert put(house, first, first.user_id, "roles", {"roles": ["user"]}).json()["code"] == "last_admin"
    assert put(house, first, second.user_id, "roles", {"roles": ["user"]}).status_code == 200


def test_administrators_who_demote_each_other_at_once_do_not_both_succeed(house):
    for _ in range(5):
        with house.db.transaction() as session:
            session.execute(text("UPDATE users SET roles = '{user}'"))
        first, second = house.admin(), house.admin()
        pairs = [(first, second), (second, first), (first, first), (second, second)]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda p: put(house, p[0], p[1].user_id, "roles", {"roles": ["user"]}), pairs))
        left = house.rows("SELECT 1 FROM users WHERE 'admin' = ANY(roles) AND status = 'active'")
        assert len(left) == 1
        # Somebody who has just lost the role is refused (403), or signed out (401); nobody meets a deadlock.
        assert {answer.status_code for answer in answers} <= {200, 401, 403, 409}


def test_administrators_who_close_their_accounts_at_once_do_not_both_succeed(house):
    people = [house.admin(), house.admin()]
    with ThreadPoolExecutor(2) as threads:
        body = [{"password": person.password} for person in people]
        answers = list(
            threads.map(lambda n: call(house, "DELETE", "/users/account", body[n], people[n]).status_code, range(2))
        )
    assert sorted(answers) == [204, 409]


def test_every_change_is_written_down_with_its_author(house):
    person, admin = house.person(), house.admin()
    put(house, admin, person.user_id, "status", {"status": "suspended", "reason": "Chargeback."})
    house.clock.advance(1)
    put(house, admin, person.user_id, "roles", {"roles": ["user", "ops"]})

    page = call(house, "GET", f"/admin/users/{person.user_id}/actions", None, admin).json()

    assert [item["action"] for item in page["items"]] == ["roles_set", "status_set"]
    assert {item["actor_id"] for item in page["items"]} == {str(admin.user_id)}
    assert page["items"][1]["details"] == {"before": "active", "after": "suspended", "reason": "Chargeback."}
    made = call(house, "GET", f"/admin/users/{admin.user_id}/actions", None, admin).json()["items"]
    assert [(item["action"], item["actor_id"]) for item in made] == [("admin_created", None)]


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET address = 'x'", "DELETE FROM audit_log"])
def test_what_is_written_down_cannot_be_changed(house, statement):
    person, admin = house.person(), house.admin()
    put(house, admin, person.user_id, "status", {"status": "suspended"})
    with pytest.raises(DBAPIError, match="never changed"), house.db.transaction() as session:
        session.execute(text(statement))
    assert house.rows("SELECT 1 FROM audit_log WHERE action = 'status_set'")


def test_actions_and_security_events_are_one_log_with_a_sound_chain(house):
    person, admin = house.person(), house.admin()
    put(house, admin, person.user_id, "status", {"status": "suspended", "reason": "Chargeback."})
    house.post("/auth/forgot-password", {"email": admin.email}, headers={"X-Forwarded-For": "203.0.113.9"})
    house.post("/auth/forgot-password", {"email": "nobody@example.com"})
    with house.db.transaction() as session:
        assert audit_chain.extend(session) == 4
        assert audit_chain.verify(session).ok

    items = call(house, "GET", "/admin/audit/user-service", None, admin).json()["items"]

    assert [(item["actor_kind"], item["action"], item["target"]) for item in items] == [
        ("unknown", "password.reset_requested", "nobody"),
        ("unknown", "password.reset_requested", f"user:{admin.user_id}"),
        ("operator", "status_set", f"user:{person.user_id}"),
        ("command_line", "admin_created", f"user:{admin.user_id}"),
    ]
    assert (items[1]["address"], items[2]["actor"]) == ("203.0.113.9", str(admin.user_id))
    head = call(house, "GET", "/admin/audit/user-service/head", None, admin).json()
    assert (head["seq"], head["hash"]) == (4, items[0]["hash"])


def test_profile_and_stats_are_the_callers_own(house):
    person, other = house.person(), house.person()
    changed = call(house, "PUT", "/users/profile", {"full_name": " Asha K Rao ", "phone": "+44 20 7946 0958"}, person)
    assert changed.json()["full_name"] == "Asha K Rao"
    assert changed.json()["phone"] == "+442079460958"
    assert call(house, "GET", "/users/profile", None, other).json()["full_name"] == "Asha Rao"
    for body in ({"full_name": "A", "email": "new@example.com"}, {"full_name": "A", "roles": ["admin"]}, {}):
        assert call(house, "PUT", "/users/profile", body, person).status_code == 422
    house.login(person.email, "wrong horse battery")
    stats = call(house, "GET", "/users/stats", None, person).json()
    assert (stats["login_count"], stats["failed_logins_30d"], stats["active_sessions"]) == (1, 1, 1)
    assert stats["totp_enabled"] is False


def test_security_metrics_count_what_happened(house):
    person, admin = house.person(), house.admin()
    for _ in range(7):
        house.login(person.email, "wrong horse battery", address="203.0.113.9")
    house.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]})
    house.post("/auth/refresh", {"refresh_token": person.tokens["refresh_token"]})
    figures = call(house, "GET", "/security/metrics", None, admin).json()
    assert figures["logins"] == {"succeeded": 2, "failed": 5}
    assert figures["events"]["refresh_token.reused"] == 1
    assert figures["suspicious"] == 1
    assert figures["refused_attempts"] == 4
    assert figures["throttled_subjects"] == 1


def test_an_administrator_is_made_by_the_command_line_with_a_generated_password(house):
    made = create_admin(house.db, "Root@Example.com", None, ["admin", "ops"], clock=house.clock)
    assert made.password is not None
    assert len(made.password) >= 20
    answer = house.login("root@example.com", made.password)
    assert answer.status_code == 200
    with pytest.raises(AppError, match="already"):
        create_admin(house.db, "root@example.com", None, ["admin"])
    with pytest.raises(ValueError, match="unknown role"):
        create_admin(house.db, "b@example.com", None, ["root"])
    with pytest.raises(AppError, match="at least"):
        create_admin(house.db, "b@example.com", "short", ["admin"])
    with pytest.raises(ValueError, match="@"):
        create_admin(house.db, "nonsense", None, ["admin"])
    assert len(house.rows("SELECT 1 FROM users")) == 1


def test_there_is_no_account_after_the_migrations(house):
    assert house.rows("SELECT 1 FROM users") == []
