"""`python -m common.await_migrations <package>`: exit 0 once a room's database is as new as its code.

For the start of a container: whatever runs next finds the tables it was written for. Running the migrations is somebody
else's work (`python -m <package> migrate`, once per release).
"""

import importlib
import sys
import time
from collections.abc import Sequence

from sqlalchemy.exc import SQLAlchemyError

from common.config import InvalidSettings, ServiceSettings
from common.db import Database, lacks_migrations
from common.logging import configure, get_logger

WAIT_S = 600.0
"""As long as a migration job may take; the orchestrator then starts the container again."""
PAUSE_S = 1.0

log = get_logger(__name__)


def wait(package: str, db: Database, *, timeout_s: float = WAIT_S, pause_s: float = PAUSE_S) -> bool:
    """Whether the migrations of a package have run, asked until they have or `timeout_s` are over."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if not lacks_migrations(package, db):
                return True
            reason = "its migrations have not run"
        except SQLAlchemyError as error:
            reason = type(error).__name__
        if time.monotonic() >= deadline:
            return False
        log.info("migrations.awaited", package=package, reason=reason)
        time.sleep(pause_s)


def main(arguments: Sequence[str]) -> int:
    """Answers the exit code: 0 when the database is ready, 1 when it is not in time, 2 for a wrong call."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m common.await_migrations <package>\n")
        return 2
    [package] = arguments
    settings_class: type[ServiceSettings] = importlib.import_module(f"{package}.config").Settings
    try:
        settings = settings_class.load()
        configure(package.replace("_", "-"), settings.log_level)
        db = Database(settings.required("database_url"), pool_size=1, application_name=f"{package}-await-migrations")
    except InvalidSettings as error:
        sys.stderr.write(f"{package}: {error}\n")
        return 1
    try:
        return 0 if wait(package, db) else 1
    finally:
        db.dispose()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
