"""`broca check`: what of a run is damaged, and what is computed again."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import say, show


def check(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
) -> None:
    """Compare runs with their checksums; exit code 1 if something is damaged."""
    from broca.errors import RunError
    from broca.store import find_damage, is_run

    damaged_runs = 0
    for path in runs:
        if not is_run(path):
            raise RunError("this is no run folder", str(path), "Give folders of runs: broca ls")
        damaged = find_damage(path)
        finished = "finished" if (path / "manifest.json").exists() else "unfinished"
        if not damaged:
            show(f"{path}: {finished}, all files as they were written")
            continue
        damaged_runs += 1
        show(f"{path}: {finished}, {len(damaged)} files damaged")
        for each in damaged:
            show(f"  {each}; computed again: {each.again}")
        again = shlex.join(["broca", "run", str(path / "config.toml"), "--out", str(path)])
        say(f"Mend it by the command it was begun with, or: {again}")
    if damaged_runs:
        raise typer.Exit(1)
