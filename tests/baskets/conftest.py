"""The floor on which baskets are traded in these tests."""

from collections.abc import Callable, Iterator

import pytest

from common.auth import Authenticator, ServiceIdentity
from common.clock import FixedClock
from common.db import Database
from common.testing_servers import empty
from tests.baskets.floor import Floor, MortalDatabase


@pytest.fixture
def floor(
    service_database: Callable[..., Database],
    clock: FixedClock,
    authenticator: Callable[..., Authenticator],
    service_identity: Callable[[str], ServiceIdentity],
    auth_headers: Callable[..., dict[str, str]],
) -> Floor:
    portfolio_db, smallcase_db = service_database("portfolio_service"), service_database("smallcase_service")
    empty(smallcase_db)
    return Floor(portfolio_db, smallcase_db, clock, authenticator, service_identity, auth_headers)


@pytest.fixture
def mortal(floor: Floor) -> Iterator[Callable[[int, str], MortalDatabase]]:
    """Factory: smallcase-service's database as a process sees it that dies before or after its n-th transaction."""
    made: list[Database] = []

    def make(number: int, when: str) -> MortalDatabase:
        db = MortalDatabase(floor.smallcase_db.url, pool_size=2)
        db.dies_at = (number, when)
        made.append(db)
        return db

    yield make
    for db in made:
        db.dispose()
