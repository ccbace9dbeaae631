"""`broca find queries`: the neurons behind each answer, without the studies that test them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    asking_options,
    asking_overrides,
    engine_options,
    engine_settings,
    resumable,
)


def queries(
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "atlas",
    questions: Annotated[
        str, typer.Option(help="File of questions (.json, .jsonl, .csv, .tsv), or 'atlas'.")
    ] = "atlas",
    column: Annotated[
        list[str] | None,
        typer.Option(help="ours=theirs, such as question=prompt; repeatable."),
    ] = None,
    answer: Annotated[
        str, typer.Option(help="letters, words, or auto: letters where chosen above chance.")
    ] = "auto",
    facts: Annotated[
        str, typer.Option(help="What is asked in words: auto, questions, atlas, lre, or a file.")
    ] = "auto",
    form: FormOption = None,
    shots: Shots = None,
    top: Annotated[int, typer.Option(help="Neurons per query, before common ones go.", min=1)] = 20,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Besides NA-ICA: one of its baselines, or a locator such as exact "
            "(docs/locators.md); repeatable. By default all baselines."
        ),
    ] = None,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Render through the tokenizer's chat template.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Further settings, key=value; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("query-neurons"),
    accept: Accept = False,
    engine: EngineKind = None,
    workers: Workers = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    max_memory: MaxMemory = None,
) -> None:
    """Find every query's neurons by NA-ICA and other methods; one Parquet file and a report.

    Every method gives a query as many neurons as NA-ICA finds.
    """
    from broca.recipes import apply_overrides
    from broca.run import execute, read_job
    from broca.scores import QuerySets

    values = {
        "studies": ["queries.find"],
        "model": model,
        "questions": questions,
        "answer": answer,
        "facts": facts,
        "v": top,
        "chat_template": chat_template,
        **({"columns": _columns(column)} if column else {}),
        **({"methods": list(dict.fromkeys(["na-ica", *method]))} if method else {}),
    }
    where = (engine, workers, gpus_per_worker, address, max_memory)
    overrides = [*asking_overrides(form, shots), *(settings or []), *engine_settings(*where)]
    job = read_job(apply_overrides(values, overrides), where="command line")
    again = ["broca", "find", "queries", "--model", model, "--questions", questions]
    again += ["--answer", answer, "--facts", facts, *asking_options(form, shots)]
    again += ["--top", str(top), *(["--chat-template"] if chat_template else [])]
    again += [part for one in column or [] for part in ("--column", one)]
    again += [part for one in method or [] for part in ("--method", one)]
    again += [part for one in settings or [] for part in ("--set", one)]
    again += engine_options(*where)
    again += ["--accept"] if accept else []
    say(f"Run folder: {out}")
    folder = resumable(
        lambda: execute(job, out, accept_versions=accept), [*again, "--out", str(out)]
    )
    for words in folder.read_json("findings.json")["queries.find"]["words"]:
        show(words)
    path = folder.path / "sets" / "queries.parquet"
    sets = QuerySets.load(path)
    show(f"Neurons of {len(sets.queries)} queries by {len(sets.methods)} methods: {path}")
    show(f"Report: {folder.path / 'report.html'}")


def _columns(given: list[str]) -> dict[str, str | list[str]]:
    """Column mappings as typed; several columns for one of ours are separated by commas."""
    from broca.errors import QuestionsError

    columns: dict[str, str | list[str]] = {}
    for one in given:
        ours, equals, theirs = one.partition("=")
        if not equals or not ours or not theirs:
            raise QuestionsError(
                "a column mapping must look like ours=theirs", one, "For example question=prompt"
            )
        names = theirs.split(",")
        columns[ours] = names if len(names) > 1 else theirs
    return columns
