"""Health as the door sees it, the settings, and the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2 as httpx
import pytest

from api_gateway.config import Settings
from api_gateway.routing import ROOMS
from common.config import InvalidSettings
from common.testing import TestKeys, eventually
from common.testing_ports import free_port

if TYPE_CHECKING:
    from conftest import Door, Start


def test_everything_is_well(door: Door) -> None:
    assert door.client.get("/health").json() == {"status": "ok"}
    answer = door.client.get("/health/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "rooms": dict.fromkeys(ROOMS, "ok")})
    for path in ("/health/db", "/health/redis"):
        answer = door.client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


@pytest.mark.parametrize(
    ("room", "status", "word"),
    [
        ("user-service", 503, "unavailable"),
        ("portfolio-service", 503, "unavailable"),
        ("analytics-service", 200, "degraded"),
    ],
)
def test_the_platform_is_as_ready_as_its_essential_rooms(door: Door, room: str, status: int, word: str) -> None:
    door.rooms[room].ready = False
    answer = door.client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.json()["rooms"][room] == "not ready: db"
    assert "secret" not in answer.text
    assert door.client.get("/health/db").status_code == 503
    assert door.client.get("/health").status_code == 200

    door.rooms[room].ready = True
    door.clock.advance(2)
    assert door.client.get("/health/ready").json()["status"] == "ok"


def test_a_room_that_hangs_does_not_hold_the_probe(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api_gateway.health.CHECK_TIMEOUT_S", 0.2)

    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    door = start(upstreams={"user-service": hanging, "analytics-service": "http://127.0.0.1:9"})
    answer = door.client.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["rooms"]["user-service"] == "upstream_timeout"
    assert answer.json()["rooms"]["analytics-service"] == "upstream_unavailable"
    assert answer.json()["rooms"]["portfolio-service"] == "ok"


def test_many_probes_ask_the_rooms_once(start: Start) -> None:
    asked = 0

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    door = start(upstreams={"user-service": counting})
    for _ in range(20):
        assert door.client.get("/health/ready").status_code == 200
    assert asked == 1


def test_metrics_are_exposed(door: Door) -> None:
    door.client.get("/health")
    answer = door.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'saras_http_request_seconds_count{method="GET",route="/health",service="api-gateway"}' in answer.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_CORS_ORIGINS", '["*"]'),
        ("GATEWAY_CORS_ORIGINS", '["https://app.example.com/"]'),
        ("GATEWAY_CORS_ORIGINS", '["app.example.com"]'),
        ("GATEWAY_LIMITS_URL", "memcached://x"),
        ("GATEWAY_AUTH_PER_MINUTE", "0"),
        ("GATEWAY_TRUSTED_PROXY_HOPS", "-1"),
        ("GATEWAY_BODY_LIMIT_BYTES", "10"),
        ("GATEWAY_RATE_LIMIT", "10"),
    ],
)
def test_a_wrong_setting_stops_the_start_and_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=name):
        Settings.load()


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CORS_ORIGINS", '["https://app.example.com", "http://localhost:3000"]')
    monkeypatch.setenv("GATEWAY_ORDERS_PER_MINUTE", "6000")
    settings = Settings.load()
    assert settings.cors_origins == ("https://app.example.com", "http://localhost:3000")
    assert settings.orders_per_minute == 6000


def test_the_process_serves_and_stops(keys: TestKeys, tmp_path: Path) -> None:
    key = tmp_path / "gateway.pem"
    key.write_text(keys.service_pem)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    port = free_port()
    settings = {
        "GATEWAY_PORT": str(port),
        "GATEWAY_SERVICE_KEY_FILE": str(key),
        "USER_SERVICE_URL": "http://127.0.0.1:9",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "api_gateway", "api"],
        env=environment | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert eventually(lambda: _answers(f"http://127.0.0.1:{port}/health"), timeout=30)
        spoofed = httpx.post(f"http://127.0.0.1:{port}/login", headers={"X-Forwarded-For": "6.6.6.6"}, trust_env=False)
        assert spoofed.json()["code"] == "upstream_unavailable"
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode in (0, -15)
    assert '"event":"http.request"' in output
    assert '"route":"/api/v1/auth"' in output


def test_the_process_refuses_to_start_without_its_key() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    result = subprocess.run(
        [sys.executable, "-m", "api_gateway", "api"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "GATEWAY_SERVICE_KEY_FILE" in result.stderr


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
