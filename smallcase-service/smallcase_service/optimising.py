"""The optimiser's process: started when first needed, kept warm, one task at a time, with time limits and without secrets.

Importing the library costs seconds and a processor; a process that lives on pays it once. It ends by itself when idle, and
with this process (its input closes).
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from typing import IO, cast

from common.errors import Unavailable, Unprocessable
from common.logging import get_logger
from smallcase_service.optimiser import READY, Result, Task

log = get_logger(__name__)

RUN_SECONDS_MAX = 11.0
TURN_SECONDS_MAX = 3.0
"""Together below the gateway's limit of 15 seconds."""
RETRY_AFTER_S = 5
READ_BYTES = 65_536
PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "VIRTUAL_ENV")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class SuggestionsBusy(Unavailable):
    """Another suggestion is being computed, the optimiser still starts, or this task took too long."""


class NoSolution(Unprocessable):
    """The method finds no weights for these shares."""


class Optimiser:
    """Solves tasks in a process of its own. Thread-safe; callers wait for their turn, but not long."""

    def __init__(self, run_seconds: float = RUN_SECONDS_MAX, turn_seconds: float = TURN_SECONDS_MAX) -> None:
        self._run_seconds = run_seconds
        self._turn_seconds = turn_seconds
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._unread = b""

    def solve(self, task: Task) -> Result:
        """Solve one task; raises SuggestionsBusy, or NoSolution when the library finds none."""
        if not self._turn.acquire(timeout=self._turn_seconds):
            raise _busy("Other suggestions are being computed; try again in a moment.")
        try:
            return self._solve(task, time.monotonic() + self._run_seconds)
        finally:
            self._turn.release()

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _solve(self, task: Task, deadline: float) -> Result:
        process = self._running()
        if not self._is_ready:
            # It goes on starting when this caller has to leave: the next one finds it ready.
            if self._line(process, deadline) != READY:
                raise _busy("The optimiser is being started; try again in a moment.")
            self._is_ready = True
        answer = None
        try:
            sink = cast(IO[bytes], process.stdin)
            sink.write(json.dumps(task).encode() + b"\n")
            sink.flush()
            answer = self._line(process, deadline)
        except BrokenPipeError:
            log.info("optimiser.gone")
        if answer is None:
            self._end()
            log.warning("optimiser.unanswered", shares=len(task["closes"]), method=task["method"])
            raise _busy("The suggestion took too long; name fewer shares or try again later.")
        said = json.loads(answer)
        if "error" in said:
            log.warning("optimiser.failed", method=task["method"], error=said["error"])
            raise NoSolution("No weights were found for these shares; name other shares or another method.")
        result: Result = said
        return result

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "smallcase_service.optimiser"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **ONE_THREAD},
                # Ctrl-C at the platform is not meant for it: it ends when its input closes.
                start_new_session=True,
            )
        return self._process

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
        """The next line of output; None at the deadline or when the process has ended."""
        source = cast(IO[bytes], process.stdout)
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                return None
            read = os.read(source.fileno(), READ_BYTES)
            if not read:
                return None
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
        self._process, self._is_ready, self._unread = None, False, b""


def _busy(detail: str) -> SuggestionsBusy:
    return SuggestionsBusy(detail, headers={"Retry-After": str(RETRY_AFTER_S)})
