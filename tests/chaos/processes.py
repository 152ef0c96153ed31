"""The processes of a run and their supervisor: what dies is started again, as Kubernetes would, and timed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

WATCH_S = 0.1
RESTART_PAUSE_S = 0.3
RESTART_PAUSE_MAX_S = 5.0
QUICK_DEATH_S = 5.0
HEALTH_TIMEOUT_S = 1.0
STOP_TIMEOUT_S = 12.0


@dataclass(frozen=True)
class Spec:
    """One process: `python -m <package> <command>`."""

    name: str
    package: str
    command: str
    environ: Mapping[str, str]
    health_url: str | None = None
    """Asked to tell when the process works again; one without waits for its connections instead."""
    needs: tuple[int, ...] = ()
    """Loopback ports it is connected to when it works."""
    niceness: int = 0


@dataclass
class Recovery:
    """A process that ended and when it worked again (monotonic seconds)."""

    name: str
    died_at: float
    started_at: float
    works_at: float | None = None


@dataclass
class Running:
    """A spec and its present process."""

    spec: Spec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    starts: int = 0
    quick_deaths: int = 0
    due_at: float = 0.0
    killed_at: float | None = None
    recovery: Recovery | None = None
    exits: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else None


class Supervisor:
    """Starts specs and keeps them running from a thread of its own until stopped."""

    def __init__(self, directory: Path, tell: Callable[..., None], watch: Callable[[int], None]) -> None:
        self._directory = directory
        self._tell = tell
        self._watch_over = watch
        self._running: dict[str, Running] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")
        self._probes = threading.Thread(target=self._probe, name="supervisor-probes")
        self.recoveries: list[Recovery] = []
        self.unasked: list[tuple[str, int]] = []
        """Processes that ended although nobody killed them: (name, exit code)."""

    def start(self, specs: Sequence[Spec]) -> None:
        """Start all specs and the watch."""
        for spec in specs:
            self.add(spec)
        self._thread.start()
        self._probes.start()

    def add(self, spec: Spec) -> None:
        """Start one more and watch over it."""
        with self._lock:
            running = self._running[spec.name] = Running(spec)
            self._launch(running)

    def spec(self, name: str) -> Spec:
        """What was started under a name."""
        return self._running[name].spec

    def names(self, *prefixes: str) -> list[str]:
        """Names of specs that begin with one of the prefixes, sorted; without prefixes all."""
        return sorted(name for name in self._running if not prefixes or name.startswith(prefixes))

    def pid(self, name: str) -> int | None:
        """The process id of a running process."""
        return self._running[name].pid

    def children(self, name: str) -> list[int]:
        """Process ids of its children."""
        pid = self.pid(name)
        if pid is None:
            return []
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str) -> bool:
        """kill -9 of a process with its children; False when it is not running."""
        with self._lock:
            running = self._running[name]
            if running.pid is None:
                return False
            running.killed_at = time.monotonic()
            _signal_group(running.pid, signal.SIGKILL)
            return True

    def kill_child(self, name: str, choose: Callable[[list[int]], int]) -> bool:
        """kill -9 of one child of a process (its parent makes a new one)."""
        children = self.children(name)
        if not children:
            return False
        try:
            os.kill(choose(children), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def freeze(self, name: str) -> int | None:
        """SIGSTOP of a process with its children; answers its id for `thaw`."""
        pid = self.pid(name)
        if pid is not None:
            _signal_group(pid, signal.SIGSTOP)
        return pid

    @staticmethod
    def thaw(pid: int) -> None:
        """SIGCONT; a process that has died meanwhile needs none."""
        _signal_group(pid, signal.SIGCONT)

    def idle(self) -> list[str]:
        """Processes that do not run or do not work (yet)."""
        return [
            name
            for name, running in self._running.items()
            if (pid := running.pid) is None or running.recovery is not None or not _works(running.spec, pid)
        ]

    def stop(self) -> None:
        """End everything: SIGTERM, then SIGKILL."""
        self._stop.set()
        for thread in (self._thread, self._probes):
            if thread.is_alive():
                thread.join()
        alive = [pid for running in self._running.values() if (pid := running.pid) is not None]
        for pid in alive:
            _signal_group(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for running in self._running.values():
            if running.process is None:
                continue
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._tell("process.stop_forced", name=running.spec.name)
            _signal_group(running.process.pid, signal.SIGKILL)
            running.process.wait()

    def _launch(self, running: Running) -> None:
        spec = running.spec
        with (self._directory / "logs" / f"{spec.name}.log").open("ab") as output:
            running.process = subprocess.Popen(
                [sys.executable, "-m", spec.package, spec.command],
                cwd=self._directory, env=dict(spec.environ), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._watch_over(running.process.pid)
        weigh(running.process.pid, spec.niceness)
        running.started_at = time.monotonic()
        running.starts += 1
        if running.recovery is not None:
            running.recovery.started_at = running.started_at

    def _watch(self) -> None:
        while not self._stop.wait(WATCH_S):
            with self._lock:
                for running in self._running.values():
                    self._keep(running)

    def _keep(self, running: Running) -> None:
        now = time.monotonic()
        process = running.process
        if process is not None:
            code = process.poll()
            if code is None:
                return
            # Children of a dead parent (a worker's) are its own to end; what is left would hold the port or the name.
            _signal_group(process.pid, signal.SIGKILL)
            running.process = None
            running.exits.append(code)
            asked = running.killed_at is not None
            if not asked:
                self.unasked.append((running.spec.name, code))
                self._tell("process.ended", name=running.spec.name, code=code)
            quick = not asked and now - running.started_at < QUICK_DEATH_S
            running.quick_deaths = running.quick_deaths + 1 if quick else 0
            running.due_at = now + min(RESTART_PAUSE_S * 2**running.quick_deaths, RESTART_PAUSE_MAX_S)
            if running.recovery is None:
                running.recovery = Recovery(running.spec.name, running.killed_at or now, now)
            running.killed_at = None
        elif now >= running.due_at:
            self._launch(running)

    def _probe(self) -> None:
        while not self._stop.wait(WATCH_S):
            for running in tuple(self._running.values()):
                recovery, pid = running.recovery, running.pid
                if recovery is None or pid is None or not _works(running.spec, pid):
                    continue
                with self._lock:
                    if running.recovery is recovery and running.pid == pid:
                        recovery.works_at = time.monotonic()
                        self.recoveries.append(recovery)
                        running.recovery = None


def _works(spec: Spec, pid: int) -> bool:
    if spec.health_url is not None:
        try:
            return httpx.get(spec.health_url, timeout=HEALTH_TIMEOUT_S, trust_env=False).is_success
        except httpx.TransportError:
            return False
    try:
        process = psutil.Process(pid)
        connected = {
            link.raddr.port
            for member in (process, *process.children())
            for link in member.net_connections("tcp")
            if link.status == psutil.CONN_ESTABLISHED and link.raddr
        }
    except psutil.Error:
        return False
    return connected.issuperset(spec.needs)


def weigh(pid: int, niceness: int) -> None:
    """Say what share of a busy machine a session gets, as far as the system lets us.

    Linux shares processors among sessions first where its scheduler groups by them: there only the group's niceness counts.
    """
    if niceness == 0:
        return
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PGRP, pid, niceness)
    with suppress(FileNotFoundError, PermissionError, BlockingIOError):
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
