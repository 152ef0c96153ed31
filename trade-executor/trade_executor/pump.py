"""Natural batching: while a send token is free and somebody waits, cut the oldest demand and send it.

One pump an account works at a time (advisory lock). A wake-up that meets a working pump returns at once: the pump looks
again after it has let go of the lock, so no order is left behind. Calls run on a few threads, so one slow answer of the
broker does not hold up the others.
"""

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from common.logging import get_logger
from trade_executor import cancelling, control, cutting, resolving, sending
from trade_executor import outcome as verdicts
from trade_executor.batching import BlockKey
from trade_executor.brokers.base import BrokerSessionExpired, Refused
from trade_executor.desk import Desk
from trade_executor.locks import advisory_lock
from trade_executor.sessions import LiveSession

log = get_logger(__name__)

RUN_SECONDS_MAX = 30.0
"""A pump hands over after this long; whoever looks next goes on."""
WAIT_STEP_MAX_S = 5.0
IN_FLIGHT_LOOK_S = 0.02
EMPTY_ROUNDS_MAX = 3
"""How often a pump may find work it cannot take (somebody else took it) before it leaves it to the next wake-up."""


@dataclass(frozen=True)
class _Look:
    """What there is to do now; all fields empty: nothing."""

    wait_s: float = 0.0
    cancel: int | None = None
    intent: int | None = None
    key: BlockKey | None = None
    waiting: bool = False
    """Demand or an attempt waits for a token; what exactly is decided when there is one."""

    @property
    def has_work(self) -> bool:
        return self.cancel is not None or self.intent is not None or self.key is not None or self.waiting


class _Calls:
    """Calls to the broker under way: at most `senders` at once, inline when that is one."""

    def __init__(self, senders: int) -> None:
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix="sender") if senders > 1 else None
        self._senders = senders
        self._under_way: set[Future[None]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._collect(self._under_way)

    def make_room(self) -> None:
        """Wait until a call may start."""
        while len(self._under_way) >= self._senders:
            self._collect(wait(self._under_way, return_when=FIRST_COMPLETED).done)

    def start(self, call: "_Call") -> None:
        if self._pool is None:
            call()
        else:
            self._under_way.add(self._pool.submit(call))

    def settle(self) -> bool:
        """Give calls under way a moment; False when there is none."""
        if not self._under_way:
            return False
        self._collect(wait(self._under_way, timeout=IN_FLIGHT_LOOK_S, return_when=FIRST_COMPLETED).done)
        return True

    def _collect(self, done: set[Future[None]]) -> None:
        for future in list(done):
            self._under_way.discard(future)
            future.result()


@dataclass(frozen=True)
class _Call:
    """One claimed place or cancel and what follows it."""

    desk: Desk
    live: LiveSession
    place: sending.Claimed | None = None
    cancel: str | None = None

    def __call__(self) -> None:
        if self.cancel is not None:
            cancelling.transmit_cancel(self.live.broker, self.cancel)
        if self.place is not None:
            settings = self.desk.settings
            outcome = sending.transmit(self.live.broker, self.place, deadline_s=settings.send_deadline_seconds)
            sending.record_outcome(self.desk.db, self.place.attempt_id, outcome, settings)
            if isinstance(outcome, Refused) and outcome.code == verdicts.SESSION_EXPIRED:
                self.desk.access.end(self.live.session_id, outcome.message)


def pump(desk: Desk, account: str) -> int:
    """Send whatever may be sent now; answers how many calls were made. Safe to call from anywhere at any time."""
    sent = 0
    empty_rounds = 0
    until = time.monotonic() + RUN_SECONDS_MAX
    while time.monotonic() < until and empty_rounds < EMPTY_ROUNDS_MAX:
        with advisory_lock(desk.db, f"pump:{account}", wait=False) as held:
            if not held:
                return sent
            calls = _drain(desk, account, until)
        sent += calls
        empty_rounds = 0 if calls else empty_rounds + 1
        # Somebody whose wake-up found the lock taken has committed before this look.
        if not _look(desk, account).has_work:
            return sent
    return sent


def _drain(desk: Desk, account: str, until: float) -> int:
    with desk.db.transaction() as session:
        epoch = control.take_over(session, account)
    made = 0
    misses = 0
    with _Calls(desk.settings.senders) as calls:
        while time.monotonic() < until and misses < EMPTY_ROUNDS_MAX:
            calls.make_room()
            look = _look(desk, account, epoch=epoch)
            if not look.has_work:
                if calls.settle():
                    continue
                break
            if look.wait_s > 0:
                # The demand of a key goes on merging while it waits for a token.
                time.sleep(min(look.wait_s, WAIT_STEP_MAX_S))
                continue
            call = _take(desk, account, epoch, look)
            if call is None:
                misses += 1
                continue
            misses = 0
            made += 1
            calls.start(call)
    return made


def _look(desk: Desk, account: str, *, epoch: int | None = None) -> _Look:
    """What could be done now, oldest first, cancels before new orders. Reads only."""
    try:
        desk.access.current(account)
    except BrokerSessionExpired:
        return _Look()
    with desk.db.transaction() as session:
        allowed = control.outlook(session, account, desk.settings)
    deposed = epoch is not None and allowed.epoch != epoch
    if deposed or allowed.trading_state == "HALTED":
        return _Look()
    if allowed.cancel is not None and allowed.may_cancel:
        return _Look(allowed.wait_s, cancel=allowed.cancel)
    if allowed.trading_state != "ACTIVE" or not allowed.may_place:
        return _Look()
    intent = allowed.intent
    if intent is None and not allowed.pooled:
        return _Look()
    # Asked only when there is something to send, and outside the transaction: the answer may take a call to a peer.
    if not desk.market_is_open():
        return _Look()
    if allowed.wait_s > 0:
        return _Look(allowed.wait_s, waiting=True)
    if intent is not None:
        return _Look(intent=intent)
    with desk.db.transaction() as session:
        candidate, in_the_way = cutting.choose(session, account, desk.settings)
    if in_the_way and epoch is not None:
        resolving.give_way(desk.db, in_the_way)
    return _Look(key=candidate.key if candidate else None)


def _take(desk: Desk, account: str, epoch: int, look: _Look) -> _Call | None:
    """Claim what was found; None when it is gone or forbidden by now."""
    try:
        live = desk.access.current(account)
    except BrokerSessionExpired:
        return None
    if look.cancel is not None:
        broker_order_id = cancelling.claim_cancel(
            desk.db, look.cancel, account=account, epoch=epoch, settings=desk.settings
        )
        return None if broker_order_id is None else _Call(desk, live, cancel=broker_order_id)
    attempt_id = look.intent
    if look.key is not None:
        with desk.db.transaction() as session:
            attempt_id = cutting.cut(session, account, look.key, desk.settings)
    claimed = sending.claim(desk.db, attempt_id, epoch=epoch) if attempt_id is not None else None
    return None if claimed is None else _Call(desk, live, place=claimed)
