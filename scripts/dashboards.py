"""Grafana's dashboards as code: `python -m scripts.dashboards` writes infra/grafana/dashboards/*.json.

A panel is a title, what it shows in words, and queries; where it stands follows from the order. Tests parse every query
with a real Prometheus and ask it for data on a running platform.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer

FOLDER = Path("infra/grafana/dashboards")
COLUMNS = 24
HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
LOKI = {"type": "loki", "uid": "loki"}

Unit = Literal["short", "s", "percentunit", "reqps", "bytes", "ops"]


@dataclass(frozen=True)
class Query:
    """PromQL and how its series are named."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture."""

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Literal["timeseries", "stat"] = "timeseries"
    width: int = 8


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    logs: str | None = None
    """LogQL shown below the panels."""


def _p99(metric: str, by: str) -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({metric}_bucket[5m])))"


def _p50(metric: str, by: str) -> str:
    return f"histogram_quantile(0.5, sum by ({by}, le) (rate({metric}_bucket[5m])))"


TRADING = Dashboard(
    "saras-trading",
    "Trading",
    (
        Panel("Kill switch", "1 for the state an account is in.", (Query("max by (account, state) (saras_trading_state) == 1", "{{account}} {{state}}"),), kind="stat", width=6),
        Panel("Unknown attempts", "Broker orders without a known outcome; must come back to 0.", (Query('sum(saras_live_rows{kind="attempt", state="UNKNOWN"})', "unknown"),), kind="stat", width=6),
        Panel("Open breaks", "Where the broker's books and ours differ.", (Query("sum by (severity) (saras_open_breaks)", "severity {{severity}}"),), kind="stat", width=6),
        Panel("Ledger", "Rows that break a rule of the ledger; must be 0.", (Query("sum(saras_ledger_problems)", "problems"),), kind="stat", width=6),
        Panel("Live orders", "Users' orders that still have to end, as portfolio-service has them.", (Query('sum by (state) (saras_live_rows{service="portfolio-service", kind="order"})', "{{state}}"),)),
        Panel("Orders ended", "Per second, by what became of them.", (Query("sum by (outcome) (rate(saras_orders_total[5m]))", "{{outcome}}"),), unit="ops"),
        Panel("Aggregation", "Users' orders per block.", (Query("sum(rate(saras_block_orders_total[5m])) / sum(rate(saras_blocks_cut_total[5m]))", "orders per block"),)),
        Panel("Reach", "From acceptance to the claim of the broker call.", (Query(_p50("saras_order_reach_seconds", "service"), "p50"), Query(_p99("saras_order_reach_seconds", "service"), "p99")), unit="s"),
        Panel("Broker calls", "Per second, by call and outcome.", (Query("sum by (call, outcome) (rate(saras_broker_calls_total[5m]))", "{{call}} {{outcome}}"),), unit="ops"),
        Panel("Broker's answer time", "99 of 100 calls are faster.", (Query(_p99("saras_broker_call_seconds", "call"), "{{call}}"),), unit="s"),
        Panel("Sends left", "Of the broker's limits, by window.", (Query("min by (window) (saras_sends_left)", "{{window}}"),)),
        Panel("Oldest order without an answer", "Accepted, and the executor has said nothing yet.", (Query("max(saras_oldest_unanswered_order_seconds)", "age"),), unit="s"),
        Panel("Age of the comparison", "Since the broker's books were last read whole and compared with ours.", (Query("max by (scope) (saras_reconciliation_age_seconds)", "{{scope}}"),), unit="s"),
    ),
    logs='{job="saras"} | json | event =~ "order.*|block.*|broker.*|break.*"',
)  # fmt: skip

SERVICES = Dashboard(
    "saras-services",
    "Services",
    (
        Panel("Processes that answer", "Of all that should.", (Query('sum(up{job=~"rooms|processes"})', "up"), Query('count(up{job=~"rooms|processes"})', "expected")), kind="stat", width=8),
        Panel("Requests", "Answered per second.", (Query("sum by (service) (rate(saras_http_requests_total[5m]))", "{{service}}"),), unit="reqps"),
        Panel("Errors", "Share of answers with a 5xx status.", (Query('sum by (service) (rate(saras_http_requests_total{status=~"5.."}[5m])) / sum by (service) (rate(saras_http_requests_total[5m])) or sum by (service) (rate(saras_http_requests_total[5m])) * 0', "{{service}}"),), unit="percentunit"),
        Panel("Answer time p99", "99 of 100 requests are faster.", (Query(_p99("saras_http_request_seconds", "service"), "{{service}}"),), unit="s"),
        Panel("Answer time p50", "Half of the requests are faster.", (Query(_p50("saras_http_request_seconds", "service"), "{{service}}"),), unit="s"),
        Panel("Slowest routes", "p99 of the ten slowest.", (Query(f"topk(10, {_p99('saras_http_request_seconds', 'service, route')})", "{{service}} {{route}}"),), unit="s"),
        Panel("Outbox age", "Of the oldest message that RabbitMQ has not confirmed.", (Query("max by (service) (saras_outbox_oldest_seconds)", "{{service}}"),), unit="s"),
        Panel("Outbox backlog", "Messages that wait to be published.", (Query("max by (service) (saras_outbox_unsent)", "{{service}}"),)),
        Panel("Message lag p99", "From the outbox to the commit of the effect.", (Query(_p99("saras_message_lag_seconds", "service"), "{{service}}"),), unit="s"),
        Panel("Messages", "Consumed per second, new and repeated.", (Query("sum by (service, result) (rate(saras_messages_consumed_total[5m]))", "{{service}} {{result}}"),), unit="ops"),
        Panel("Published", "Confirmed by RabbitMQ per second.", (Query("sum by (service) (rate(saras_messages_published_total[5m]))", "{{service}}"),), unit="ops"),
        Panel("Owed", "Messages known to have no effect yet, by consumer.", (Query("sum by (service, source) (saras_messages_owed)", "{{service}} from {{source}}"),)),
        Panel("CPU", "Seconds of processor per second, by process.", (Query('rate(process_cpu_seconds_total{job=~"rooms|processes"}[5m])', "{{instance}}"),)),
        Panel("Memory", "Resident, by process.", (Query('process_resident_memory_bytes{job=~"rooms|processes"}', "{{instance}}"),), unit="bytes"),
    ),
    logs='{job="saras"} | json | level =~ "warning|error|critical"',
)  # fmt: skip

INFRASTRUCTURE = Dashboard(
    "saras-infrastructure",
    "Infrastructure",
    (
        Panel("Servers", "1 for each that answers.", (Query('min by (job) (up{job=~"postgres|rabbitmq|redis|prometheus"})', "{{job}}"),), kind="stat", width=24),
        Panel("Queue depth", "Messages ready, by queue.", (Query('sum by (queue) (rabbitmq_queue_messages_ready{queue!~"celery_delayed.*"})', "{{queue}}"),)),
        Panel("Not acknowledged", "Messages at consumers.", (Query('sum by (queue) (rabbitmq_queue_messages_unacked{queue!~"celery_delayed.*"})', "{{queue}}"),)),
        Panel("Dead letters", "Given up; an operator looks at them.", (Query('sum by (queue) (rabbitmq_queue_messages{queue=~".+\\\\.dead"})', "{{queue}}"),)),
        Panel("RabbitMQ memory", "Of the node.", (Query("rabbitmq_process_resident_memory_bytes", "resident"),), unit="bytes"),
        Panel("Database connections", "By database.", (Query("sum by (datname) (pg_stat_activity_count)", "{{datname}}"),)),
        Panel("Transactions", "Committed per second, by database.", (Query('sum by (datname) (rate(pg_stat_database_xact_commit{datname=~"saras.*"}[5m]))', "{{datname}}"),), unit="ops"),
        Panel("Rollbacks", "Per second, by database.", (Query('sum by (datname) (rate(pg_stat_database_xact_rollback{datname=~"saras.*"}[5m]))', "{{datname}}"),), unit="ops"),
        Panel("Database size", "By database.", (Query('pg_database_size_bytes{datname=~"saras.*"}', "{{datname}}"),), unit="bytes"),
        Panel("Cache hits", "Share of blocks found in memory.", (Query('sum by (datname) (rate(pg_stat_database_blks_hit{datname=~"saras.*"}[5m])) / (sum by (datname) (rate(pg_stat_database_blks_hit{datname=~"saras.*"}[5m])) + sum by (datname) (rate(pg_stat_database_blks_read{datname=~"saras.*"}[5m])))', "{{datname}}"),), unit="percentunit"),
        Panel("Redis memory", "Used.", (Query("redis_memory_used_bytes", "used"),), unit="bytes"),
        Panel("Redis commands", "Per second.", (Query("rate(redis_commands_processed_total[5m])", "commands"),), unit="ops"),
    ),
)  # fmt: skip

DASHBOARDS = (TRADING, SERVICES, INFRASTRUCTURE)


def queries() -> Iterator[tuple[str, str]]:
    """Every panel's name and PromQL."""
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                yield f"{dashboard.title}: {panel.title}", query.expr


def render(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana imports it."""
    panels = [_panel(number, panel, place) for number, (panel, place) in enumerate(_placed(dashboard.panels), start=1)]
    if dashboard.logs is not None:
        bottom = max(panel["gridPos"]["y"] for panel in panels) + HEIGHT
        panels.append(_logs(len(panels) + 1, dashboard.logs, bottom))
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["saras"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "Asia/Kolkata",
        "panels": panels,
    }


def _placed(panels: Sequence[Panel]) -> Iterator[tuple[Panel, dict[str, int]]]:
    x = y = 0
    for panel in panels:
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        yield panel, {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        x += panel.width


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
            for index, query in enumerate(panel.queries)
        ],
    }


def _logs(number: int, expr: str, y: int) -> dict[str, Any]:
    return {
        "id": number,
        "type": "logs",
        "title": "Log",
        "datasource": LOKI,
        "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": HEIGHT + 4},
        "targets": [{"refId": "A", "datasource": LOKI, "expr": expr}],
    }


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for dashboard in DASHBOARDS:
        text = json.dumps(render(dashboard), indent=1) + "\n"
        (FOLDER / f"{dashboard.uid.removeprefix('saras-')}.json").write_text(text)


if __name__ == "__main__":
    typer.run(main)
