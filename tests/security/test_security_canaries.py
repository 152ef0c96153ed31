"""Canary secrets: placed wherever a secret is sent or kept, then looked for wherever something is written."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response

from api_gateway import routing
from common import logging as saras_logging
from tests.security import people
from tests.security.house import API_SECRET, House
from tests.security.people import API, Person
from trade_executor.testing import ACCOUNT, TAG_KEY


class Canaries:
    """Secrets by what they are, and the answers that were given."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.answers: list[tuple[str, str]] = []

    def new(self, kind: str) -> str:
        """A value that stands nowhere else."""
        return self.known(kind, f"canary{uuid4().hex}")

    def known(self, kind: str, secret: str) -> str:
        """A secret that was made elsewhere."""
        self.secrets[f"{kind} {len(self.secrets)}"] = secret
        return secret

    def heard(self, response: Response) -> Response:
        """Keep an answer that must hold no secret."""
        self.answers.append((f"{response.request.method} {response.request.url.path}", response.text))
        return response

    def found_in(self, text: str) -> list[str]:
        """Kinds of the canaries in a text."""
        return [kind for kind, secret in self.secrets.items() if secret in text]


@pytest.fixture
def log_lines(house: House) -> Iterator[io.StringIO]:
    """Everything this process logs at level DEBUG, as a room's process writes it."""
    stream = io.StringIO()
    saras_logging.configure("the platform", "DEBUG", stream=stream)
    # The client of these tests, not a part of the platform.
    client = logging.getLogger("httpx2")
    client.setLevel(logging.WARNING)
    yield stream
    client.setLevel(logging.NOTSET)


def live_a_day(house: House, canaries: Canaries) -> Person:
    """Sign-up, sign-in, second factor, KYC, a trade, a reset: every path that secrets take."""
    admin = people.new_operator(house, "admin", "ops")
    person = people.new_user(house)
    gateway, old = house.gateway, person.password
    person.password = canaries.new("password")
    person.call("POST", "/auth/change-password", {"current_password": old, "new_password": person.password})
    person.sign_in()
    canaries.known("access token", person.tokens["access_token"])
    canaries.known("refresh token", person.tokens["refresh_token"])
    people.approve(admin, person)
    canaries.known("PAN", person.pan)
    canaries.known("access token", person.tokens["access_token"])
    people.fund(admin, person)
    people.buy_shares(person)
    person.enable_totp()
    canaries.known("TOTP secret", person.totp_secret or "")
    canaries.heard(gateway.post(f"{API}/auth/forgot-password", json={"email": person.email}))
    [row] = house.rows(
        routing.USER, "SELECT id FROM mail_tokens WHERE user_id = :id AND purpose = 'reset_password'", id=person.user_id
    )
    token, new = canaries.known("reset token", house.sealer.mail_token(row["id"])), canaries.new("new password")
    canaries.heard(gateway.post(f"{API}/auth/reset-password", json={"token": token, "new_password": new}))
    for path in ("/kyc", "/users/profile", "/notifications", "/orders", "/analytics", "/users/stats"):
        canaries.heard(gateway.get(API + path, headers=people.new_user(house).headers))
    canaries.heard(gateway.get(f"{API}/kyc", headers=admin.headers))
    canaries.heard(gateway.get(f"{API}/admin/users/{person.user_id}", headers=admin.headers))
    canaries.heard(gateway.get(f"{API}/ops/accounts", headers=admin.headers))
    canaries.heard(gateway.get(f"{API}/broker/login-url", headers=admin.headers))
    session = gateway.post(
        f"{API}/broker/session", headers=admin.headers,
        json={"request_token": canaries.known("request token", house.request_token())},
    )  # fmt: skip
    assert canaries.heard(session).status_code == 201
    canaries.known("broker access token", house.access.access_token(ACCOUNT)[1])
    return admin


def make_mistakes(house: House, admin: Person, canaries: Canaries) -> None:
    """Every way of being refused, each time with secrets in body, header and query."""
    gateway, user = house.gateway, people.new_user(house)
    bodies: list[tuple[str, str, Any]] = [
        ("POST", "/auth/register", {"email": "nonsense", "password": canaries.new("password"), "full_name": "A"}),
        ("POST", "/auth/register", {"email": people.new_email(), "password": canaries.new("password") * 40}),
        ("POST", "/auth/login", {"email": user.email, "password": canaries.new("password")}),
        ("POST", "/auth/login", {"email": user.email, "password": [canaries.new("password")]}),
        ("POST", "/auth/login", {"email": user.email, "passwort": canaries.new("password")}),
        ("POST", "/auth/refresh", {"refresh_token": canaries.new("refresh token")}),
        ("POST", "/auth/refresh", {"refresh_token": {"x": canaries.new("refresh token")}}),
        ("POST", "/auth/validate-token", {"token": canaries.new("access token")}),
        ("POST", "/auth/reset-password", {"token": canaries.new("reset token"), "new_password": "x"}),
        ("POST", "/auth/reset-password", {"token": canaries.new("reset token"), "new_password": "good enough words"}),
        ("POST", "/users/verify-email", {"token": canaries.new("reset token")}),
        ("POST", "/auth/change-password", {"current_password": canaries.new("password"), "new_password": "short"}),
        ("DELETE", "/users/account", {"password": canaries.new("password")}),
        ("POST", "/auth/totp/confirm", {"code": canaries.new("code")}),
        ("POST", "/kyc", {"pan": canaries.new("PAN"), "legal_name": "A B", "date_of_birth": "1990-01-01"}),
        ("POST", "/funds/topup", {"amount": canaries.new("amount"), "api_secret": canaries.new("API secret")}),
        ("POST", "/orders/buy", {"tradingsymbol": canaries.new("symbol"), "access_token": canaries.new("access token")}),
        ("POST", "/broker/session", {"request_token": canaries.new("request token")}),
        ("POST", "/broker/postback", {"order_id": "1", "checksum": canaries.new("checksum")}),
    ]  # fmt: skip
    for method, path, body in bodies:
        headers = {
            **(admin if path.startswith("/broker") else user).headers, "Idempotency-Key": uuid4().hex,
            "X-Api-Key": canaries.new("API key"), "Cookie": f"session={canaries.new('cookie')}",
        }  # fmt: skip
        query = {"access_token": canaries.new("access token in a query")}
        for client in (gateway, house.rooms[routing.resolve(method, API + path).room]):  # type: ignore[union-attr]
            answer = canaries.heard(client.request(method, API + path, json=body, headers=headers, params=query))
            assert answer.status_code < 500, answer.text
        broken = json.dumps(body)[:-1].encode()
        canaries.heard(gateway.request(method, API + path, content=broken, headers=headers))
    form = {
        "username": user.email,
        "password": canaries.new("password"),
        "client_secret": canaries.new("client secret"),
    }
    canaries.heard(gateway.post(f"{API}/auth/login", data=form))
    for token in (canaries.new("access token"), f"{canaries.new('access token')}.x.y"):
        for room, client in (("", gateway), *house.rooms.items()):
            path = API + ("/funds" if not room else "/auth/me")
            canaries.heard(client.get(path, headers={"Authorization": f"Bearer {token}"}))
            canaries.heard(client.get(path, headers={"Authorization": f"Basic {token}"}))
    service = canaries.known("service token", house.identity("strategy-service").token(routing.USER))
    canaries.heard(
        house.rooms[routing.USER].get(
            f"/internal/v1/sessions/{uuid4()}", headers={"Authorization": f"Bearer {service}"}
        )
    )


def break_the_house(house: House, canaries: Canaries) -> None:
    """An error nobody foresaw, with secrets and personal data in the statement that fails."""
    house.run(routing.USER, "ALTER TABLE users RENAME COLUMN full_name TO gone")
    try:
        body = {
            "email": people.new_email(), "password": canaries.new("password"), "full_name": canaries.new("name"),
        }  # fmt: skip
        answer = canaries.heard(house.gateway.post(f"{API}/auth/register", json=body))
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    finally:
        house.run(routing.USER, "ALTER TABLE users RENAME COLUMN gone TO full_name")


def stored_text(house: House) -> Iterator[tuple[str, str]]:
    """Every row of every table of every room, as text."""
    for room in routing.ROOMS:
        for table in house.tables(room):
            for line in house.table(room, table):
                yield f"{room} {table}", line


def test_secrets_stay_out_of_logs_answers_messages_and_metrics(house: House, log_lines: io.StringIO) -> None:
    canaries = Canaries()
    for kind, secret in (("API secret", API_SECRET), ("tag key", TAG_KEY)):
        canaries.known(kind, secret)
    admin = live_a_day(house, canaries)
    make_mistakes(house, admin, canaries)
    break_the_house(house, canaries)
    house.settle()
    for client in (house.gateway, *house.rooms.values()):
        for path in ("/metrics", "/health/ready", "/openapi.json"):
            canaries.heard(client.get(path))

    logged = log_lines.getvalue()
    assert logged.count("\n") > 300
    assert "http.unhandled_error" in logged, "the error was logged with its traceback"
    for line in logged.splitlines():
        assert canaries.found_in(line) == [], line
    for path, text in canaries.answers:
        assert canaries.found_in(text) == [], f"{path}: {text}"
    # What is found must be findable: the log does tell the requests.
    assert "/api/v1/auth/login" in logged

    hidden = {kind: secret for kind, secret in canaries.secrets.items() if kind.rpartition(" ")[0] != "name"}
    stored = list(stored_text(house))
    assert len(stored) > 100
    for where, line in stored:
        for kind, secret in hidden.items():
            assert secret not in line, f"{kind} in {where}"
            assert secret.encode().hex() not in line, f"{kind} in {where}"


def test_a_canary_in_a_log_line_would_be_found(house: House, log_lines: io.StringIO) -> None:
    canaries = Canaries()
    secret = canaries.new("password")
    saras_logging.get_logger("test").info("told", detail=f"it is {secret}", password=secret)
    [line] = [line for line in log_lines.getvalue().splitlines() if "told" in line]
    assert canaries.found_in(line) == ["password 0"]
    assert json.loads(line)["password"] == saras_logging.REDACTED
