"""What rooms' documents say of refusals."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from common.app import service_app
from common.errors import PROBLEM_JSON


class Body(BaseModel):
    name: str


def test_every_operation_may_answer_a_problem_and_nothing_of_the_framework_s() -> None:
    router = APIRouter()

    @router.post("/things", status_code=201)
    def make(body: Body) -> Body:
        return body

    document = service_app(name="room", title="Room", routers=[router]).openapi()
    responses: dict[str, Any] = document["paths"]["/things"]["post"]["responses"]
    assert responses.keys() == {"201", "default"}
    assert responses["default"]["content"] == {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert document["components"]["schemas"].keys() == {"Body", "Problem"}
