"""/api/v1/notifications/preferences: what the caller wants to be told, where and when."""

from fastapi import APIRouter

from common.auth import User
from common.db import SessionDep
from common.dependencies import ClockDep
from notification_service import preferences
from notification_service.schemas import PreferencesBody, PreferencesView

router = APIRouter(prefix="/api/v1/notifications/preferences", tags=["notifications"])


@router.get("")
def get_preferences(session: SessionDep, user: User) -> PreferencesView:
    """Every choice there is, as it stands for the caller."""
    return PreferencesView.of(preferences.of_user(session, user.user_id))


@router.put("")
def put_preferences(body: PreferencesBody, session: SessionDep, user: User, clock: ClockDep) -> PreferencesView:
    """Replace all choices; what is left out gets its default. Security mails are not a matter of choice.

    Messages that wait for the end of quiet hours or a summary follow the new choices.
    """
    preferences.replace(session, user.user_id, body.chosen(), clock.now())
    return PreferencesView.of(preferences.of_user(session, user.user_id))
