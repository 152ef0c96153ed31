"""Postbacks of an attacker, by the thousand: nothing moves but the doorbell, and that one rings within bounds.

The broker's checksum covers the order's id and time, neither status nor quantities, and may be replayed: whoever has
seen one postback can make authentic ones that lie. SARAS_POSTBACKS (default 1000) is how many are sent.
"""

import json
import os
import random
import string
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api_gateway import routing
from common.testing import eventually
from tests.security import people
from tests.security.house import API_SECRET, House
from tests.security.people import API, Person
from trade_executor import polling
from trade_executor.app import create_app
from trade_executor.desk import Desk
from trade_executor.postback import POSTBACK_BYTES_MAX, checksum
from trade_executor.sessions import LiveSession
from trade_executor.testing import ACCOUNT

POSTBACKS = int(os.environ.get("SARAS_POSTBACKS", "1000"))
READ_PAUSE_S = 0.25
STAMP = "2026-11-23 09:24:25"
URL = f"{API}/broker/postback"

pytestmark = pytest.mark.timeout(max(180, POSTBACKS // 10))


class CountedAccess:
    """The broker session, counting how often the order book is read."""

    def __init__(self, access: Any) -> None:
        self._access = access
        self.reads = 0

    def current(self, account: str) -> LiveSession:
        self.reads += 1
        return LiveSession(self._access.current(account).session_id, self._access.current(account).broker)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._access, name)


class Poller:
    """A wake-up behind which somebody really reads the book, on a thread as a worker does."""

    def __init__(self, desk: Desk, access: CountedAccess) -> None:
        self._desk = desk
        self.access = access
        self._wanted, self._stop = threading.Event(), threading.Event()
        self.rings = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def pump(self, account: str) -> None:
        """Nothing is sent in these tests."""

    def observe(self, account: str) -> None:
        self.rings += 1
        self._wanted.set()

    def is_idle(self) -> bool:
        """Whether the last ring was taken up."""
        return not self._wanted.is_set()

    def close(self) -> None:
        self._stop.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wanted.wait()
            self._wanted.clear()
            if not self._stop.is_set():
                polling.observe(self._desk, ACCOUNT)


@pytest.fixture(scope="module")
def owner(house: House) -> Person:
    """Somebody with an order that rests at the broker."""
    person = people.equip(people.new_operator(house, "admin"), people.new_user(house))
    house.settle()
    return person


@pytest.fixture(scope="module")
def poller(house: House, owner: Person) -> Iterator[Poller]:
    """The executor with the doorbell connected."""
    settings = house.desk.settings.model_copy(update={"read_pause_seconds": READ_PAUSE_S})
    access = CountedAccess(house.access)
    poller = Poller(Desk(house.desk.db, settings, house.market, access, house.clock), access)
    house.apps[routing.EXECUTOR] = create_app(
        settings,
        db=house.desk.db,
        authenticator=house.authenticator(routing.EXECUTOR),
        access=house.access,
        market=house.market,
        wakeup=poller,
        clock=house.clock,
    )
    yield poller
    poller.close()


def broker_order_id(house: House, owner: Person) -> str:
    """The broker's id of the owner's resting order."""
    [row] = house.rows(
        routing.EXECUTOR,
        "SELECT broker_order_id FROM broker_order WHERE state = 'ACKED' ORDER BY created_at DESC LIMIT 1",
    )
    return str(row["broker_order_id"])


def postback(order_id: str, secret: str = API_SECRET, **fields: Any) -> dict[str, Any]:
    """A postback signed with a secret."""
    body = {"user_id": "AB1234", "order_id": order_id, "order_timestamp": STAMP, "status": "COMPLETE", **fields}
    return {"checksum": checksum(body["order_id"], body["order_timestamp"], secret), **body}


Forgery = Callable[[random.Random, str], bytes]


def _lie(dice: random.Random, order_id: str) -> bytes:
    """Authentic by its checksum, false in everything else."""
    return json.dumps(
        postback(
            order_id,
            status=dice.choice(["COMPLETE", "REJECTED", "CANCELLED", "OPEN", "UPDATE", "NONSENSE"]),
            quantity=dice.choice([0, 1, -1, 10**9]),
            filled_quantity=dice.choice([0, 1, -5, 10**9, "1", None]),
            average_price=dice.choice([0.0, 0.01, -1, 10**9]),
            transaction_type=dice.choice(["BUY", "SELL"]),
            tradingsymbol=dice.choice(["ITC", "INFY", "'; DROP TABLE fill; --"]),
            tag=dice.choice(["", "d1x", None]),
        )
    ).encode()


def _altered_checksum(dice: random.Random, order_id: str) -> bytes:
    body = postback(order_id)
    at = dice.randrange(64)
    digit = dice.choice([one for one in "0123456789abcdef" if one != body["checksum"][at]])
    return json.dumps({**body, "checksum": body["checksum"][:at] + digit + body["checksum"][at + 1 :]}).encode()


def _moved_checksum(dice: random.Random, order_id: str) -> bytes:
    other = str(int(order_id) + dice.randrange(1, 10**6))
    return json.dumps({**postback(order_id), "order_id": other}).encode()


def _noise(dice: random.Random, order_id: str) -> bytes:
    return bytes(dice.randrange(256) for _ in range(dice.randrange(400)))


def _text(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_letters, k=dice.randrange(1, 40)))


FORGERIES: dict[str, tuple[Forgery, set[int]]] = {
    "replayed": (lambda dice, order_id: json.dumps(postback(order_id)).encode(), {200}),
    "authentic lie": (_lie, {200}),
    "authentic, of no order": (lambda dice, _: json.dumps(postback(str(dice.randrange(10**15)))).encode(), {200}),
    "another secret": (lambda dice, order_id: json.dumps(postback(order_id, _text(dice))).encode(), {403}),
    "no secret": (lambda dice, order_id: json.dumps(postback(order_id, "")).encode(), {403}),
    "checksum altered": (_altered_checksum, {403}),
    "checksum of another order": (_moved_checksum, {403}),
    "checksum of another time": (
        lambda dice, order_id: json.dumps(
            {**postback(order_id), "order_timestamp": f"2026-11-2{dice.randrange(4, 10)} 09:24:25"}
        ).encode(),
        {403},
    ),
    "checksum in capitals": (
        lambda dice, order_id: json.dumps(
            {**postback(order_id), "checksum": postback(order_id)["checksum"].upper()}
        ).encode(),
        {400},
    ),
    "no checksum": (lambda dice, order_id: json.dumps({"order_id": order_id, "status": "COMPLETE"}).encode(), {400}),
    "order id as number": (
        lambda dice, order_id: json.dumps({**postback(order_id), "order_id": int(order_id)}).encode(), {400},
    ),
    "order id as path": (
        lambda dice, order_id: json.dumps({**postback(order_id), "order_id": f"../{_text(dice)}"}).encode(), {400},
    ),
    "noise": (_noise, {400}),
    "cut off": (lambda dice, order_id: json.dumps(postback(order_id)).encode()[: -dice.randrange(1, 200)], {400}),
    "padded beyond the limit": (
        lambda dice, order_id: json.dumps(postback(order_id, padding="x" * POSTBACK_BYTES_MAX)).encode(), {413},
    ),
}  # fmt: skip


def state_of(house: House, owner: Person) -> dict[str, Any]:
    """What a postback must never change."""
    tables = {
        routing.EXECUTOR: ("child_order", "block", "fill", "allocation", "broker_session", "outbox", "recon_break"),
        routing.PORTFOLIO: ("user_order", "transfer", "outbox", "order_allocation", "tax_lot"),
        routing.NOTIFICATION: ("notification",),
    }
    seen: dict[str, Any] = {
        f"{room} {table}": house.table(room, table) for room, names in tables.items() for table in names
    }
    attempts = "SELECT attempt_id, state, filled_quantity, broker_status, cancel_state FROM broker_order ORDER BY 1"
    seen["attempts"] = house.rows(routing.EXECUTOR, attempts)
    seen["control"] = house.rows(routing.EXECUTOR, "SELECT trading_state, day_sends, epoch FROM control")
    return {**seen, **{path: owner.get(path) for path in ("/orders", "/funds", "/holdings")}}


def test_thousands_of_postbacks_move_nothing_and_reads_stay_bounded(
    house: House, owner: Person, poller: Poller
) -> None:
    dice, order_id = random.Random(20261123), broker_order_id(house, owner)  # noqa: S311  a test's dice
    door = house.door(postback_per_minute=1_000_000)
    before = state_of(house, owner)
    wrong, sent, started = [], Counter[str](), time.monotonic()
    for _ in range(POSTBACKS):
        name = dice.choice(list(FORGERIES))
        make, expected = FORGERIES[name]
        answer = door.post(URL, content=make(dice, order_id))
        sent[name] += 1
        if answer.status_code not in expected:
            wrong.append(f"{name}: {answer.status_code} {answer.text}")
    authentic = sum(count for name, count in sent.items() if FORGERIES[name][1] == {200})
    eventually(poller.is_idle)
    elapsed = time.monotonic() - started
    reads = poller.access.reads
    print(f"postbacks: {POSTBACKS} in {elapsed:.1f} s, {authentic} authentic, {reads} reads of the book")  # noqa: T201
    assert wrong == []
    assert len(sent) == len(FORGERIES), "each kind was sent"
    assert state_of(house, owner) == before
    assert poller.rings == authentic, "forged ones ring nobody"
    assert 0 < reads <= elapsed / READ_PAUSE_S + 2


def test_a_postback_of_16_kb_is_read_and_one_byte_more_is_not(house: House, owner: Person, poller: Poller) -> None:
    door = house.door(postback_per_minute=1_000_000)
    body = json.dumps(postback(broker_order_id(house, owner))).encode()
    assert door.post(URL, content=body.ljust(POSTBACK_BYTES_MAX)).status_code == 200
    assert door.post(URL, content=body.ljust(POSTBACK_BYTES_MAX + 1)).status_code == 413
    chunks = iter([body, b" " * POSTBACK_BYTES_MAX, b" "])
    assert door.post(URL, content=chunks).status_code == 413


def test_a_flood_is_cut_at_the_door_and_shuts_out_nobody_else(house: House, owner: Person, poller: Poller) -> None:
    door, order_id = house.door(postback_per_minute=20), broker_order_id(house, owner)
    rings = poller.rings
    statuses = [door.post(URL, content=json.dumps(postback(order_id)).encode()).status_code for _ in range(60)]
    assert Counter(statuses) == {200: 20, 429: 40}
    assert poller.rings - rings == 20
    assert door.get(f"{API}/funds", headers=owner.headers).status_code == 200
