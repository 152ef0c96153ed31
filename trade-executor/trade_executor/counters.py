"""What the executor counts as it happens; what is counted from rows is in `gauges`."""

from prometheus_client import Counter, Histogram

blocks_cut = Counter("saras_blocks_cut_total", "Blocks sealed out of the pool.", ["service"])
orders_in_blocks = Counter(
    "saras_block_orders_total",
    "User orders in sealed blocks; divided by the blocks: the aggregation ratio.",
    ["service"],
)
order_reach = Histogram(
    "saras_order_reach_seconds",
    "From the acceptance of a user's order to the claim of its broker call, for orders the broker has acknowledged.",
    ["service"],
    buckets=(0.005, 0.01, 0.015, 0.02, 0.03, 0.06, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
