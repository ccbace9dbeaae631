"""One run from its job to its report; an unfinished one goes on where it stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from broca.engines import Engine
from broca.errors import EngineError
from broca.model import LanguageModel
from broca.progress import step
from broca.run.bench import RunBench
from broca.run.choice_bench import ChoiceBench
from broca.run.clock import Clock
from broca.run.environment import environment_of
from broca.run.job import Job
from broca.run.placing import placed, progress_stored, wait_until_finished
from broca.run.workers import note_workers, with_workers
from broca.store import RunFolder
from broca.studies import load_family
from broca.studies.study import Findings

BENCHES = {"queries": ChoiceBench}
"""Families whose measurements are not answers in words."""

FINDINGS, CONDITIONS = "findings.json", "conditions.json"


def default_folder(name: str) -> Path:
    """A new folder for a run of this name, by date and time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def execute(
    job: Job,
    path: str | Path,
    *,
    model: LanguageModel | None = None,
    engine: Engine | None = None,
    report: bool = True,
    tell: Callable[[str], None] | None = None,
    accept_versions: bool = False,
    join: bool = False,
) -> RunFolder:
    """Run a job in a folder.

    1. What can be refused without the model is refused (`Job.check`).
    2. The folder is begun, or resumed if an unfinished run with the same settings is there.
    3. Each family prepares its material; each study is measured and summarised.
    4. Findings, summary and report are written; the manifest last.

    Args:
        job: What to run.
        path: The run folder.
        model: A loaded model in place of the one the job names.
        engine: Where to compute; as the job says by default.
        report: Whether to write the page.
        tell: Told, in sentences, what the preparation decided: the form of asking, with a prompt.
        accept_versions: Go on with rows that other versions of broca, torch or transformers have
            computed.
        join: Take part in the run if another process is writing it: compute what nobody has
            claimed, and return when all is measured and written.

    Raises:
        BrocaError: Whatever is wrong with folder, model, facts or settings.
    """
    job.check(embedded=None if model is None else model.is_embedded)
    if join and job.engine.kind == "ray":
        raise EngineError(
            "a process that joins a run computes by itself, not by Ray",
            mend="Leave out --join or --engine ray; more workers of Ray are had by --workers",
        )
    begun = RunFolder.join if join else RunFolder.begin
    folder = begun(path, job.as_config())
    if folder.finished:
        folder.forget_joined()
        return folder
    clock = Clock(folder)
    with folder, clock, progress_stored(folder, clock):
        options = {"join": join, "accept_versions": accept_versions}
        with placed(job, folder, model, engine, **options) as (model, chosen):
            environment = with_workers(environment_of(model), folder, chosen)
            folder.write_environment(environment, accept_versions=accept_versions)
            try:
                findings, benches = _measured(job, model, folder, chosen, tell)
            finally:
                note_workers(folder, chosen)
        if not folder.joined:
            folder.write_json(CONDITIONS, _conditions(benches))
            folder.add_prompts(prompt for bench in benches for prompt in bench.asked.values())
            folder.write_json(FINDINGS, {name: _plain(found) for name, found in findings.items()})
            folder.write_summary(_summary(folder, findings, benches, clock.seconds))
            if report:
                with step("Writing the page"):
                    from broca.report.runs import write_report  # charts take seconds to load

                    write_report([folder])
            clock.store()
            folder.finish()
    if folder.joined and not wait_until_finished(folder):
        # whoever began it is gone: all is measured, what is left is to write it
        return execute(
            job,
            path,
            model=model,
            engine=engine,
            report=report,
            accept_versions=accept_versions,
            join=True,
        )
    if folder.joined:
        folder.forget_joined()
    return folder


def _measured(
    job: Job,
    model: LanguageModel,
    folder: RunFolder,
    engine: Engine,
    tell: Callable[[str], None] | None,
) -> tuple[dict[str, Findings], list[RunBench]]:
    """Prepare, measure and summarise; a process that joined leaves the summary to another."""
    findings: dict[str, Findings] = {}
    benches = []
    for name, settings in job.settings.items():
        family = load_family(name)
        bench = BENCHES.get(name, RunBench)(
            model,
            folder,
            engine,
            getattr(settings, "batch_size", 64),
            getattr(settings, "match", "auto"),
        )
        benches.append(bench)
        material = family.prepare(settings, bench)
        introduced = family.introduce(material)
        findings |= introduced
        for words in (text for found in introduced.values() for text in found.words):
            if tell is not None:
                tell(words)
        for study in job.studies_of(name):
            results = bench.measure(study.name, study.plan(material, bench))
            if not folder.joined:
                with step(f"Summarising {study.name}"):
                    findings[study.name] = study.summarise(material, results)
    return findings, benches


def _conditions(benches: Sequence[RunBench]) -> dict[str, Any]:
    """What was asked, and under which keys its rows are kept."""
    return {
        "conditions": [record for bench in benches for record in bench.declared],
        "groups": {study: groups for bench in benches for study, groups in bench.groups.items()},
    }


def _plain(found: Findings) -> dict[str, Any]:
    """Findings as JSON: numbers that are not finite become null."""
    return {
        "figures": _finite(found.figures),
        "tables": _finite(found.tables),
        "words": list(found.words),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a numpy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(
    folder: RunFolder,
    findings: Mapping[str, Findings],
    benches: Sequence[RunBench],
    seconds: float,
) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for found in findings.values():
        figures |= found.figures
    needed = sum(len(bench.needed) for bench in benches)
    computed = folder.rows.count()
    return {
        **figures,
        "rows.computed": computed,
        "rows.needed": needed,
        "rows.computed_per_needed": computed / needed if needed else 1.0,
        "seconds": round(seconds, 2),
    }
