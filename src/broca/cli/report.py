"""`broca report`: the page of finished runs, made anew from what they stored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import show


def report(
    runs: Annotated[list[Path], typer.Argument(help="One run, or several to set side by side.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write; by default the run's own report.html, "
            "or comparison.html for several runs."
        ),
    ] = None,
) -> None:
    """Write the report of a run, or of several runs side by side."""
    from broca.report.runs import write_report
    from broca.store import RunFolder

    folders = [RunFolder.open(path) for path in runs]
    for folder in folders:
        folder.require_whole()
    if out is None and len(folders) > 1:
        out = Path("comparison.html")
    path = write_report(folders, out)
    if out is None:
        folders[0].finish()  # the manifest names the page's hash
    show(f"Report: {path}")
