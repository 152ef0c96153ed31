"""From the accepted order to its fills: one order, many orders, partial fills, refusals."""

from decimal import Decimal

from trade_executor.models import Allocation, Block, BlockChild, BrokerOrder, Fill
from trade_executor.testing import refuse


def test_a_single_order_goes_out_alone_at_once_and_is_filled(room):
    order_id = room.accept(quantity=10)

    assert room.pump() == 1
    room.broker.fill(room.broker.id_of(), 10, Decimal("100.05"))
    room.observe()

    child = room.child(order_id)
    assert (child.state, child.filled_quantity, child.amount_paise) == ("FILLED", 10, 100_050)
    assert [event["type"] for event in room.events(order_id)] == ["OrderWorking", "OrderAllocated", "OrderClosed"]
    [attempt] = room.rows(BrokerOrder)
    [block] = room.rows(Block)
    assert (attempt.state, block.state) == ("SETTLED", "DONE")
    [fill] = room.rows(Fill)
    assert fill.round_no == 1


def test_orders_that_waited_for_a_token_go_out_as_one_block(room):
    room.market.is_open = False
    orders = [room.accept(quantity=quantity) for quantity in (100, 50, 37)]
    assert room.pump() == 0
    room.market.is_open = True

    assert room.pump() == 1
    [request] = room.broker.requests
    assert (request.quantity, request.price, request.order_type) == (187, Decimal("100.00"), "LIMIT")
    room.broker.fill(room.broker.id_of(), 100)
    room.observe()

    assert [room.child(order_id).filled_quantity for order_id in orders] == [53, 27, 20]
    assert {room.child(order_id).state for order_id in orders} == {"PARTIAL"}
    room.broker.fill(room.broker.id_of(), 87, Decimal("99.95"))
    room.observe()
    assert [room.child(order_id).filled_quantity for order_id in orders] == [100, 50, 37]
    assert sum(room.child(order_id).amount_paise for order_id in orders) == 100 * 100_00 + 87 * 99_95
    assert sum(row.quantity for row in room.rows(BlockChild)) == 187
    allocations = room.rows(Allocation)
    assert {row.round_no for row in allocations} == {1, 2}
    assert sum(row.amount_paise for row in allocations) == 100 * 100_00 + 87 * 99_95


def test_a_refusal_reaches_every_order_with_the_broker_s_words(room):
    room.market.is_open = False
    orders = [room.accept() for _ in range(3)]
    room.market.is_open = True
    room.broker.script = [refuse("insufficient_funds", "Insufficient funds. Required margin is 30.00")]

    room.pump()

    for order_id in orders:
        child = room.child(order_id)
        assert (child.state, child.reason_code) == ("REJECTED", "insufficient_funds")
        [closed] = room.events(order_id)
        assert (closed["type"], closed["outcome"]) == ("OrderClosed", "REJECTED")
        assert closed["reason"] == "Insufficient funds. Required margin is 30.00"
    assert [row.state for row in room.rows(Block)] == ["DONE"]
    assert room.pump() == 0
