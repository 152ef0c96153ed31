"""The whole platform as `make run` starts it: real servers, real wire, all rooms; killed and started again.

One platform serves the tests of this file, which a parallel run gives to one worker (`--dist loadfile`).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from common.testing import eventually

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 180
DEMO_TIMEOUT_S = 400
ORDERS_BEFORE_KILL = 60
ORDER_RATE = 50

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


@dataclass
class PlatformProcess:
    """A platform in a process group of its own."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def demo_admin_file(self) -> Path:
        return self.directory / "secrets/demo-admin.json"

    def start(self) -> float:
        """Start and wait until it answers; answers the seconds it took."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "scripts.run_platform", "--quiet"],
            cwd=ROOT, env=self.environ, start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._ready, timeout=START_TIMEOUT_S, interval=0.1)
        return time.monotonic() - started

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "platform.log").read_text()[-3000:]
        try:
            return (self.directory / "run/platform.json").exists() and httpx.get(f"{self.url}/health/ready").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9 of the whole process group."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Ctrl-C; answers the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def demo(self, *arguments: str) -> subprocess.Popen[str]:
        return self.command("scripts.demo", *arguments)

    def command(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """One of our own programs against this platform."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run_demo(self, *arguments: str) -> str:
        demo = self.demo(*arguments)
        output, _ = demo.communicate(timeout=DEMO_TIMEOUT_S)
        assert demo.returncode == 0, output
        return output

    def admin(self) -> dict[str, str]:
        """Headers of the demo's administrator."""
        stored = json.loads(self.demo_admin_file.read_text())
        answer = httpx.post(f"{self.url}/api/v1/auth/login", json=stored, timeout=10)
        return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}

    def summary(self) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/ops/summary", headers=self.admin(), timeout=10)
        return dict(answer.raise_for_status().json())


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    directory = tmp_path_factory.mktemp("platform")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SARAS_")}
    running = PlatformProcess(
        directory,
        port,
        environ={
            **clean,
            "SARAS_DATA_DIR": str(directory),
            "GATEWAY_PORT": str(port),
            "COLUMNS": "120",
            "PORTFOLIO_SUBMISSIONS_PER_MINUTE": "600",
        },
    )
    running.start()
    make_admin = "from scripts import demo_admin; demo_admin.remembered()"
    subprocess.run([sys.executable, "-c", make_admin], cwd=ROOT, env=running.environ, check=True)
    yield running
    assert running.stop() == 0


def test_the_demo_trades_and_the_books_balance(platform: PlatformProcess) -> None:
    output = platform.run_demo("--users", "20", "--orders", "200")
    assert "The books balance." in output
    summary = platform.summary()
    assert summary["user_orders"] > 150
    assert summary["broker_orders"] < summary["user_orders"] / 2, "orders of many users must meet in blocks"


def test_the_demos_administrator_of_data_that_were_deleted_is_made_anew(platform: PlatformProcess) -> None:
    left_behind = {"email": "demo-admin@example.com", "password": uuid4().hex}

    def sign_in_with_what_was_left(module: str, *arguments: str) -> None:
        platform.demo_admin_file.write_text(json.dumps(left_behind))
        program = platform.command(module, *arguments)
        output, _ = program.communicate(timeout=DEMO_TIMEOUT_S)
        assert program.returncode == 0, output
        assert json.loads(platform.demo_admin_file.read_text())["email"] != left_behind["email"]
        platform.summary()  # raises unless what is remembered now signs in as an administrator

    sign_in_with_what_was_left("scripts.demo", "--check")
    sign_in_with_what_was_left("scripts.saras", "login", "--demo")


def test_the_documentation_is_served_by_the_gateway(platform: PlatformProcess) -> None:
    assert "swagger" in httpx.get(f"{platform.url}/docs").text.lower()
    wanted = {"/api/v1/auth/login", "/api/v1/orders", "/api/v1/ops/blocks", "/api/v1/smallcases", "/buy", "/me"}

    def missing() -> set[str]:
        return wanted - set(httpx.get(f"{platform.url}/openapi.json", timeout=20).json()["paths"])

    # A room that is slow to describe itself is left out until the document is made again.
    eventually(lambda: not missing(), timeout=90, interval=1)


def test_one_order_can_be_followed_by_its_correlation_id_through_every_room(platform: PlatformProcess) -> None:
    trader = sign_up(platform)
    correlation_id = f"trace-{uuid4().hex}"
    body = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "quantity": 3,
        "product": "CNC",
        "order_type": "MARKET",
    }
    headers = {**trader, "Idempotency-Key": uuid4().hex, "X-Request-ID": correlation_id}
    order_id = (
        httpx.post(f"{platform.url}/buy", json=body, headers=headers, timeout=10).raise_for_status().json()["order_id"]
    )
    eventually(lambda: order(platform, trader, order_id)["status"] == "FILLED", timeout=60)
    rooms = {"api-gateway", "portfolio-service", "trade-executor", "notification-service", "analytics-service"}

    def seen() -> set[str]:
        lines = (platform.directory / "platform.log").read_text().splitlines()
        return {json.loads(line).get("service", "") for line in lines if correlation_id in line}

    eventually(lambda: rooms <= seen(), timeout=20)
    told = httpx.get(f"{platform.url}/api/v1/notifications", headers=trader, timeout=10).json()["items"]
    assert any("INFY" in json.dumps(row) for row in told)


def test_fifty_parallel_orders_against_money_for_ten_are_ten_orders(platform: PlatformProcess) -> None:
    trader = sign_up(platform, funds="100000.00")
    ltp = httpx.get(f"{platform.url}/api/v1/market/ltp/ITC", headers=trader, timeout=10).json()["last_price"]
    price = f"{int(ltp.partition('.')[0])}.00"
    # So many shares that ten orders with their charges fit into the money and an eleventh does not.
    quantity = int(100_000 / 10.5 / float(price))

    def place(_: int) -> tuple[int, str]:
        body = {"tradingsymbol": "ITC", "quantity": quantity, "order_type": "LIMIT", "price": price,
                "validity": "TTL", "ttl_minutes": 1, "confirm_duplicate": True}  # fmt: skip
        return post_order(platform, trader, uuid4().hex, body)

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(place, range(ORDER_RATE)))
    assert [status for status, _ in answers].count(202) == 10
    assert {json.loads(body)["code"] for status, body in answers if status != 202} == {"insufficient_funds"}
    funds = httpx.get(f"{platform.url}/api/v1/funds", headers=trader, timeout=10).json()
    assert not funds["available"].startswith("-")


def test_one_idempotency_key_fifty_times_is_one_order_with_equal_answers(platform: PlatformProcess) -> None:
    trader = sign_up(platform)
    key, body = uuid4().hex, {"tradingsymbol": "WIPRO", "quantity": 1}
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: post_order(platform, trader, key, body), range(50)))
    assert len(set(answers)) == 1, Counter(answers)
    assert answers[0][0] == 202, answers[0]
    assert len(httpx.get(f"{platform.url}/api/v1/orders", headers=trader, timeout=10).json()["items"]) == 1


def post_order(platform: PlatformProcess, trader: dict[str, str], key: str, body: dict[str, Any]) -> tuple[int, str]:
    headers = {**trader, "Idempotency-Key": key}
    answer = httpx.post(f"{platform.url}/buy", json=body, headers=headers, timeout=30)
    return answer.status_code, answer.text


def test_the_api_tour_of_the_readme_runs_as_it_is_written(platform: PlatformProcess) -> None:
    readme = (ROOT / "README.md").read_text()
    tour = readme.split("```bash\n", 1)[1].split("```", 1)[0].replace("http://127.0.0.1:8000", platform.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=ROOT, env=platform.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert '"code"' not in done.stdout, "no call of the tour is refused"
    assert '"status":"FILLED"' in done.stdout
    assert '"ok":true' in done.stdout


def test_every_accepted_order_ends_and_the_books_balance_after_kill_9(platform: PlatformProcess) -> None:
    before = platform.summary()["user_orders"]
    demo = platform.demo("--users", "20", "--orders", "200")
    eventually(lambda: platform.summary()["user_orders"] - before >= ORDERS_BEFORE_KILL, timeout=120, interval=0.1)
    platform.kill()
    platform.start()
    # The clients repeat what was not answered, under the same idempotency keys, and finish their day.
    output, _ = demo.communicate(timeout=DEMO_TIMEOUT_S)
    assert demo.returncode == 0, output
    assert "The books balance." in platform.run_demo("--check")


def sign_up(platform: PlatformProcess, funds: str = "100000.00") -> dict[str, str]:
    """Headers of a user with KYC and funds."""
    email, password = f"{uuid4().hex}@example.com", uuid4().hex
    client = httpx.Client(base_url=platform.url, timeout=10)
    client.post(
        "/register", json={"email": email, "password": password, "full_name": "Trace Reader"}
    ).raise_for_status()

    def login() -> dict[str, str]:
        answer = client.post("/login", json={"email": email, "password": password}).raise_for_status()
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    headers = login()
    number = uuid4().int
    pan = f"{''.join(chr(65 + (number >> shift) % 26) for shift in (0, 8, 16, 24, 32))}{number % 10_000:04d}Z"
    client.post(
        "/api/v1/kyc",
        headers={**headers, "Idempotency-Key": uuid4().hex},
        json={
            "legal_name": "Trace Reader",
            "pan": pan,
            "date_of_birth": "1990-01-01",
            "address": "1 Test Street, Pune",
        },
    ).raise_for_status()
    user_id = client.get("/me", headers=headers).raise_for_status().json()["user_id"]
    client.put(
        f"/api/v1/admin/users/{user_id}/kyc-status",
        headers=platform.admin(),
        json={"status": "approved", "reason": "test"},
    ).raise_for_status()
    headers = login()
    client.post(
        "/api/v1/funds/topup", headers={**headers, "Idempotency-Key": uuid4().hex}, json={"amount": funds}
    ).raise_for_status()
    return headers


def order(platform: PlatformProcess, headers: dict[str, str], order_id: str) -> dict[str, Any]:
    answer = httpx.get(f"{platform.url}/api/v1/orders/{order_id}", headers=headers, timeout=10)
    return dict(answer.raise_for_status().json())
