"""`broca find`: neuron sets without the studies that test them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from broca.cli.find_queries import queries
from broca.cli.output import say, show
from broca.cli.run import (
    MODEL_HELP,
    Accept,
    Address,
    EngineKind,
    FormOption,
    GpusPerWorker,
    MaxMemory,
    Shots,
    Workers,
    asking_overrides,
    engine_settings,
)

app = typer.Typer(help="Find neurons and write them as neuron sets.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Neurons of relations, or of queries."""


app.command("queries")(queries)


@app.command("relations")
def relations(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    facts: Annotated[
        str, typer.Option(help="Folder or file of facts, 'lre', 'atlas' or 'auto'.")
    ] = "auto",
    form: FormOption = None,
    shots: Shots = None,
    relation: Annotated[
        list[str] | None,
        typer.Option(help="Write only this relation's set; repeatable. All serve as negatives."),
    ] = None,
    top: Annotated[str, typer.Option(help="Neurons per set: number, share, or 'auto'.")] = "auto",
    sites: Annotated[str | None, typer.Option(help="Such as gate,up,down.")] = None,
    method: Annotated[
        str, typer.Option(help="'expertise' (average precision), or a locator: docs/locators.md.")
    ] = "expertise",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Further settings, key=value; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the set files.")] = Path("neurons"),
    accept: Accept = False,
    engine: EngineKind = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    max_memory: MaxMemory = None,
) -> None:
    """Write one neuron set file per relation: its neurons of the highest score."""
    from broca.recipes import apply_overrides
    from broca.run import ModelSettings, find_relations, read_job

    overrides = [f"k={top}", *([f"sites={sites}"] if sites else [])]
    overrides += [*asking_overrides(form, shots), *(settings or [])]
    overrides += engine_settings(engine, workers, gpus_per_worker, address, max_memory)
    values = {"studies": ["relations.intra"], "model": model, "facts": facts}
    job = read_job(apply_overrides(values, overrides), where="command line")
    assert isinstance(job.model, ModelSettings)
    written = find_relations(job, out, relation, tell=say, method=method, accept_versions=accept)
    score = "average precision" if method == "expertise" else method
    for path, neurons in written.items():
        show(
            f"{path}: {len(neurons)} neurons, {score} from {neurons.scores.max():.3f} "
            f"to {neurons.scores.min():.3f}"
        )
    one = shlex.join(["--model", model, "--off", str(next(iter(written), "SET.json"))])
    say(f'Try one: broca ask "..." {one}')
