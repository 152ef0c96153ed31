"""`python -m api_gateway api`: serve the gateway."""

import sys

import uvicorn

from api_gateway.app import SERVER_OPTIONS, from_settings
from api_gateway.config import Settings
from api_gateway.edge import NAME
from common.collector import spare_what_stays
from common.config import InvalidSettings
from common.logging import configure
from common.process import SHUTDOWN_TIMEOUT_S

USAGE = "usage: python -m api_gateway api"


def main(arguments: list[str]) -> int:
    """Run one process of the room; answers the exit code."""
    if arguments != ["api"]:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        settings = Settings.load()
        configure(NAME, settings.log_level)
        app = from_settings(settings)
    except InvalidSettings as error:
        sys.stderr.write(f"{error}\n")
        return 1
    spare_what_stays()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        **SERVER_OPTIONS,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
