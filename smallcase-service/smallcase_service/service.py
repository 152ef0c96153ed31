"""Use cases of smallcase-service: make a smallcase, change it into a new version, find and read it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, or_, select, tuple_
from sqlalchemy.orm import Session

from common.errors import Conflict, Forbidden, NotFound, Unprocessable
from common.logging import get_logger
from common.market_data import Instrument, Key
from smallcase_service.attributes import Attributes
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
    attributes: Attributes = field(default_factory=Attributes)

    def __post_init__(self) -> None:
        check_composition(self.constituents)


@dataclass(frozen=True)
class Snapshot:
    """A smallcase in one of its versions."""

    smallcase: Smallcase
    content: SmallcaseVersion
    constituents: Sequence[Constituent]


@dataclass(frozen=True)
class Wanted:
    """What a list shall hold: the user's own and published smallcases that fit everything named."""

    search: str | None = None
    category: str | None = None
    region: str | None = None
    risk_level: str | None = None
    own: bool | None = None


@dataclass(frozen=True)
class Page:
    """Smallcases in their newest versions, and where the next page starts."""

    items: Sequence[Snapshot]
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
    _check_base(smallcase, based_on)
    check_known(draft.constituents, instruments)
    smallcase.version += 1
    snapshot = _add_version(session, smallcase, draft, reason=reason, changed_by=user_id, now=now)
    log.info("smallcase.revised", smallcase_id=str(smallcase_id), version=smallcase.version)
    return snapshot


def _check_base(smallcase: Smallcase, based_on: int) -> None:
    if smallcase.version != based_on:
        raise SmallcaseChanged(
            f"The smallcase is at version {smallcase.version} now; read it again and repeat your change.",
            version_now=smallcase.version,
        )


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
        **asdict(draft.attributes),
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
            rationale=constituent.rationale,
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
        found[row.version].append(_constituent(row))
    return found


def _constituent(row: SmallcaseConstituent) -> Constituent:
    return Constituent(row.exchange, row.tradingsymbol, row.weight_bps, row.rationale)


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


def _wanted(user_id: UUID, wanted: Wanted) -> Select[Smallcase, SmallcaseVersion]:
    statement = select(Smallcase, SmallcaseVersion).join(SmallcaseVersion, NEWEST).where(_readable(user_id))
    if wanted.search is not None:
        statement = statement.where(
            or_(
                SmallcaseVersion.name.icontains(wanted.search, autoescape=True),
                SmallcaseVersion.description.icontains(wanted.search, autoescape=True),
            )
        )
    for column, value in (
        (SmallcaseVersion.category, wanted.category),
        (SmallcaseVersion.region, wanted.region),
        (SmallcaseVersion.risk_level, wanted.risk_level),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.own is not None:
        own = Smallcase.owner_id == user_id
        statement = statement.where(own if wanted.own else ~own)
    return statement


def newest_first(session: Session, user_id: UUID, wanted: Wanted, limit: int) -> list[Snapshot]:
    """The newest `limit` smallcases that fit, with what they are made of."""
    statement = _wanted(user_id, wanted).order_by(Smallcase.created_at.desc(), Smallcase.smallcase_id.desc())
    return with_constituents(session, [(row[0], row[1]) for row in session.execute(statement.limit(limit))])


def with_constituents(session: Session, rows: Sequence[tuple[Smallcase, SmallcaseVersion]]) -> list[Snapshot]:
    """Smallcases in the given versions with what they are made of, in one query."""
    if not rows:
        return []
    pairs = [(content.smallcase_id, content.version) for _, content in rows]
    found: dict[tuple[UUID, int], list[Constituent]] = {pair: [] for pair in pairs}
    statement = select(SmallcaseConstituent).where(
        tuple_(SmallcaseConstituent.smallcase_id, SmallcaseConstituent.version).in_(pairs)
    )
    for row in session.scalars(statement.order_by(SmallcaseConstituent.position)):
        found[row.smallcase_id, row.version].append(_constituent(row))
    return [Snapshot(smallcase, content, found[content.smallcase_id, content.version]) for smallcase, content in rows]


def find(
    session: Session,
    user_id: UUID,
    wanted: Wanted,
    *,
    cursor: UUID | None = None,
    limit: int = PAGE_DEFAULT,
) -> Page:
    """The user's own smallcases and published ones that fit, newest first.

    Raises CursorInvalid when `cursor` names none that the user may read.
    """
    statement = _wanted(user_id, wanted)
    if cursor is not None:
        last = session.execute(_wanted(user_id, Wanted()).where(Smallcase.smallcase_id == cursor)).one_or_none()
        if last is None:
            raise CursorInvalid("The cursor is unknown; start again without one.")
        # Ties of the instant are ordered by id, so that no page loses or repeats a row.
        statement = statement.where(
            tuple_(Smallcase.created_at, Smallcase.smallcase_id) < tuple_(last[0].created_at, cursor)
        )
    statement = statement.order_by(Smallcase.created_at.desc(), Smallcase.smallcase_id.desc()).limit(limit + 1)
    rows = [(row[0], row[1]) for row in session.execute(statement)]
    items = with_constituents(session, rows[:limit])
    return Page(items, rows[limit - 1][0].smallcase_id if len(rows) > limit else None)


def show(
    session: Session,
    user_id: UUID,
    smallcase_id: UUID,
    visibility: Visibility,
    *,
    based_on: int,
    reason: str,
    now: datetime,
    any_owner: bool = False,
) -> Snapshot:
    """Publish or withdraw: the next version with the same content. Done already: the newest version stays.

    `any_owner`: an operator withdraws somebody else's. Raises SmallcaseNotFound, NotYourSmallcase, SmallcaseChanged.
    """
    smallcase = _visible(session, user_id, smallcase_id, lock=True)[0]
    if smallcase.owner_id != user_id and not any_owner:
        raise NotYourSmallcase("Only its owner can publish this smallcase.")
    _check_base(smallcase, based_on)
    snapshot = newest_version(session, user_id, smallcase_id)
    content = snapshot.content
    if content.visibility == visibility:
        return snapshot
    draft = Draft(content.name, content.description, visibility, snapshot.constituents, stored_attributes(content))
    smallcase.version += 1
    changed = _add_version(session, smallcase, draft, reason=reason, changed_by=user_id, now=now)
    log.info("smallcase.shown", smallcase_id=str(smallcase_id), version=smallcase.version, visibility=visibility)
    return changed


def stored_attributes(content: SmallcaseVersion) -> Attributes:
    """The attributes of a stored version."""
    return Attributes(**{member.name: getattr(content, member.name) for member in fields(Attributes)})
