"""What is looked at while the run goes on: states that may exist at no moment at all."""

import threading

import psycopg2

from tests.chaos.servers import query

SAMPLE_S = 0.4

_CROSSING = """
SELECT one.block_id AS buy, other.block_id AS sell, one.exchange, one.tradingsymbol,
       one.price_paise AS buy_paise, other.price_paise AS sell_paise, one.state AS buy_state, other.state AS sell_state
  FROM block one JOIN block other
    ON other.account = one.account AND other.exchange = one.exchange AND other.tradingsymbol = one.tradingsymbol
 WHERE one.side = 'BUY' AND other.side = 'SELL' AND one.state <> 'DONE' AND other.state <> 'DONE'
   AND (one.price_paise IS NULL OR other.price_paise IS NULL OR one.price_paise >= other.price_paise)
"""
"""Two live opposite blocks of one instrument whose prices can meet (design section 3)."""

_TWO_UNDECIDED = """
SELECT block_id, count(*) AS attempts, string_agg(state, ', ') AS states FROM broker_order
 WHERE state IN ('INTENT', 'SENDING', 'UNKNOWN', 'ACKED', 'COMPLETE', 'CANCELLED', 'REJECTED')
 GROUP BY block_id HAVING count(*) > 1
"""


class Watch:
    """Samples the executor's database until stopped."""

    def __init__(self, executor_url: str) -> None:
        self._url = executor_url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self.samples = 0
        self.violations: dict[str, str] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            try:
                crossing, undecided = query(self._url, _CROSSING), query(self._url, _TWO_UNDECIDED)
            except psycopg2.Error:
                continue  # the database is being restarted
            self.samples += 1
            for row in crossing:
                self.violations.setdefault(f"{row['buy']}/{row['sell']}", f"opposite live blocks can cross: {row}")
            for row in undecided:
                self.violations.setdefault(str(row["block_id"]), f"two undecided attempts of one block: {row}")
