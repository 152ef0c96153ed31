"""`saras reconcile`: our books against the broker's."""

from typing import Annotated, Any

import typer
from rich.console import Console

from scripts.saras_cli.gateway import API, connected
from scripts.saras_cli.output import REFUSED, AsJson, Reason, answer, command, facts, table

BREAKS_MAX = 200
DAYS_SHOWN = 10

app = typer.Typer(no_args_is_help=True, help="Our books against the broker's.")


@app.command()
@command
def run(as_json: AsJson = False) -> None:
    """Compare everything now; exit code 1 when the run could not read everything or left breaks open."""
    with connected() as gateway:
        made = gateway.post(f"{API}/ops/reconciliation")
        open_breaks = gateway.get(f"{API}/ops/reconciliation")["open_breaks"]
    counts = {f"compared, {part}": count for part, count in sorted(made["counts"].items())}
    shown = {
        "run": made["run_id"],
        "complete": "yes" if made["good"] else f"no: {made['detail']}",
        **counts,
        "breaks opened": made["opened"],
        "breaks cured": made["cured"],
        "breaks open now": sum(row["count"] for row in open_breaks),
    }
    answer(as_json, {**made, "open_breaks": open_breaks}, facts("Reconciliation", shown))
    if not made["good"] or open_breaks:
        raise typer.Exit(REFUSED)


@app.command()
@command
def report(
    days: Annotated[int, typer.Option(min=1, max=BREAKS_MAX, help="How many ended days.")] = DAYS_SHOWN,
    everything: Annotated[bool, typer.Option("--all", help="Closed breaks too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Open breaks, the latest runs, the results of ended days; exit code 1 when a break is open."""
    with connected() as gateway:
        state = gateway.get(f"{API}/ops/reconciliation")
        breaks = gateway.get(f"{API}/ops/breaks", open=not everything, limit=BREAKS_MAX)["items"]
        ended = gateway.get(f"{API}/ops/days", limit=days)["items"]
    told = {**state, "breaks": breaks, "days": ended}

    def show(console: Console) -> None:
        for name in ("last_good_quick", "last_good_full"):
            run = state[name]
            label = name.replace("_", " ")
            console.print(f"{label}: {run['finished_at'] if run else 'never'}")
        console.print(f"frozen instruments: {', '.join(state['frozen']) or 'none'}")
        table("Breaks", ("break", "kind", "key", "severity", "since", "detail"), [_break(row) for row in breaks])(
            console
        )
        table("Ended days", ("day", "result"), [(row["slot"], _flat(row["result"])) for row in ended])(console)

    answer(as_json, told, show)
    if state["open_breaks"]:
        raise typer.Exit(REFUSED)


@app.command()
@command
def close(break_id: Annotated[str, typer.Argument(help="Of `saras reconcile report`.")], reason: Reason) -> None:
    """Declare a break dealt with."""
    with connected() as gateway:
        gateway.post(f"{API}/ops/breaks/{break_id}/close", {"reason": reason})


def _break(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["break_id"], row["kind"], row["key"], row["severity"], row["opened_at"], row["detail"]


def _flat(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(result.items()) if not isinstance(value, dict | list))
