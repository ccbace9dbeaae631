"""`broca bench`: what methods are worth, measured."""

from __future__ import annotations

from typing import Annotated

import typer

from broca.cli.output import say
from broca.cli.run import MODEL_HELP, Accept, Out, Settings, finish, resumable, show_dry_run

QUICK = {
    "n_prompts": 5,
    "n_injected": 6,
    "n_planted": 5,
    "n_others": 12,
    "n_judged": 4,
    "mask_steps": 40,
}
"""What a quick bench does less."""

app = typer.Typer(help="Measure what methods are worth.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Methods against the truth."""


@app.command("locators")
def locators(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    facts: Annotated[
        str, typer.Option(help="Folder or file of facts, 'lre', 'atlas' or 'auto'.")
    ] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="A few prompts and facts only.")] = False,
    settings: Settings = None,
    out: Out = None,
    accept: Accept = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the work and estimate the time.")
    ] = False,
) -> None:
    """Judge every locator: exact effects, joint effects, injected facts, deletion, planted neurons.

    Such as --set n_injected=10 --set locators=ig,slimming,random. Resumes an unfinished run.
    """
    from broca.recipes import apply_overrides
    from broca.run import default_folder, execute, read_job
    from broca.studies import load_family

    studies = list(load_family("locators").studies)
    values = {"studies": studies, "model": model, "facts": facts, **(QUICK if quick else {})}
    job = read_job(apply_overrides(values, settings or []), where="command line")
    if dry_run:
        show_dry_run(job)
        return
    out = out or default_folder("bench-locators")
    say(f"Run folder: {out}")
    again = ["broca", "bench", "locators", "--model", model, "--facts", facts]
    again += ["--quick"] if quick else []
    again += [part for one in settings or [] for part in ("--set", one)]
    again += ["--out", str(out), *(["--accept"] if accept else [])]
    finish(resumable(lambda: execute(job, out, accept_versions=accept), again))
