"""What every room's app answers: problems, request ids, health, tokens."""

import base64
import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import APIRouter
from jose import jwt
from pydantic import BaseModel, ConfigDict
from pydantic_settings import SettingsConfigDict
from sqlalchemy import text

from common import logging as saras_logging
from common.app import CheckFailed, service_app
from common.auth import AUDIENCE, ISSUER, AdminUser, Authenticator, User, require_service
from common.clock import FixedClock
from common.config import InvalidSettings, ServiceSettings
from common.db import Database, SessionDep
from common.errors import NotFound
from common.testing import TestKeys, client_for


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str


router = APIRouter()


@router.get("/me")
def me(user: User) -> dict[str, str]:
    return {"id": str(user.user_id)}


@router.get("/admin")
def admin(user: AdminUser) -> dict[str, str]:
    return {"id": str(user.user_id)}


@router.get("/missing")
def missing() -> None:
    raise NotFound("No such order.", code="order_not_found", order_id="x")


@router.get("/broken")
def broken() -> None:
    raise RuntimeError("a secret detail")


@router.get("/rows")
def rows(session: SessionDep) -> None:
    session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


@router.post("/body")
def body(given: Body) -> Body:
    return given


@pytest.fixture
def make_app(authenticator: Callable[..., Authenticator]):  # type: ignore[no-untyped-def]
    from typing import Annotated

    from fastapi import Depends

    internal = APIRouter()

    @internal.get("/internal/v1/thing")
    def thing(caller: Annotated[str, Depends(require_service("trade-executor"))]) -> dict[str, str]:
        return {"caller": caller}

    def make(*, admin_needs_mfa: bool = False, checks=None):  # type: ignore[no-untyped-def]
        return client_for(
            service_app(
                name="portfolio-service",
                title="Test",
                routers=[router, internal],
                authenticator=authenticator("portfolio-service", admin_needs_mfa=admin_needs_mfa),
                checks=checks,
            )
        )

    return make


def test_an_error_is_a_problem_with_code_facts_and_request_id(make_app) -> None:  # type: ignore[no-untyped-def]
    answer = make_app().get("/missing", headers={"X-Request-ID": "abc-12345"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == "abc-12345"
    assert answer.json() == {
        "type": "about:blank", "title": "Not Found", "status": 404, "code": "order_not_found",
        "detail": "No such order.", "request_id": "abc-12345", "order_id": "x",
    }  # fmt: skip


def test_an_unknown_error_says_nothing_of_itself(make_app) -> None:  # type: ignore[no-untyped-def]
    answer = make_app().get("/broken")
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text


def test_a_database_that_is_away_is_told_as_such_and_the_request_may_be_repeated(  # type: ignore[no-untyped-def]
    make_app, scratch_database: Database
) -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1)
    for database in (scratch_database, nowhere):
        client = make_app()
        client.app.state.db = database
        answer = client.get("/rows")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "127.0.0.1" not in answer.text


def test_extra_fields_and_wrong_types_are_refused_without_echo(make_app) -> None:  # type: ignore[no-untyped-def]
    answer = make_app().post("/body", json={"name": "x", "password": "hunter2hunter2"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "body.password"
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("given", ["short", "with space in it", "x" * 65, "a;b;c;d;e;f"])
def test_a_strange_request_id_is_replaced(make_app, given: str) -> None:  # type: ignore[no-untyped-def]
    answer = make_app().get("/health", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] != given


def test_readiness_fails_with_the_reason(make_app) -> None:  # type: ignore[no-untyped-def]
    def broker() -> None:
        raise CheckFailed("no session today")

    client = make_app(checks={"broker": broker})
    assert client.get("/health").status_code == 200
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broker"]["detail"] == "no session today"
    assert client.get("/health/redis").status_code == 200
    assert "saras_http_requests_total" in client.get("/metrics").text


def test_roles_and_second_factor_guard_admin_routes(make_app, auth_headers) -> None:  # type: ignore[no-untyped-def]
    strict = make_app(admin_needs_mfa=True)
    assert strict.get("/admin").status_code == 401
    assert strict.get("/admin", headers=auth_headers()).json()["code"] == "forbidden"
    assert strict.get("/admin", headers=auth_headers(roles=["admin"])).json()["code"] == "mfa_required"
    assert strict.get("/admin", headers=auth_headers(roles=["admin"], mfa=True)).status_code == 200


def test_a_room_is_let_in_by_name_and_only_for_its_audience(make_app, service_identity, auth_headers) -> None:  # type: ignore[no-untyped-def]
    client = make_app()

    def call(name: str, audience: str) -> int:
        token = service_identity(name).token(audience)
        return client.get("/internal/v1/thing", headers={"Authorization": f"Bearer {token}"}).status_code

    assert call("trade-executor", "portfolio-service") == 200
    assert call("trade-executor", "user-service") == 401
    assert call("analytics-service", "portfolio-service") == 403
    assert call("stranger-service", "portfolio-service") == 401
    assert client.get("/internal/v1/thing", headers=auth_headers(roles=["admin"])).status_code == 401


@pytest.mark.parametrize(
    "claims", [{"iss": "user-service"}, {"iss": ["trade-executor"]}, {"exp": 3600}, {"exp": 301}, {"nbf": 60}]
)
def test_a_service_token_is_short_and_names_its_room_alone(make_app, keys: TestKeys, clock: FixedClock, claims) -> None:  # type: ignore[no-untyped-def]
    now = int(clock.now().timestamp())
    times = {name: now + value for name, value in claims.items() if name != "iss"}
    good = {"iss": "trade-executor", "sub": "trade-executor", "aud": "portfolio-service", "iat": now, "exp": now + 300}

    def call(payload: dict[str, object]) -> int:
        headers = {"kid": "trade-executor", "typ": "service+jwt"}
        token = jwt.encode(payload, keys.service_pem, algorithm="RS256", headers=headers)
        return make_app().get("/internal/v1/thing", headers={"Authorization": f"Bearer {token}"}).status_code

    assert call(good) == 200
    assert call({**good, **claims, **times}) == 401


def test_two_authorization_headers_are_none(make_app, user_token) -> None:  # type: ignore[no-untyped-def]
    header = ("Authorization", f"Bearer {user_token()}")
    assert make_app().get("/me", headers=[header]).status_code == 200
    assert make_app().get("/me", headers=[header, header]).status_code == 401


def _b64(data: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def test_forged_tokens_are_refused(make_app, keys: TestKeys, user_token, clock: FixedClock) -> None:  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    public = load_pem_private_key(keys.user_pem.encode(), None).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    good = user_token()
    claims = jwt.get_unverified_claims(good)
    header = {"alg": "none", "typ": "at+jwt", "kid": keys.user_kid}
    hs = {"kid": keys.user_kid, "typ": "at+jwt"}
    forged = {
        "none": f"{_b64(header)}.{_b64(claims)}.",
        "hs256 with the DER public key": jwt.encode(claims, der, algorithm="HS256", headers=hs),
        "hs256 with the JWKS text": jwt.encode(claims, json.dumps(keys.user_jwks), algorithm="HS256", headers=hs),
        "another key under our kid": user_token(pem=keys.service_pem),
        "unknown kid": user_token(headers={"kid": "../../etc/passwd"}),
        "wrong typ": user_token(headers={"typ": "JWT"}),
        "service typ": user_token(headers={"typ": "service+jwt"}),
        "wrong audience": user_token(aud="elsewhere"),
        "wrong issuer": user_token(iss="elsewhere"),
        "expired": user_token(lifetime_s=-1),
        "issued in the future": user_token(iat=int(clock.now().timestamp()) + 3600),
        "not yet valid": user_token(nbf=int(clock.now().timestamp()) + 3600),
        "a truth value for a time": user_token(exp=True),
        "no expiry": user_token(exp=None),
        "one audience of many": user_token(aud=[AUDIENCE, "elsewhere"]),
        "an extension to be understood": user_token(headers={"crit": ["exp"]}),
        "subject is no id": user_token(sub="1 OR 1=1"),
        "tampered": good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB"),
        "not base64url inside the signature": f"{good[:-9]}!{good[-9:]}",
        "padded": good + "=",
        "too long": good + "A" * 5000,
        "not ascii": good + "é",
        "empty": "",
    }
    client = make_app()
    assert client.get("/me", headers={"Authorization": f"Bearer {good}"}).status_code == 200
    answers = {
        name: client.get("/me", headers={"Authorization": f"Bearer {token}".encode()}).status_code
        for name, token in forged.items()
    }
    assert answers == dict.fromkeys(forged, 401)
    assert (AUDIENCE, ISSUER) == ("saras", "saras-user-service")


def test_a_verified_token_dies_at_its_end(make_app, user_token, clock: FixedClock) -> None:  # type: ignore[no-untyped-def]
    client = make_app()
    headers = {"Authorization": f"Bearer {user_token(lifetime_s=60)}"}
    assert client.get("/me", headers=headers).status_code == 200
    clock.advance(61)
    answer = client.get("/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "expired_token")


def test_secrets_do_not_reach_the_log() -> None:
    stream = io.StringIO()
    saras_logging.configure("room", stream=stream)
    with saras_logging.bound(correlation_id="trace-1"):
        saras_logging.get_logger("fresh").info("session.opened", access_token="tok-123", at=datetime.now(UTC))
    line = json.loads(stream.getvalue())
    assert (line["event"], line["service"], line["correlation_id"]) == ("session.opened", "room", "trace-1")
    assert "tok-123" not in stream.getvalue()


def test_loggers_follow_a_new_configuration() -> None:
    early, late = io.StringIO(), io.StringIO()
    log = saras_logging.get_logger("used early")
    saras_logging.configure("early", "ERROR", stream=early)
    log.info("too low")
    saras_logging.configure("late", "DEBUG", stream=late)
    log.debug("high enough")
    logging.getLogger("a library").debug("also %s", "told")
    assert early.getvalue() == ""
    told = [json.loads(line) for line in late.getvalue().splitlines()]
    assert [(line["event"], line["level"], line["service"]) for line in told] == [
        ("high enough", "debug", "late"),
        ("also told", "debug", "late"),
    ]


def test_a_line_that_cannot_be_written_stops_nobody() -> None:
    stream = io.StringIO()
    saras_logging.configure("room", stream=stream)
    log = saras_logging.get_logger("any")
    log.info("half a pair", name="\ud800", much=2**70)
    assert json.loads(stream.getvalue())["much"] == 2**70
    stream.close()
    log.error("nobody hears this")


class RoomSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="ROOM_")
    depth: int


def test_settings_name_what_is_missing_unknown_or_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match="ROOM_DEPTH"):
        RoomSettings.load()
    monkeypatch.setenv("ROOM_DEPTH", "deep")
    with pytest.raises(InvalidSettings, match="ROOM_DEPTH"):
        RoomSettings.load()
    monkeypatch.setenv("ROOM_DEPTH", "3")
    monkeypatch.setenv("ROOM_DETPH", "3")
    with pytest.raises(InvalidSettings, match="ROOM_DETPH"):
        RoomSettings.load()
    monkeypatch.delenv("ROOM_DETPH")
    monkeypatch.setenv("ENVIRONMENT", "moon")
    with pytest.raises(InvalidSettings, match="ENVIRONMENT"):
        RoomSettings.load()
    monkeypatch.setenv("ENVIRONMENT", "staging")
    assert (RoomSettings.load().depth, RoomSettings.load().environment) == (3, "staging")


def test_a_secret_is_read_from_a_file_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room_depth").write_text("7\n")
    (tmp_path / "bus_url").write_text("amqp://broker/saras")
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    loaded = RoomSettings.load()
    assert (loaded.depth, loaded.bus_url) == (7, "amqp://broker/saras")
    monkeypatch.setenv("ROOM_DEPTH", "8")
    assert RoomSettings.load().depth == 8
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path / "absent"))
    with pytest.raises(InvalidSettings, match="SECRETS_DIR"):
        RoomSettings.load()
