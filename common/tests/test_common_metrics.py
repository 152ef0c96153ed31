"""A process without a web server of its own answers with its metrics, its children's included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from common.testing import eventually

PROCESS = """
import multiprocessing, sys, time
from common import metrics

def work():
    metrics.messages_published.labels("room").inc(5)

if __name__ == "__main__":
    work()
    metrics.serve("127.0.0.1", int(sys.argv[1]))
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    sys.stdin.read()
"""
"""Serves until its input ends."""


@pytest.mark.parametrize(("with_children", "counted"), [(False, 5), (True, 10)])
def test_a_process_answers_with_its_metrics(tmp_path: Path, with_children: bool, counted: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    directory = tmp_path / "metrics"
    directory.mkdir()
    environ = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": str(directory)} if with_children else {})}
    with subprocess.Popen([sys.executable, str(script), str(port)], stdin=subprocess.PIPE, env=environ) as process:
        try:

            def total() -> bool:
                try:
                    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
                except httpx.TransportError:
                    return False
                return f'saras_messages_published_total{{service="room"}} {counted}.0' in text

            eventually(total, timeout=20)
        finally:
            process.communicate(timeout=20)
