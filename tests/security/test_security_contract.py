"""Every room against its own OpenAPI document: whatever is sent, no server error and no answer the document denies.

SARAS_SCHEMATHESIS_EXAMPLES (default 3) is the number of examples per operation and kind of data; the same examples come
every time. 200 is about 50,000 requests.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api_gateway import routing
from tests.security import people
from tests.security.house import House
from tests.security.people import Person
from tests.security.rules import Access, Rule, rule_of

EXAMPLES = int(os.environ.get("SARAS_SCHEMATHESIS_EXAMPLES", "3"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEARCH = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

pytestmark = pytest.mark.timeout(max(180, EXAMPLES * 60))


@pytest.fixture(scope="module")
def caller(house: House) -> Person:
    """Somebody who may do everything, with money and shares."""
    return people.equip(people.new_operator(house, "admin"), people.new_operator(house, "admin", "ops"))


@pytest.fixture(scope="module")
def victim(house: House) -> Person:
    """Somebody whose things are named where an id is needed."""
    return people.equip(people.new_operator(house, "admin"), people.new_user(house))


def operations(house: House, room: str) -> Iterator[tuple[APIOperation, Rule]]:
    """The documented operations of a room with their rules."""
    document = schemathesis.openapi.from_dict(house.apps[room].openapi())
    for result in document.get_all_operations():
        operation = result.ok()
        rule = rule_of(operation.method.upper(), operation.path, room)
        assert rule is not None
        yield operation, rule


def try_out(data: SearchStrategy[Case], send: Callable[[Case], None]) -> str | None:
    """Send examples; answers what was wrong with the first bad answer."""

    @SEARCH
    @given(case=data)
    def check(case: Case) -> None:
        send(case)

    try:
        check()
    except FailureGroup as group:
        return "; ".join(str(error) for error in group.exceptions)[:2_000]
    except Unsatisfiable:
        # Nothing can be wrong in a request that has no part to be wrong in.
        return None
    return None


def headers_for(house: House, room: str, rule: Rule, caller: Person) -> dict[str, str]:
    """Who sends: the right room, somebody whose session may be used up, or the one who may do everything."""
    if rule.access is Access.SERVICE:
        return {"Authorization": f"Bearer {house.identity(rule.callers[0]).token(room)}"}
    return people.new_user(house).headers if rule.spends else caller.headers


def known_path(rule: Rule, caller: Person, victim: Person) -> dict[str, str] | None:
    """Path parameters of things that exist; made-up ones would meet nothing but 404."""
    if rule.path is None or rule.access is Access.USER:
        return None
    # What operators change is somebody else's; what they deal with they have made here.
    person = victim if rule.access is Access.ADMIN else caller
    if rule.access is Access.OPS and rule.fresh is not None:
        rule.fresh(caller)
    return dict(rule.path(person))


@pytest.mark.parametrize("room", routing.ROOMS)
def test_a_room_keeps_to_its_document(house: House, caller: Person, victim: Person, room: str) -> None:
    failures: dict[str, str] = {}
    statuses: Counter[int] = Counter()

    def send(case: Case, headers: dict[str, str]) -> None:
        response = case.call(app=house.apps[room], headers={**headers, "Idempotency-Key": uuid4().hex})
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    # Before the first wrong password is sent: wrong passwords keep everybody at this address waiting.
    work = [(operation, rule, headers_for(house, room, rule, caller)) for operation, rule in operations(house, room)]
    for operation, rule, headers in work:
        known = known_path(rule, caller, victim)
        for mode in GenerationMode:
            named = {"path_parameters": known} if known and mode is GenerationMode.POSITIVE else {}
            data = operation.as_strategy(generation_mode=mode, **named)
            failure = try_out(data, partial(send, headers=headers))
            if failure is not None:
                failures[f"{operation.label} {mode.value}"] = failure
    print(f"{room}: {sum(statuses.values())} requests, {dict(sorted(statuses.items()))}")  # noqa: T201
    assert failures == {}
    assert statuses[200] + statuses[201] + statuses[202] > 0
    assert statuses[401] == 0 or room == routing.USER
