"""What stays behind when a run itself is killed: a process that ends the run's servers and rooms and removes its directory.

`python -m tests.chaos.keeper <directory>` reads process ids, one a line. Its input ends with the run; unless the last line
was `bye`, every process still there is killed with its group.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

BYE = "bye"


class Keeper:
    """The run's handle on the process."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.keeper", str(directory)], stdin=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._lock = threading.Lock()

    def watch(self, pid: int) -> None:
        """End this process, too, if the run does not come to its end."""
        self._say(str(pid))

    def stop(self) -> None:
        """The run has ended everything itself."""
        self._say(BYE)
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def _keep(directory: Path) -> None:
    born: dict[int, float] = {}
    for line in map(str.strip, sys.stdin):
        if line == BYE:
            return
        try:
            born[int(line)] = psutil.Process(int(line)).create_time()
        except psutil.NoSuchProcess:
            continue
    for pid, created in born.items():
        try:
            # The number may be somebody else's by now.
            if psutil.Process(pid).create_time() != created:
                continue
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    # Ctrl-C is for the run, which ends things in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep(Path(sys.argv[1]))
