"""Real secrets as the platform makes them, in folders named like the Secrets."""

from pathlib import Path

import pytest

from scripts.container_secrets import make

CACHE = "redis://:secret@redis:6379/0"
OF_KUBERNETES = {
    "api-gateway": {"redis_url": CACHE, "gateway_limits_url": CACHE},
    "market-data-service": {"redis_url": CACHE},
}
"""What docs/deployment-kubernetes.md adds to the folders that `scripts.container_secrets` makes."""


@pytest.fixture(scope="session")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secrets")
    make(directory)
    for name, files in OF_KUBERNETES.items():
        for file, content in files.items():
            (directory / name / file).write_text(content)
    return directory
