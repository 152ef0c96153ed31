"""Every queue the platform keeps at RabbitMQ: its name, its arguments, what it is for.

| queue | holds | taken by | when it is lost |
|---|---|---|---|
| `trade-executor` | trade jobs: OrderAccepted, OrderCancelRequested | `trade_executor consume` | caught up, swept |
| `portfolio-service` | bookings: allocations, closings, new users | `portfolio_service consume` | caught up, asked again |
| `notification-service` | alerts: what users are told | `notification_service consume` | caught up |
| `analytics-service` | facts of the read model | `analytics_service consume` | caught up |
| `notification_service` | background work: wake-ups of what sends messages | `notification_service worker` | the loop finds it |
| `analytics_service` | background work: wake-ups of what makes reports | `analytics_service worker` | the loop finds it |
| `trade_executor` | background work: Celery's wake-ups of the executor | `trade_executor worker` | the loop finds it |
| `<queue>.dead` | what failed DELIVERY_LIMIT times | an operator (`python -m common.dead_letters`) | caught up |
| `saras.events.unrouted` | what no queue is bound to, the newest 10,000 | nobody; to look at | nothing |
| `celery_delayed_0` to `_27` | Celery makes them beside any quorum queue; no wake-up is delayed | nobody | nothing |

All of ours but the last are quorum queues: on the disks of a majority before a publish is confirmed. Deliveries are counted, and
a message that fails too often is set aside, itself handed over at least once. Dead lettering at least once needs
`reject-publish`: the default overflow would drop the oldest message instead. The limit is always given, because releases
before 4.0 have none and later ones drop what exceeds theirs. Arguments of a queue can not be changed while it exists.

RabbitMQ 3.10 killed within moments of a queue's making may come back unable to lead it: publishing to it is never confirmed.
Delete such a queue; its consumer makes it again and catches up on what was in it (`common.catching_up`).
"""

from collections.abc import Mapping
from typing import Any

from common.bus import DELIVERY_LIMIT

UNROUTED_LENGTH_MAX = 10_000
DEAD_WAKEUPS_MAX = 10_000

EXCHANGE = "saras.events"
"""Topic exchange of all events; the routing key is `source.Type`."""


def dead_queue(queue: str) -> str:
    """The queue that keeps the dead letters of a queue."""
    return f"{queue}.dead"


def work_arguments(*, dead_exchange: str, dead_key: str | None = None) -> Mapping[str, Any]:
    """Arguments of a queue whose messages are acknowledged after their effect was committed."""
    key = {} if dead_key is None else {"x-dead-letter-routing-key": dead_key}
    return {
        "x-queue-type": "quorum",
        # RabbitMQ counts redeliveries: the first attempt is not among them.
        "x-delivery-limit": DELIVERY_LIMIT - 1,
        "x-dead-letter-exchange": dead_exchange,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
        **key,
    }


def dead_arguments(*, length_max: int | None = None) -> Mapping[str, Any]:
    """Arguments of a dead-letter queue; only wake-ups, which mean nothing by themselves, may have a length limit."""
    limit = {} if length_max is None else {"x-max-length": length_max}
    return {"x-queue-type": "quorum", **limit}
