"""`broca ls`: which runs there are."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import say, show


def ls(
    root: Annotated[Path, typer.Argument(help="Where to look, with the folders below.")] = Path(
        "runs"
    ),
) -> None:
    """List runs, newest first."""
    from rich import box
    from rich.table import Table

    from broca.errors import RunError
    from broca.store import list_runs

    if not root.is_dir():
        raise RunError("there is no such folder", str(root), "Give the folder with your runs")
    table = Table(
        "run", "studies", "model", "state", "rows", "seconds", "changed", box=box.SIMPLE_HEAD
    )
    entries = list_runs(root)
    for entry in entries:
        table.add_row(
            str(entry.path),
            entry.study,
            entry.model,
            entry.state,
            "" if entry.rows is None else f"{entry.rows:,}",
            "" if entry.seconds is None else f"{entry.seconds:.0f}",
            f"{datetime.fromtimestamp(entry.changed):%Y-%m-%d %H:%M}",
        )
    if entries:
        show(table)
    else:
        say(f"There are no runs in {root}.")
