"""Use cases of smallcase-service: make a smallcase, change it into a new version, find and read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, or_, select, tuple_
from sqlalchemy.orm import Session

from common.errors import Conflict, Forbidden, NotFound, Unprocessable
from common.logging import get_logger
from common.market_data import Instrument, Key
from smallcase_service.composition import Constituent, check_composition, check_known
from smallcase_service.models import Smallcase, SmallcaseConstituent, SmallcaseVersion

log = get_logger(__name__)

PAGE_DEFAULT = 20
PAGE_MAX = 100
FIRST_VERSION = 1
FIRST_REASON = "created"

Visibility = Literal["private", "published"]


class SmallcaseNotFound(NotFound):
    """Absent, or private and somebody else's."""


class NotYourSmallcase(Forbidden):
    """Everybody may read a published smallcase, only its owner may change it."""


class SmallcaseChanged(Conflict):
    """The change is based on a version that is not the newest any more."""


class CursorInvalid(Unprocessable):
    """The cursor is not one that a page of this user ended with."""


@dataclass(frozen=True)
class Draft:
    """What the maker of a smallcase wants it to be.

    Raises DuplicateConstituent or WeightsNotWhole: a draft that exists has a whole composition.
    """

    name: str
    description: str
    visibility: Visibility
    constituents: Sequence[Constituent]

    def __post_init__(self) -> None:
        check_composition(self.constituents)


@dataclass(frozen=True)
class Snapshot:
    """A smallcase in one of its versions."""

    smallcase: Smallcase
    content: SmallcaseVersion
    constituents: Sequence[Constituent]


@dataclass(frozen=True)
class Page:
    """Smallcases with their newest versions, newest smallcase first, and where the next page starts."""

    items: Sequence[tuple[Smallcase, SmallcaseVersion]]
    next_cursor: UUID | None


def create(
    session: Session, user_id: UUID, draft: Draft, instruments: Mapping[Key, Instrument], now: datetime
) -> Snapshot:
    """A new smallcase of this user, version 1. `instruments` are those of its shares that market data knows.

    Raises UnknownInstrument when that is not all of them.
    """
    check_known(draft.constituents, instruments)
    smallcase = Smallcase(owner_id=user_id, version=FIRST_VERSION, created_at=now)
    session.add(smallcase)
    session.flush()
    snapshot = _add_version(session, smallcase, draft, reason=FIRST_REASON, changed_by=user_id, now=now)
    log.info("smallcase.created", smallcase_id=str(smallcase.smallcase_id), constituents=len(draft.constituents))
    return snapshot


def revise(
    session: Session,
    user_id: UUID,
    smallcase_id: UUID,
    draft: Draft,
    instruments: Mapping[Key, Instrument],
    *,
    based_on: int,
    reason: str,
    now: datetime,
) -> Snapshot:
    """The next version of a smallcase; the versions before stay as they are.

    Raises SmallcaseNotFound, NotYourSmallcase, SmallcaseChanged when `based_on` is not the newest version, or
    UnknownInstrument.
    """
    smallcase = _visible(session, user_id, smallcase_id, lock=True)[0]
    if smallcase.owner_id != user_id:
        raise NotYourSmallcase("Only its owner can change this smallcase; create your own from it.")
    if smallcase.version != based_on:
        raise SmallcaseChanged(
            f"The smallcase is at version {smallcase.version} now; read it again and repeat your change.",
            version_now=smallcase.version,
        )
    check_known(draft.constituents, instruments)
    smallcase.version += 1
    snapshot = _add_version(session, smallcase, draft, reason=reason, changed_by=user_id, now=now)
    log.info("smallcase.revised", smallcase_id=str(smallcase_id), version=smallcase.version)
    return snapshot


def _add_version(
    session: Session, smallcase: Smallcase, draft: Draft, *, reason: str, changed_by: UUID, now: datetime
) -> Snapshot:
    content = SmallcaseVersion(
        smallcase_id=smallcase.smallcase_id,
        version=smallcase.version,
        name=draft.name,
        description=draft.description,
        visibility=draft.visibility,
        reason=reason,
        changed_by=changed_by,
        created_at=now,
    )
    session.add(content)
    session.flush()
    session.add_all(
        SmallcaseConstituent(
            smallcase_id=smallcase.smallcase_id,
            version=smallcase.version,
            position=position,
            exchange=constituent.exchange,
            tradingsymbol=constituent.tradingsymbol,
            weight_bps=constituent.weight_bps,
        )
        for position, constituent in enumerate(draft.constituents)
    )
    session.flush()
    return Snapshot(smallcase, content, draft.constituents)


NEWEST = (SmallcaseVersion.smallcase_id == Smallcase.smallcase_id) & (SmallcaseVersion.version == Smallcase.version)


def _readable(user_id: UUID) -> ColumnElement[bool]:
    return or_(Smallcase.owner_id == user_id, SmallcaseVersion.visibility == "published")


def _visible(
    session: Session, user_id: UUID, smallcase_id: UUID, *, lock: bool = False
) -> tuple[Smallcase, SmallcaseVersion]:
    if lock:
        # Taken alone and first: the newest version is read only when nobody can change it any more.
        session.execute(select(Smallcase.smallcase_id).where(Smallcase.smallcase_id == smallcase_id).with_for_update())
    statement = select(Smallcase, SmallcaseVersion).join(SmallcaseVersion, NEWEST)
    row = session.execute(statement.where(Smallcase.smallcase_id == smallcase_id, _readable(user_id))).one_or_none()
    if row is None:
        raise SmallcaseNotFound("There is no such smallcase.")
    return row[0], row[1]


def _constituents(session: Session, smallcase_id: UUID, versions: Sequence[int]) -> dict[int, list[Constituent]]:
    rows = session.scalars(
        select(SmallcaseConstituent)
        .where(SmallcaseConstituent.smallcase_id == smallcase_id, SmallcaseConstituent.version.in_(versions))
        .order_by(SmallcaseConstituent.version, SmallcaseConstituent.position)
    )
    found: dict[int, list[Constituent]] = {version: [] for version in versions}
    for row in rows:
        found[row.version].append(Constituent(row.exchange, row.tradingsymbol, row.weight_bps))
    return found


def newest_version(session: Session, user_id: UUID, smallcase_id: UUID) -> Snapshot:
    """A smallcase as it is now, the user's own or a published one; raises SmallcaseNotFound."""
    smallcase, content = _visible(session, user_id, smallcase_id)
    return Snapshot(smallcase, content, _constituents(session, smallcase_id, [content.version])[content.version])


def versions(
    session: Session, user_id: UUID, smallcase_id: UUID, *, before: int | None = None, limit: int = PAGE_DEFAULT
) -> list[Snapshot]:
    """Versions of a smallcase, newest first, older than `before`; raises SmallcaseNotFound.

    Strangers see those that were published when they were made: what was private then stays private.
    """
    smallcase, _ = _visible(session, user_id, smallcase_id)
    statement = select(SmallcaseVersion).where(SmallcaseVersion.smallcase_id == smallcase_id)
    if smallcase.owner_id != user_id:
        statement = statement.where(SmallcaseVersion.visibility == "published")
    if before is not None:
        statement = statement.where(SmallcaseVersion.version < before)
    contents = session.scalars(statement.order_by(SmallcaseVersion.version.desc()).limit(limit)).all()
    constituents = _constituents(session, smallcase_id, [content.version for content in contents])
    return [Snapshot(smallcase, content, constituents[content.version]) for content in contents]


def find(
    session: Session,
    user_id: UUID,
    *,
    search: str | None = None,
    cursor: UUID | None = None,
    limit: int = PAGE_DEFAULT,
) -> Page:
    """The user's own smallcases and published ones whose name or description contains `search`, newest first.

    Raises CursorInvalid when `cursor` names none of them.
    """
    readable = select(Smallcase, SmallcaseVersion).join(SmallcaseVersion, NEWEST).where(_readable(user_id))
    statement = readable
    if search is not None:
        statement = statement.where(
            or_(
                SmallcaseVersion.name.icontains(search, autoescape=True),
                SmallcaseVersion.description.icontains(search, autoescape=True),
            )
        )
    if cursor is not None:
        last = session.execute(readable.where(Smallcase.smallcase_id == cursor)).one_or_none()
        if last is None:
            raise CursorInvalid("The cursor is unknown; start again without one.")
        # Ties of the instant are ordered by id, so that no page loses or repeats a row.
        statement = statement.where(
            tuple_(Smallcase.created_at, Smallcase.smallcase_id) < tuple_(last[0].created_at, cursor)
        )
    statement = statement.order_by(Smallcase.created_at.desc(), Smallcase.smallcase_id.desc()).limit(limit + 1)
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    return Page(rows[:limit], rows[limit - 1][0].smallcase_id if len(rows) > limit else None)
