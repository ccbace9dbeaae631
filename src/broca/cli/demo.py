"""`broca demo`: the embedded model, its facts, and a report in a few minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import say
from broca.cli.run import Accept, finish, resumable
from broca.processes import usable_cores

LOOK_SECONDS = 0.2  # between two looks whether the run has begun


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    accept: Accept = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat a finished demo.")] = False,
) -> None:
    """Find relation neurons and query neurons of the embedded model, and switch them.

    A second process takes part where the machine has a second core.
    """
    # on a model as small as atlas a second thread costs more than it brings; a process does not
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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
        with helped(recipe, out, ["--accept"] if accept else []):
            folder = resumable(
                lambda: execute(job, out, accept_versions=accept),
                ["broca", "demo", "--out", str(out), *(["--accept"] if accept else [])],
            )
    finish(folder)


@contextmanager
def helped(recipe: Path, out: Path, options: Sequence[str] = ()) -> Iterator[None]:
    """A second process takes part in a run from its beginning to its end, or to the block's."""
    if usable_cores() < 2:
        yield
        return
    ended = threading.Event()
    command = [sys.executable, "-m", "broca", "run", str(recipe), "--out", str(out), "--join"]
    starter = threading.Thread(target=_help, args=([*command, *options], out, ended), daemon=True)
    starter.start()
    try:
        yield
    finally:
        ended.set()
        starter.join()


def _help(command: Sequence[str], out: Path, ended: threading.Event) -> None:
    """Start the process once the run has begun, and end it when the block has ended.

    What it says is not shown: whatever goes wrong there is computed here, and told here.
    """
    from broca.store import is_run

    while not is_run(out):
        if ended.wait(LOOK_SECONDS):
            return
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as helper:
        ended.wait()
        helper.terminate()
