"""`broca build`: data made into files that studies read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.output import show

app = typer.Typer(help="Make data into files that studies read.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `build` a group of commands while it has one."""


@app.command("questions")
def questions(
    recipe: Annotated[Path, typer.Argument(help="A TOML file that names mapping and source.")],
    out: Annotated[
        Path | None, typer.Option(help="JSONL file to write; beside the recipe if left out.")
    ] = None,
) -> None:
    """Make multiple-choice questions of a public data set, from the hub or local files."""
    from broca.errors import QuestionsError
    from broca.questions import build_question_file, load_questions
    from broca.store import refuse_overwriting

    if not recipe.is_file():
        raise QuestionsError("there is no such recipe", str(recipe), "Give a TOML file")
    out = out or recipe.with_suffix(".jsonl")
    refuse_overwriting(out)
    path = build_question_file(recipe, out)
    built = load_questions(path)
    fields = ", ".join(dict.fromkeys(question.field for question in built))
    show(f"{path}: {len(built)} questions of {fields}")
    show(f"Find their neurons: broca find queries --model M --questions {shlex.quote(str(path))}")
