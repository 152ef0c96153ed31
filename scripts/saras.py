"""The operators' command line: `scripts/saras --help`, or `python -m scripts.saras` where the environment is active.

Exit codes of every command: 0 done, 1 refused or something was found, 2 a wrong command line or setting, 3 the platform or
a database did not answer. With --json the answer is one JSON object on standard output; remarks and errors are on standard
error. docs/operators-cli.md shows every command.
"""

import os
import sys

import typer

from common.logging import configure
from scripts.saras_cli import account, audit, backup, broker, control, keys, reconcile, retention, seed, trade

app = typer.Typer(
    name="saras",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Operate a Saras platform. Exit codes: 0 done, 1 refused or found, 2 usage, 3 not reachable.",
)
for run in (account.login, account.logout, control.status, control.halt, control.resume):
    app.command(run.__name__)(run)
app.command("cancel-only")(control.cancel_only)
for name, group in {
    "admin": account.admin_app,
    "audit": audit.app,
    "backup": backup.app,
    "broker": broker.app,
    "keys": keys.app,
    "reconcile": reconcile.app,
    "retention": retention.app,
    "seed": seed.app,
    "trade": trade.app,
}.items():
    app.add_typer(group, name=name)


@app.callback()
def begin() -> None:
    """Operate a Saras platform."""
    # What the rooms' own code logs belongs to a person only when something is wrong.
    configure("scripts", os.environ.get("LOG_LEVEL", "ERROR"), stream=sys.stderr)


if __name__ == "__main__":
    app()
