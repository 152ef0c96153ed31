"""Dead letters in an operator's hands: `python -m common.dead_letters list | requeue | purge <queue>`, with BUS_URL set.

They are messages whose handler failed DELIVERY_LIMIT times. Their consumer also catches up on them by itself once its
handler works again (`common.catching_up`), so requeueing is for haste and purging loses nothing.
"""

import argparse
import sys

from common.bus import BusUnavailable
from common.config import InvalidSettings, ServiceSettings
from common.rabbit import RabbitBus

COMMANDS = ("list", "requeue", "purge")


def run(bus: RabbitBus, command: str, queue: str) -> int:
    """Run one command; answers how many messages it was about. `list` writes one line a message."""
    if command == "requeue":
        return bus.requeue_dead_letters(queue)
    if command == "purge":
        return bus.purge_dead_letters(queue)
    letters = bus.dead_letters(queue)
    for letter in letters:
        sys.stdout.write(f"{letter.id} {letter.type} {letter.source} {letter.aggregate_id} {letter.recorded_at}\n")
    return len(letters)


def main(arguments: list[str] | None = None) -> int:
    """The command line; answers the exit code."""
    parser = argparse.ArgumentParser(prog="common.dead_letters", description="Look after a queue's dead letters.")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("queue", help="a room's queue, such as portfolio-service")
    given = parser.parse_args(arguments)
    try:
        count = run(RabbitBus(ServiceSettings.load().required("bus_url")), given.command, given.queue)
    except (InvalidSettings, BusUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{given.command}: {count} messages\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
