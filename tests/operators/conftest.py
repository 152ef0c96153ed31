"""One platform as `make run` starts it, and the command line as an operator runs it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from common.testing import eventually

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 180
COMMAND_TIMEOUT_S = 240


@dataclass
class Saras:
    """A platform in a process group of its own and `saras` on it. `run` answers exit code, JSON and remarks."""

    directory: Path
    port: int
    environ: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    people: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "scripts.run_platform", "--quiet"],
            cwd=ROOT, env=self.environ, start_new_session=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(self._ready, timeout=START_TIMEOUT_S, interval=0.3)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "platform.log").read_text()[-3000:]
        try:
            return (self.directory / "run/platform.json").exists() and httpx.get(f"{self.url}/health/ready").is_success
        except httpx.TransportError:
            return False

    def destroy(self) -> None:
        """kill -9 of the platform and its database server, and the databases' files are gone."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        folder = self.directory / "postgres"
        for name in folder.glob("**/postmaster.pid"):
            server = psutil.Process(int(name.read_text().split()[0]))
            processes = [server, *server.children(recursive=True)]
            for process in processes:
                # Backends end by themselves once their clients or the postmaster are gone.
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)
        shutil.rmtree(folder)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    def run(self, *words: str, person: str | None = None, text: str | None = None, as_json: bool = True) -> Any:
        environ = dict(self.environ)
        if person is not None:
            environ["SARAS_SESSION_FILE"] = str(self.directory / f"{person}.session")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "scripts.saras", *words, *(["--json"] if as_json else [])],
            cwd=ROOT, env=environ, input=text or "", capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if as_json and done.stdout else done.stdout, done.stderr

    def done(self, *words: str, **options: Any) -> Any:
        """Run a command that must succeed; answers its JSON."""
        code, told, remarks = self.run(*words, **options)
        assert code == 0, (words, told, remarks)
        return told

    def sign_in(self, person: str, role: str) -> None:
        """Make an operator on first use and sign him in."""
        email = f"{person}@example.com"
        if person not in self.people:
            self.people[person] = self.done("admin", "create", email, "--role", role)["password"]
        self.done("login", "--email", email, "--password-stdin", person=person, text=self.people[person] + "\n")

    def http(self, person: str) -> httpx.Client:
        answer = httpx.post(
            f"{self.url}/api/v1/auth/login",
            json={"email": f"{person}@example.com", "password": self.people[person]},
            timeout=30,
        )
        token = answer.raise_for_status().json()["access_token"]
        return httpx.Client(
            base_url=f"{self.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=30, trust_env=False
        )


@pytest.fixture(scope="module")
def saras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saras]:
    directory = tmp_path_factory.mktemp("platform")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    foreign = ("SARAS_", "USER_", "PORTFOLIO_", "EXECUTOR_", "BUS_URL", "GATEWAY_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    platform = Saras(
        directory,
        port,
        environ={
            **clean,
            "SARAS_DATA_DIR": str(directory),
            "GATEWAY_PORT": str(port),
            "PORTFOLIO_SUBMISSIONS_PER_MINUTE": "6000",
        },
    )
    try:
        platform.start()
        platform.sign_in("asha", "admin")
        platform.sign_in("ravi", "ops")
        yield platform
    finally:
        platform.stop()
