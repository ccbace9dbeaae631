"""`broca demo`: the embedded model, its facts, and a report in a few minutes."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import say
from broca.cli.run import Accept, finish, resumable


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    accept: Accept = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat a finished demo.")] = False,
) -> None:
    """Find relation neurons and query neurons of the embedded model, and switch them."""
    from broca.recipes import load_recipe
    from broca.run import execute, read_job
    from broca.store import RunFolder, find_damage, is_run

    with as_file(files("broca") / "cli" / "demo.toml") as recipe:
        job = read_job(load_recipe(recipe), where="the demo's recipe")
    if is_run(out) and RunFolder.open(out).finished and not find_damage(out):
        if not again:
            say(f"The demo in {out} is finished; --again repeats it.")
            finish(RunFolder.open(out))
            return
        RunFolder.open(out).remove()
    say(f"Run folder: {out}")
    folder = resumable(
        lambda: execute(job, out, accept_versions=accept), ["broca", "demo", "--out", str(out)]
    )
    finish(folder)
