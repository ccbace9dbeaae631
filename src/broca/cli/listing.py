"""`broca ls`: which runs there are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broca.cli.output import say, show

if TYPE_CHECKING:
    from rich.table import Table

    from broca.store import RunEntry

WATCH_SECONDS = 2.0


def ls(
    root: Annotated[Path, typer.Argument(help="Where to look, with the folders below.")] = Path(
        "runs"
    ),
    watch: Annotated[
        bool, typer.Option("--watch", help="Show them anew every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """List runs, newest first."""
    from rich.live import Live

    from broca.errors import RunError
    from broca.store import list_runs

    if not root.is_dir():
        raise RunError("there is no such folder", str(root), "Give the folder with your runs")
    if watch:
        with Live(_watched(list_runs(root)), auto_refresh=False) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(_watched(list_runs(root)), refresh=True)
    entries = list_runs(root)
    if entries:
        show(_table(entries))
    else:
        say(f"There are no runs in {root}.")


def _table(entries: Sequence[RunEntry]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        "run", "studies", "model", "state", "rows", "seconds", "changed", box=box.SIMPLE_HEAD
    )
    for entry in entries:
        table.add_row(
            str(entry.path),
            entry.study,
            entry.model,
            f"{entry.state}: {entry.reached}" if entry.reached else entry.state,
            "" if entry.rows is None else f"{entry.rows:,}",
            "" if entry.seconds is None else f"{entry.seconds:.0f}",
            f"{datetime.fromtimestamp(entry.changed):%Y-%m-%d %H:%M}",
        )
    return table


def _watched(entries: Sequence[RunEntry]) -> Table:
    """What of runs changes: few columns, so that how far each is fits on a line."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "state", "changed"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry.path),
            entry.reached or entry.state,
            f"{datetime.fromtimestamp(entry.changed):%H:%M:%S}",
        )
    return table
