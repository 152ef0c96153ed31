"""Many seeds side by side, each in a process and in databases of its own."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from common.collector import spare_what_stays
from common.logging import configure
from tests.faults import run
from tests.faults.run import Result


def play(seeds: Sequence[int], orders: int, workers: int) -> Iterator[Result]:
    """Results as they come."""
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [pool.submit(one, seed, orders) for seed in seeds]
        for future in as_completed(futures):
            yield future.result()


def one(seed: int, orders: int) -> Result:
    """One seed in databases of its own."""
    configure("faults", "ERROR", stream=open(os.devnull, "w"))  # noqa: SIM115  lives as long as the process
    spare_what_stays()
    with run.server() as address, run.databases(address) as urls:
        return run.run_seed(seed, orders, urls)
