"""`broca run`: a recipe from facts to report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from broca.cli.output import say, show

Result = TypeVar("Result")

Model = Annotated[
    str | None, typer.Option("--model", help="Hub name, folder of save_pretrained, or 'atlas'.")
]
Facts = Annotated[str | None, typer.Option("--facts", help="Folder or file of facts, or 'atlas'.")]
Recipe = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A TOML file, or the config.toml of a run.")
]
Out = Annotated[Path | None, typer.Option(help="Run folder; a new one in runs/ if left out.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value laid over the recipe; repeatable.")
]


def run(
    recipe: Recipe,
    model: Model = None,
    facts: Facts = None,
    settings: Settings = None,
    out: Out = None,
) -> None:
    """Run a recipe: find neurons, switch them, measure, report. Resumes an unfinished run."""
    from broca.recipes import load_recipe
    from broca.run import default_folder, execute, read_job

    overrides = [
        *([f"model={model}"] if model else []),
        *([f"facts={facts}"] if facts else []),
        *(settings or []),
    ]
    job = read_job(load_recipe(recipe, overrides), where=str(recipe))
    out = out or default_folder(recipe.stem)
    say(f"Run folder: {out}")
    again = ["broca", "run", str(recipe), *_options(model, facts, settings), "--out", str(out)]
    folder = resumable(lambda: execute(job, out), again)
    finish(folder)


def _options(model: str | None, facts: str | None, settings: list[str] | None) -> list[str]:
    given = [("--model", model), ("--facts", facts), *(("--set", item) for item in settings or [])]
    return [text for name, value in given if value for text in (name, value)]


def resumable(work: Callable[[], Result], again: list[str]) -> Result:
    """Do work that keeps what it finishes; when interrupted, tell how to go on."""
    try:
        return work()
    except KeyboardInterrupt:
        say(f"Interrupted. Finished work is kept; resume with: {shlex.join(again)}")
        raise typer.Exit(130) from None


def finish(folder) -> None:
    """Tell the main findings of a finished run, and where its report is."""
    findings = folder.read_json("findings.json")
    for study in folder.config["studies"]:
        for words in findings[study]["words"][:3]:
            show(words)
    seconds = folder.summary.get("seconds")
    say(f"Took {seconds:.0f} s." if seconds is not None else "Done.")
    show(f"Report: {folder.path / 'report.html'}")
