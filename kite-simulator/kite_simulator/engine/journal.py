"""The truth log: every fact of the engine, appended as one JSON line per command before the answer leaves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Fact = dict[str, Any]
JOURNAL_NAME = "truth.jsonl"


class Journal:
    """Append-only file of fact batches.

    One line is one command, so a torn last line (the process was killed inside the write) drops a whole command
    whose answer never left. Lines are handed to the operating system before `append` returns; no fsync, because the
    threat is a killed process and not a lost machine.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL_NAME
        self._file = self.path.open("ab", buffering=0)

    def read(self) -> Iterator[list[Fact]]:
        """All complete batches in order; a torn tail is cut off so that the next append starts a clean line."""
        good_bytes = 0
        with self.path.open("rb") as source:
            for line in source:
                if not line.endswith(b"\n"):
                    break
                yield orjson.loads(line)
                good_bytes += len(line)
        self._file.truncate(good_bytes)

    def append(self, facts: list[Fact]) -> None:
        """Write one batch."""
        line = orjson.dumps(facts) + b"\n"
        written = 0
        while written < len(line):
            written += self._file.write(line[written:])

    def clear(self) -> None:
        """Forget everything (reset)."""
        self._file.truncate(0)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
