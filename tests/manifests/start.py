"""Starting a process as its container is started: the variables and files of the manifest, and nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from tests.manifests.objects import ROOT, Manifest, containers, pod, ports, room
from tests.manifests.settings import MOUNTED_AT, environment, secret_keys

FROM_THE_IMAGE = ("PATH", "HOME", "LANG", "TZ")
START_S = 180.0
STOP_S = 20.0


def mounted(deployment: Manifest, secrets: Path, folder: Path, replaced: Mapping[str, str]) -> None:
    """Put the files of the pod's volume into a folder; `replaced` has other contents for some of them."""
    for name, keys in secret_keys(deployment, optional=False).items():
        for key in keys:
            (folder / key).write_text(replaced.get(key) or (secrets / name / key).read_text())


def variables(deployment: Manifest, manifests: list[Manifest], folder: Path, port: int) -> dict[str, str]:
    """The container's environment on this machine: its files in `folder`, its port another one."""
    container = list(containers(deployment))[-1]
    found = {name: value.replace(MOUNTED_AT, str(folder)) for name, value in environment(container, manifests).items()}
    for volume in container["volumeMounts"]:
        path = str(volume["mountPath"])
        if path not in (MOUNTED_AT, "/tmp"):
            (folder / volume["name"]).mkdir()
            found = {name: str(folder / volume["name"]) if value == path else value for name, value in found.items()}
    prefix = next(name.removesuffix("HOST") for name in found if name.endswith("_HOST") and found[name] == "0.0.0.0")  # noqa: S104  the manifest's own value
    found |= {f"{prefix}HOST": "127.0.0.1", "STATUS_PORT" if "STATUS_PORT" in found else f"{prefix}PORT": str(port)}
    return {**{name: os.environ[name] for name in FROM_THE_IMAGE if name in os.environ}, **found}


@contextmanager
def running(deployment: Manifest, environ: Mapping[str, str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The container's command; ended with SIGTERM as a pod is."""
    [container] = pod(deployment)["containers"]
    command = [sys.executable, "-m", room(deployment).replace("-", "_"), *container["args"]]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**environ, "PYTHONPATH": str(ROOT)}, cwd=folder, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def probe(deployment: Manifest, name: str, port: int, process: "subprocess.Popen[bytes]") -> int | None:
    """Status of a probe, asked until it is 200 or the time is over; None when nobody answers or the process is gone."""
    [container] = pod(deployment)["containers"]
    assert container[name]["httpGet"]["port"] in ports(deployment)
    deadline, status = time.monotonic() + START_S, None
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", container[name]["httpGet"]["path"])
            status = connection.getresponse().status
        except (OSError, HTTPException):
            status = None
        finally:
            connection.close()
        if status == 200:
            return 200
        time.sleep(0.1)
    return status
