"""The bus contract, over every bus: what is confirmed is safe, what fails comes again, poison is set aside."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from common import bus as bus_module
from common.bus import DELIVERY_LIMIT, BusUnavailable, ConsumerNotReady, Handler, LocalBus
from common.events import Envelope, OrderCancelRequested, UserRegistered
from common.publishing import WINDOW
from common.testing import eventually
from common.testing_servers import AnyBus


def envelope_of(event: OrderCancelRequested | UserRegistered) -> Envelope:
    return Envelope(
        type=event.type_name(),
        source="test",
        occurred_at=event.occurred_at,
        recorded_at=datetime.now(UTC),
        payload=event.model_dump(mode="json"),
    )


def cancel() -> Envelope:
    return envelope_of(OrderCancelRequested(order_id=uuid4(), requested_at=datetime.now(UTC)))


@contextmanager
def consuming(bus: AnyBus, queue: str, handler: Handler) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=bus.consume, args=(queue, handler, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def fast_redelivery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "REDELIVERY_PAUSE_S", 0.001)


def test_every_bound_queue_gets_the_message_before_it_is_confirmed(any_bus: AnyBus) -> None:
    seen: list[tuple[str, Envelope]] = []
    any_bus.declare("a", [OrderCancelRequested])
    any_bus.declare("b", [OrderCancelRequested])
    any_bus.declare("c", [UserRegistered])
    message = cancel()
    with (
        consuming(any_bus, "a", lambda batch: seen.extend(("a", e) for e in batch)),
        consuming(any_bus, "b", lambda batch: seen.extend(("b", e) for e in batch)),
        consuming(any_bus, "c", lambda batch: seen.extend(("c", e) for e in batch)),
    ):
        assert any_bus.publish([message]) == {message.id}
        eventually(lambda: sorted(queue for queue, _ in seen) == ["a", "b"])
    assert all(received == message for _, received in seen)


def test_a_message_without_listener_is_confirmed(any_bus: AnyBus) -> None:
    message = cancel()
    assert any_bus.publish([message]) == {message.id}


def test_an_unhandled_message_is_not_confirmed_and_joins_its_repeat(
    local_bus: LocalBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "CONFIRM_TIMEOUT_S", 0.01)
    local_bus.declare("a", [OrderCancelRequested])
    message = cancel()
    assert local_bus.publish([message]) == set()
    assert local_bus.publish([message]) == set()
    seen: list[Envelope] = []
    after = cancel()
    monkeypatch.setattr(bus_module, "CONFIRM_TIMEOUT_S", 5)
    with consuming(local_bus, "a", seen.extend):
        assert local_bus.publish([after]) == {after.id}
    assert [envelope.id for envelope in seen] == [message.id, after.id]


@pytest.mark.usefixtures("fast_redelivery")
def test_a_failing_handler_gets_the_message_again(any_bus: AnyBus) -> None:
    attempts: list[Envelope] = []

    def fails_twice(envelopes: Sequence[Envelope]) -> None:
        attempts.extend(envelopes)
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    any_bus.declare("a", [OrderCancelRequested])
    message = cancel()
    with consuming(any_bus, "a", fails_twice):
        assert any_bus.publish([message]) == {message.id}
        eventually(lambda: len(attempts) == 3)
    assert any_bus.dead_letters("a") == []


@pytest.mark.usefixtures("fast_redelivery")
def test_poison_becomes_a_dead_letter_and_lets_others_pass(any_bus: AnyBus) -> None:
    poison, good = cancel(), cancel()
    handled: list[Envelope] = []

    def handler(envelopes: Sequence[Envelope]) -> None:
        if poison in envelopes:
            raise RuntimeError("poison")
        handled.extend(envelopes)

    any_bus.declare("a", [OrderCancelRequested])
    with consuming(any_bus, "a", handler):
        any_bus.publish([poison, good])
        dead = eventually(lambda: any_bus.dead_letters("a"))
        eventually(lambda: [envelope.id for envelope in handled] == [good.id])
    assert [envelope.id for envelope in dead] == [poison.id]
    assert DELIVERY_LIMIT > 1


def test_many_messages_in_one_publish_are_confirmed_and_keep_their_order(any_bus: AnyBus) -> None:
    seen: list[Envelope] = []
    any_bus.declare("a", [OrderCancelRequested])
    messages = [cancel() for _ in range(2 * WINDOW + 7)]
    with consuming(any_bus, "a", seen.extend):
        assert any_bus.publish(messages) == {message.id for message in messages}
        eventually(lambda: len(seen) == len(messages))
    assert [envelope.id for envelope in seen] == [message.id for message in messages]


def test_a_consumer_that_is_not_ready_gives_its_messages_back(any_bus: AnyBus) -> None:
    any_bus.declare("a", [OrderCancelRequested])
    messages = [cancel() for _ in range(3)]

    def not_ready(_: Sequence[Envelope]) -> None:
        raise ConsumerNotReady("the database is away")

    def consume() -> None:
        with pytest.raises(ConsumerNotReady):
            any_bus.consume("a", not_ready, threading.Event())

    waiting = threading.Thread(target=consume)
    waiting.start()
    publishing = threading.Thread(target=any_bus.publish, args=(messages,))
    publishing.start()
    waiting.join(10)
    assert not waiting.is_alive()
    seen: list[Envelope] = []
    with consuming(any_bus, "a", seen.extend):
        eventually(lambda: len(seen) == 3)
        publishing.join(10)
    assert {envelope.id for envelope in seen} == {message.id for message in messages}
    assert any_bus.dead_letters("a") == []


def test_an_undeclared_queue_is_refused(local_bus: LocalBus) -> None:
    with pytest.raises(BusUnavailable):
        local_bus.consume("nowhere", lambda _: None, threading.Event())
