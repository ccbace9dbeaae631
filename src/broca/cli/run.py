"""`broca run`: a recipe from facts to report."""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from broca.cli.output import say, show

Result = TypeVar("Result")

MODEL_HELP = "Hub name, folder, .gguf file, adapter folder, or 'atlas'."
Model = Annotated[str | None, typer.Option("--model", help=MODEL_HELP)]
Facts = Annotated[
    str | None, typer.Option("--facts", help="Folder or file of facts, 'lre', 'atlas' or 'auto'.")
]
Recipe = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A TOML file, or the config.toml of a run.")
]
FormOption = Annotated[
    str | None,
    typer.Option(
        "--form",
        help="Form of asking: auto, question, cloze, few-shot, few-shot-other, chat, or a text "
        "with {wording}.",
    ),
]
Shots = Annotated[
    int | None, typer.Option("--shots", help="Demonstrations of the few-shot forms.", min=1)
]
Out = Annotated[Path | None, typer.Option(help="Run folder; a new one in runs/ if left out.")]
EngineKind = Annotated[
    str | None, typer.Option("--engine", help="Where to compute: local (default) or ray.")
]
Workers = Annotated[int | None, typer.Option(help="Workers of --engine ray.")]
GpusPerWorker = Annotated[float | None, typer.Option(help="GPUs of each worker of --engine ray.")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto, host:port or ray://host:port.")
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="Most memory of each process for weights and batches, such as 8G (on GPUs: of each "
        "GPU); batches shrink to fit."
    ),
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value laid over the recipe; repeatable.")
]


Accept = Annotated[
    bool,
    typer.Option("--accept", help="Go on with rows computed by other versions of the packages."),
]


def run(
    recipe: Recipe,
    model: Model = None,
    facts: Facts = None,
    form: FormOption = None,
    shots: Shots = None,
    settings: Settings = None,
    out: Out = None,
    accept: Accept = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only count conditions, and estimate time and memory; with --out, the run says "
            "at its end how far off that was.",
        ),
    ] = False,
    engine: EngineKind = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    max_memory: MaxMemory = None,
    join: Annotated[
        bool,
        typer.Option("--join", help="Take part in the run that another process began in --out."),
    ] = False,
) -> None:
    """Run a recipe: find neurons, switch them, measure, report. Resumes an unfinished run."""
    from broca.errors import EngineError
    from broca.recipes import load_recipe
    from broca.run import default_folder, execute, read_job
    from broca.store.files import write_json

    overrides = [
        *([f"model={model}"] if model else []),
        *([f"facts={facts}"] if facts else []),
        *asking_overrides(form, shots),
        *(settings or []),
        *engine_settings(engine, workers, gpus_per_worker, address, max_memory),
    ]
    job = read_job(load_recipe(recipe, overrides), where=str(recipe))
    if dry_run:
        seconds = show_dry_run(job)
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            said = {"seconds": round(seconds, 1), "settings": settings_text(job.as_config())}
            write_json(estimate_file(out), said)
            say(f"The run in {out} will say how far off this was.")
        return
    if join and out is None:
        raise EngineError("--join needs the run folder that is shared", mend="Give it with --out")
    out = out or default_folder(recipe.stem)
    say(f"Run folder: {out}")
    again = [
        "broca",
        "run",
        str(recipe),
        *_options(model, facts, form, shots, settings),
        *engine_options(engine, workers, gpus_per_worker, address, max_memory),
        "--out",
        str(out),
        *(["--join"] if join else []),
        *(["--accept"] if accept else []),
    ]
    work = partial(execute, job, out, tell=say, accept_versions=accept, join=join)
    folder = resumable(work, again)
    finish(folder)
    tell_how_far_off(folder)


def engine_settings(
    engine: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
    address: str | None,
    max_memory: str | None,
) -> list[str]:
    """The options about the engine as overrides of a recipe."""
    given = {
        "kind": engine,
        "workers": workers,
        "gpus_per_worker": gpus_per_worker,
        "address": address,
        "max_memory": max_memory,
    }
    return [f"engine.{name}={value}" for name, value in given.items() if value is not None]


def engine_options(
    engine: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
    address: str | None,
    max_memory: str | None,
) -> list[str]:
    """The options about the engine as they were given."""
    found = []
    for setting in engine_settings(engine, workers, gpus_per_worker, address, max_memory):
        name, _, value = setting.removeprefix("engine.").partition("=")
        found += ["--engine" if name == "kind" else f"--{name.replace('_', '-')}", value]
    return found


def estimate_file(out: Path) -> Path:
    """Where a dry run leaves its estimate for the run in a folder: beside it."""
    return out.with_name(f"{out.name}.dry.json")


def settings_text(config: Mapping[str, Any]) -> str:
    """Settings as one text, the same from a job and from the run that it became."""
    from broca.store import write_toml

    return write_toml(tomllib.loads(write_toml(config)))


def tell_how_far_off(folder) -> None:
    """Compare the time of a run with what its dry run had said, if there was one of it."""
    path = estimate_file(folder.path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        said = float(stored["seconds"])
        if stored["settings"] != settings_text(folder.config):  # of another run of this name
            return
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return
    took, joined, how = float(folder.summary["seconds"]), *_sittings(folder)
    if joined:
        off = " for a single process"
    else:
        off = f", {abs(said / took - 1):.0%} too {'much' if said > took else 'little'}"
    say(f"It took {took / 60:.1f} minutes{how}; the dry run had said {said / 60:.1f}{off}.")


def _sittings(folder) -> tuple[int, str]:
    """How many further processes took part in a run; and in words how its time was spent."""
    from broca.run.clock import elapsed

    spent = elapsed(folder)
    parts = []
    if spent["sittings"] > 1:
        parts.append(f" in {spent['sittings']} sittings")
    if spent["joined"]:
        parts.append(f" with {spent['joined']} more process{'es' * (spent['joined'] > 1)}")
    return spent["joined"], "".join(parts)


def show_dry_run(job) -> float:
    """Tell what a job would compute; the estimated seconds."""
    from broca.report.parts.tables import Column, Table, as_rich
    from broca.run.dry import dry_run

    found = dry_run(job)
    named = {
        "conditions": "conditions",
        "new": "new",
        "evaluations": "prompt evaluations",
        "recorded": "prompts recorded",
        "attributed": "prompts attributed",
        "located": "prompts judged by locators",
    }
    counts = [[getattr(study, name) for name in named] for study in found.studies]
    rows = [(study.study, *each) for study, each in zip(found.studies, counts, strict=True)]
    total = ("total", *(sum(column) for column in zip(*counts, strict=True)))
    for words in found.words:
        show(words)
    columns = ("study", *(Column(title, "d") for title in named.values()))
    show(as_rich(Table(columns, [*rows, total], "What would be computed")))
    show(
        f"{found.evaluations:,} prompt evaluations for {found.pairs:,} distinct pairs of prompt "
        f"and intervention; {found.recorded:,} prompts recorded, {found.attributed:,} attributed."
    )
    for doubt in found.doubts:
        show(doubt)
    spent = ", ".join(f"{what} {seconds / 60:.1f}" for what, seconds in found.parts.items())
    show(
        f"About {found.seconds / 60:.1f} minutes {_place(found.workers)}, which may be off by "
        f"{found.off:.0%} ({spent}{_of_one(found.workers)}); "
        f"{_memory(found)}, {found.disk_bytes / 2**30:.2f} GiB of "
        "disk. Relations the model does not know, queries that keep no neurons, and sets that hold "
        "the same neurons make it less."
    )
    return found.seconds


def _of_one(workers: int) -> str:
    return "" if workers == 1 else " for a single one"


def _memory(found) -> str:
    """Memory of the one process, or of each worker and of all of them."""
    one = f"{found.memory_bytes / 2**30:.1f} GiB of memory"
    if found.workers == 1:
        return one
    return f"{one} for each worker, {found.total_memory_bytes / 2**30:.1f} GiB for all"


def _place(workers: int) -> str:
    if workers == 1:
        return "on this machine"
    return f"with {workers} workers, each as fast as this machine is"


def asking_overrides(form: str | None, shots: int | None) -> list[str]:
    """The options of asking as settings laid over a recipe."""
    # a form may hold any character: as a TOML string it is read as it was typed
    quoted = [] if form is None else [f"form={json.dumps(form, ensure_ascii=False)}"]
    return [*quoted, *([] if shots is None else [f"shots={shots}"])]


def asking_options(form: str | None, shots: int | None) -> list[str]:
    """The options of asking as they were typed."""
    given = [("--form", form), ("--shots", None if shots is None else str(shots))]
    return [text for name, value in given if value is not None for text in (name, value)]


def _options(
    model: str | None,
    facts: str | None,
    form: str | None,
    shots: int | None,
    settings: list[str] | None,
) -> list[str]:
    given = [("--model", model), ("--facts", facts)]
    set_ = [("--set", item) for item in settings or []]
    return [
        *(text for name, value in given if value for text in (name, value)),
        *asking_options(form, shots),
        *(text for pair in set_ for text in pair),
    ]


def resumable(work: Callable[[], Result], again: list[str]) -> Result:
    """Do work that keeps what it finishes; when interrupted, tell how to go on."""
    try:
        return work()
    except KeyboardInterrupt:
        say(f"Interrupted. Finished work is kept; resume with: {shlex.join(again)}")
        raise typer.Exit(130) from None


def finish(folder) -> None:
    """Tell the main findings of a finished run, and where its report is."""
    for damage in folder.mended:
        say(f"{damage}; it was computed again.")
    findings = folder.read_json("findings.json")
    for study in folder.config["studies"]:
        for words in findings[study]["words"][:3]:
            show(words)
    seconds = folder.summary.get("seconds")
    needed = folder.summary.get("rows.needed")
    if needed:
        computed = folder.summary["rows.computed"]
        say(
            f"{computed:,} prompt evaluations for {needed:,} distinct pairs of prompt and "
            f"intervention: {computed / needed:.3f}."
        )
    say(f"The run took {seconds:.0f} s{_sittings(folder)[1]}." if seconds is not None else "Done.")
    show(f"Report: {folder.path / 'report.html'}")
