"""Automatic rebalances: an investment whose user wants it follows each new published version of its smallcase by itself.

One row per investment and version, so a version is due once and placed once: the basket order and the row that says so are
one transaction. The order is the one that the user's own rebalance would be.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.errors import AppError, Conflict
from common.logging import get_logger
from common.standing import Standings
from smallcase_service import investments, outcomes, proposals, unattended
from smallcase_service.baskets import BasketWorking, lock_investment
from smallcase_service.composition import Constituent
from smallcase_service.desk import Desk, Proposed
from smallcase_service.dues import ATTEMPT_PAUSE, DueState, attempts_left
from smallcase_service.models import AutoRebalance, BasketOrder, Investment, Smallcase, SmallcaseVersion
from smallcase_service.orders import ENDED_STAGES, InvestmentStatus, Kind
from smallcase_service.planning import NothingHeld, NothingToRebalance
from smallcase_service.proposals import Asker
from smallcase_service.service import NEWEST, SmallcaseChanged

log = get_logger(__name__)

BATCH = 20
"""Of one look: between two looks the driver serves what users have placed themselves."""
SHOWN_MAX = 20


class NoLongerDue(Conflict):
    """The rebalance was decided meanwhile, or the reason for it is gone."""


def check_due(investment: Investment, version: int, newest: int) -> None:
    """Raise NoLongerDue unless the investment is to be brought to this version by itself, the newest of its smallcase."""
    if not investment.auto_rebalance:
        raise NoLongerDue("The automatic rebalance was switched off.", code="switched_off")
    if investment.status != InvestmentStatus.ACTIVE:
        raise NoLongerDue("The investment holds nothing any more.", code="nothing_held")
    if investment.target is not None:
        raise NoLongerDue("The investment follows weights of its own.", code="customised")
    if investment.version >= version:
        raise NoLongerDue("The investment follows this version or a newer one already.", code="followed_already")
    if newest != version:
        raise NoLongerDue("The smallcase has a newer version.", code="superseded")


def latest(session: Session, investment_id: UUID) -> Sequence[AutoRebalance]:
    """The latest automatic rebalances of an investment, newest version first."""
    return session.scalars(
        sa.select(AutoRebalance)
        .where(AutoRebalance.investment_id == investment_id)
        .order_by(AutoRebalance.version.desc())
        .limit(SHOWN_MAX)
    ).all()


# --- what is due ------------------------------------------------------------------------------------------------------


def _behind() -> sa.Select[Investment, int]:
    """Investments that are to follow a published version and have no row for it yet."""
    known = sa.exists().where(
        AutoRebalance.investment_id == Investment.investment_id, AutoRebalance.version == Smallcase.version
    )
    return (
        sa.select(Investment, Smallcase.version)
        .join(Smallcase, Smallcase.smallcase_id == Investment.smallcase_id)
        .join(SmallcaseVersion, NEWEST)
        .where(
            Investment.auto_rebalance,
            Investment.status == InvestmentStatus.ACTIVE,
            Investment.target.is_(sa.null()),
            Investment.version < Smallcase.version,
            SmallcaseVersion.visibility == "published",
            ~known,
        )
    )


def _ready(now: datetime) -> sa.Select[UUID, int]:
    """Keys of rows that may be tried now; one whose investment has an order that works waits for its end."""
    working = sa.exists().where(
        BasketOrder.investment_id == AutoRebalance.investment_id, BasketOrder.stage.notin_(ENDED_STAGES)
    )
    return sa.select(AutoRebalance.investment_id, AutoRebalance.version).where(
        AutoRebalance.state == DueState.DUE, AutoRebalance.next_try_at <= now, ~working
    )


def make_due(session: Session, now: datetime) -> int:
    """Write the rows of at most BATCH investments that are behind; answers of how many.

    An older version that still waits is left out: only the newest is followed.
    """
    lock = _behind().limit(BATCH).with_for_update(of=Investment, skip_locked=True, key_share=True)
    behind = session.execute(lock).all()
    compositions: dict[tuple[UUID, int], list[Constituent]] = {}

    def composition(smallcase_id: UUID, version: int) -> list[Constituent]:
        key = smallcase_id, version
        if key not in compositions:
            compositions[key] = investments.constituents_of(session, *key)
        return compositions[key]

    for investment, version in behind:
        smallcase_id, investment_id = investment.smallcase_id, investment.investment_id
        session.execute(
            sa.update(AutoRebalance)
            .where(AutoRebalance.investment_id == investment_id, AutoRebalance.state == DueState.DUE)
            .values(
                state=DueState.SKIPPED,
                reason_code="superseded",
                reason="The smallcase has a newer version.",
                next_try_at=None,
                decided_at=now,
            )
        )
        row = {"investment_id": investment_id, "version": version, "attempts": 0, "created_at": now}
        if composition(smallcase_id, version) == composition(smallcase_id, investment.version):
            # Publishing, withdrawing and new words make versions too.
            reason = "The version has the same shares and weights."
            row |= {"state": DueState.SKIPPED, "reason_code": "same_composition", "reason": reason, "decided_at": now}
        else:
            row |= {"state": DueState.DUE, "next_try_at": now}
        session.execute(insert(AutoRebalance).values(**row).on_conflict_do_nothing())
        log.info("auto_rebalance.due", investment_id=str(investment_id), version=version, state=row["state"])
    return len(behind)


# --- the driver's part ------------------------------------------------------------------------------------------------


def drive_due(desk: Desk, standings: Standings) -> int:
    """Make due what is behind and place what is due, a batch of each; answers how many rows the larger had."""
    now = desk.clock.now()
    with desk.db.transaction() as session:
        anything = sa.or_(_behind().exists(), _ready(now).exists())
        if not session.scalar(sa.select(anything)):
            return 0
    # As instalments: while the market is closed everything waits.
    if not desk.market.session().is_open:
        return 0
    with desk.db.transaction() as session:
        made = make_due(session, now)
    with desk.db.transaction() as session:
        taken = _take(session, now)
    for investment_id, version in taken:
        _place(desk, standings, investment_id, version)
    return max(made, len(taken))


def _take(session: Session, now: datetime) -> list[tuple[UUID, int]]:
    """Take rows for an attempt: whoever dies in it leaves them for the next one after the pause."""
    ready = _ready(now).order_by(AutoRebalance.next_try_at).limit(BATCH)
    keys = session.execute(ready.with_for_update(of=AutoRebalance, skip_locked=True, key_share=True)).all()
    key = sa.tuple_(AutoRebalance.investment_id, AutoRebalance.version)
    session.execute(
        sa.update(AutoRebalance)
        .where(key.in_([(row.investment_id, row.version) for row in keys]))
        .values(next_try_at=now + ATTEMPT_PAUSE, attempts=AutoRebalance.attempts + 1)
        .execution_options(synchronize_session=False)
    )
    return [(row.investment_id, row.version) for row in keys]


def _place(desk: Desk, standings: Standings, investment_id: UUID, version: int) -> None:
    try:
        with desk.db.transaction() as session:
            investment = session.get_one(Investment, investment_id)
            check_due(investment, version, _newest(session, investment))

        def propose(kyc: str) -> Proposed:
            asker = Asker(investment.user_id, kyc)
            proposed = proposals.rebalance(desk, asker, investment_id, version=version)
            return replace(proposed, also=_mark_placed(version, desk.clock.now()))

        order_id = unattended.write(desk, standings, investment.user_id, propose)
    except (NoLongerDue, NothingHeld, NothingToRebalance) as reason:
        _decide(desk, investment_id, version, reason, given_up=False)
    except (BasketWorking, SmallcaseChanged) as reason:
        # An order works since, or a newer version is about to take this one's place.
        log.info("auto_rebalance.waits", investment_id=str(investment_id), version=version, code=reason.code)
    except AppError as error:
        _put_off(desk, investment_id, version, error)
    else:
        unattended.submit(desk, order_id)


def _newest(session: Session, investment: Investment) -> int:
    return session.scalars(sa.select(Smallcase.version).where(Smallcase.smallcase_id == investment.smallcase_id)).one()


def _waiting(session: Session, investment_id: UUID, version: int) -> AutoRebalance | None:
    """The row of a version, locked, while it is not decided."""
    row = session.get(
        AutoRebalance, (investment_id, version), with_for_update={"key_share": True}, populate_existing=True
    )
    return row if row is not None and row.state == DueState.DUE else None


def _mark_placed(version: int, now: datetime) -> Callable[[Session, BasketOrder], None]:
    """What becomes true with the basket order; raises NoLongerDue."""

    def mark(session: Session, order: BasketOrder) -> None:
        investment = session.get_one(Investment, order.investment_id)
        check_due(investment, version, _newest(session, investment))
        row = _waiting(session, order.investment_id, version)
        if row is None:
            raise NoLongerDue("The rebalance was decided meanwhile.")
        row.state, row.decided_at, row.basket_order_id = DueState.PLACED, now, order.basket_order_id
        row.reason_code = row.reason = row.next_try_at = None

    return mark


def _put_off(desk: Desk, investment_id: UUID, version: int, error: AppError) -> None:
    """Try again after the pause, or give up."""
    with desk.db.transaction() as session:
        row = _waiting(session, investment_id, version)
        if row is None:
            return
        row.reason_code, row.reason = error.code, error.detail
        again = attempts_left(row.attempts)
        log.warning("auto_rebalance.put_off", investment_id=str(investment_id), version=version, code=error.code)
    if not again:
        _decide(desk, investment_id, version, error, given_up=True)


def _decide(desk: Desk, investment_id: UUID, version: int, reason: AppError, *, given_up: bool) -> None:
    """Nothing is placed for this version: there is no reason to, or it was given up and the user hears of it."""
    now = desk.clock.now()
    with desk.db.transaction() as session:
        investment = lock_investment(session, investment_id)
        row = _waiting(session, investment_id, version)
        if row is None:
            return
        row.state, row.decided_at, row.next_try_at = DueState.SKIPPED, now, None
        row.reason_code, row.reason = reason.code, reason.detail
        if given_up:
            order = outcomes.record_given_up(session, investment, Kind.REBALANCE, version, reason, now)
            row.state, row.basket_order_id = DueState.FAILED, order.basket_order_id
        log.info("auto_rebalance.decided", investment_id=str(investment_id), version=version, code=reason.code)
