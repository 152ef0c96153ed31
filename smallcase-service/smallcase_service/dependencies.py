"""What routes take from the app beside the common collaborators: the desk that places baskets."""

from typing import Annotated

from fastapi import Depends, Request

from smallcase_service.desk import Desk


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


DeskDep = Annotated[Desk, Depends(_desk)]
