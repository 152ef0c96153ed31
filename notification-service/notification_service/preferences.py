"""What a user wants to be told, where and when; whoever has chosen nothing has the defaults of `kinds`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.bulk import array_of
from notification_service.delivery_states import Status
from notification_service.kinds import CHOSEN_KINDS, DIGEST_KINDS, RULES, Channel, Kind
from notification_service.models import Delivery, Preference
from notification_service.quiet import DIGEST_AT, QuietHours, next_at, not_before


@dataclass(frozen=True)
class Preferences:
    """One user's choices."""

    channels: Mapping[Kind, Mapping[Channel, bool]] = field(default_factory=dict)
    """Only where a choice was made."""
    quiet: QuietHours | None = None
    digest_at: time = DIGEST_AT
    digest_kinds: frozenset[Kind] = frozenset()

    def is_on(self, kind: Kind, channel: Channel) -> bool:
        """Whether messages of a kind go out through a channel."""
        default = channel in RULES[kind].defaults
        return default if RULES[kind].fixed else self.channels.get(kind, {}).get(channel, default)

    def in_digest(self, kind: Kind) -> bool:
        """Whether messages of a kind wait for the daily summary."""
        return kind in self.digest_kinds and kind in DIGEST_KINDS

    def earliest(self, kind: Kind, instant: datetime) -> datetime:
        """When a message of a kind may go out at the earliest, from an instant on."""
        return instant if RULES[kind].at_any_hour else not_before(instant, self.quiet)

    def next_digest(self, instant: datetime) -> datetime:
        """When the next daily summary is due."""
        return not_before(next_at(self.digest_at, instant), self.quiet)

    def table(self) -> dict[Kind, dict[Channel, bool]]:
        """Every choice there is to make, as it stands."""
        return {kind: {channel: self.is_on(kind, channel) for channel in Channel} for kind in CHOSEN_KINDS}


DEFAULTS = Preferences()


def of_user(session: Session, user_id: UUID) -> Preferences:
    """A user's preferences."""
    row = session.get(Preference, user_id)
    return DEFAULTS if row is None else _chosen(row)


def of_users(session: Session, user_ids: Iterable[UUID]) -> Mapping[UUID, Preferences]:
    """The preferences of each of these users, read by one statement."""
    found = dict.fromkeys(user_ids, DEFAULTS)
    if found:
        rows = session.scalars(sa.select(Preference).where(Preference.user_id == sa.any_(array_of(found))))
        found.update({row.user_id: _chosen(row) for row in rows})
    return found


def _chosen(row: Preference) -> Preferences:
    quiet = QuietHours(row.quiet_start, row.quiet_end) if row.quiet_start and row.quiet_end else None
    # A kind or channel of a later release may stand in the row after going back to this one.
    channels = {
        kind: {channel: chosen[channel.value] for channel in Channel if channel.value in chosen}
        for kind in CHOSEN_KINDS
        if (chosen := row.channels.get(kind.value))
    }
    kinds = frozenset(kind for kind in DIGEST_KINDS if kind.value in row.digest_kinds)
    return Preferences(channels, quiet, row.digest_at or DIGEST_AT, kinds)


def replace(session: Session, user_id: UUID, wanted: Preferences, now: datetime) -> None:
    """Make these a user's preferences.

    Messages that wait only because of the choices before are looked at again at once.
    """
    values = {
        "channels": {
            kind.value: {channel.value: on for channel, on in chosen.items()}
            for kind, chosen in wanted.channels.items()
        },
        "quiet_start": wanted.quiet.start if wanted.quiet else None,
        "quiet_end": wanted.quiet.end if wanted.quiet else None,
        "digest_at": wanted.digest_at,
        "digest_kinds": sorted(wanted.digest_kinds),
        "updated_at": now,
    }
    statement = insert(Preference).values(user_id=user_id, **values)
    session.execute(statement.on_conflict_do_update(index_elements=[Preference.user_id], set_=values))
    waiting = sa.update(Delivery).where(
        Delivery.user_id == user_id, Delivery.status == Status.QUEUED, Delivery.attempts == 0, Delivery.due_at > now
    )
    session.execute(waiting.where(~Delivery.digest).values(due_at=now))
    session.execute(waiting.where(Delivery.digest).values(due_at=wanted.next_digest(now)))
