"""The page of a run, or of several runs side by side: sections of every family of studies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broca.report.page import Answer, PageHeader, Section, build_page
from broca.report.parts.compared import shared_answers, shared_figures
from broca.report.parts.figure import Figure
from broca.report.parts.study import families, family_notices, find_report
from broca.report.parts.tables import Column, Table, settings_table
from broca.report.stored_run import StoredRun
from broca.store import PAGE_MARK, RunFolder, refuse_overwriting, replacing
from broca.store.damage import REPORT

MOST_ANSWERS = 6  # on the first screen


@dataclass
class Part:
    """What studies add to a page.

    Attributes:
        answers: For the first screen, by family.
        figures: For the first screen, one per family.
        sections: Below it.
        notices: What a reader must know first.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def write_report(runs: Sequence[RunFolder], path: str | Path | None = None) -> Path:
    """Write the page of one run into its folder, or of one or several runs to a path.

    Nothing is computed: the page shows what the runs have stored.

    Raises:
        RunError: A file of a run is missing, the page cannot be written, or something stands in
            its place that broca did not write.
    """
    if path is not None:
        refuse_overwriting(Path(path), PAGE_MARK)
    stored = [StoredRun(run) for run in runs]
    page = _single(stored[0]) if len(stored) == 1 else _side_by_side(stored)
    target = Path(path) if path is not None else runs[0].path / REPORT
    with replacing(target) as beside:
        beside.write_text(page, encoding="utf-8", newline="")
    return target


def parts_of(run: StoredRun) -> Part:
    """What the studies of a run show, put together in their order."""
    whole, pictured = Part(notices=_coverage_notices(run)), set()
    for family in dict.fromkeys(study.partition(".")[0] for study in run.studies):
        whole.notices += family_notices(family, run)
    for study in run.studies:
        shown = find_report(study)
        if shown is not None:
            whole.notices += shown.notices(run, study)
            family = study.partition(".")[0]
            first = family not in pictured
            pictures = shown.pictures(run, study)[:1] if first else []
            pictured |= {family} if pictures else set()
            whole.figures += pictures
            whole.answers.setdefault(family, []).extend(shown.answers(run, study))
            whole.sections += shown.sections(run, study)
    return whole


def _coverage_notices(run: StoredRun) -> list[str]:
    """What of the model its neurons leave out; runs of earlier versions do not tell."""
    found = run.environment.get("coverage")
    if not found:
        return []
    missing = found["of_parameters"] - found["parameters"]
    if found["complete"] and found["layers"] == found["of_layers"]:
        return []
    counts = (
        f"neurons in {found['parameters']:,} of {found['of_parameters']:,} MLP parameters, "
        f"{found['layers']} of {found['of_layers']} layers"
    )
    why = (
        f"{missing / found['of_parameters']:.1%} of its MLP parameters were not searched."
        if missing > 0
        else "The other layers have no MLP."
    )
    return [f"Coverage of {run.environment['model']}: {counts}. {why}"]


def _most_asked(answers: Mapping[str, Sequence[Answer]]) -> tuple[list[Answer], list[Answer]]:
    """The answers there is room for, each family's first ones, and the others."""
    room = MOST_ANSWERS // max(1, len(answers))
    first = [answer for listed in answers.values() for answer in listed[:room]]
    rest = [answer for listed in answers.values() for answer in listed[room:]]
    spare = MOST_ANSWERS - len(first)
    return first + rest[:spare], rest[spare:]


def _single(run: StoredRun) -> str:
    part, config = parts_of(run), run.folder.config
    first, further = _most_asked(part.answers)
    header = PageHeader(
        title=str(config.get("title") or f"{run.environment['model']}: neurons"),
        subtitle=_subtitle(run),
        answers=first,
        further=further,
        figures=part.figures,
        facts=_facts(run),
        command=shlex.join(
            ["broca", "run", str(run.folder.path.absolute() / "config.toml"), "--out", "runs/again"]
        ),
        notices=part.notices,
    )
    return build_page([*part.sections, _provenance(run)], header)


def _side_by_side(runs: Sequence[StoredRun]) -> str:
    names = [_label(run, runs) for run in runs]
    keys = list(dict.fromkeys(key for run in runs for key in run.summary))
    table = Table(
        ("figure", *names),
        [(key, *(run.summary.get(key) for run in runs)) for key in keys],
        "Every figure of every run.",
        folded=True,
        name="figures",
    )
    sections = [Section("All figures", tables=[table])]
    by_run = {}
    for name, run in zip(names, runs, strict=True):
        part = parts_of(run)
        by_run[name] = [one for listed in part.answers.values() for one in listed]
        sections.append(
            Section(name, figures=part.figures, text=[w for s in part.sections for w in s.text])
        )
    answers = shared_answers(by_run)
    header = PageHeader(
        title=f"{len(runs)} runs side by side",
        subtitle=", ".join(names),
        answers=answers[:MOST_ANSWERS],
        further=answers[MOST_ANSWERS:],
        figures=shared_figures(dict(zip(names, runs, strict=True))),
        facts=[(name, str(run.folder.path)) for name, run in zip(names, runs, strict=True)],
        command=shlex.join(["broca", "report", *(str(r.folder.path.absolute()) for r in runs)]),
    )
    return build_page(sections, header)


def _label(run: StoredRun, runs: Sequence[StoredRun]) -> str:
    model = str(run.environment["model"]).rstrip("/").rpartition("/")[2]
    models = [str(r.environment["model"]).rstrip("/").rpartition("/")[2] for r in runs]
    return model if models.count(model) == 1 else f"{model} ({run.folder.path.name})"


def _subtitle(run: StoredRun) -> str:
    about = run.environment
    return (
        f"{about['model']} ({about['architecture']}, {about['n_layers']} layers, "
        f"{about['parameters']:,} parameters)."
    )


def _facts(run: StoredRun) -> list[tuple[str, str]]:
    about = run.environment
    facts = [("model", str(about["model"])), ("weights", str(about["fingerprint"]))]
    for key in ("facts", "questions", "seed"):
        values = {str(run.setting(family, key)): None for family in families()}
        told = [value for value in values if value not in ("None", "auto")]
        facts += [(key, ", ".join(told))] if told else []
    seconds = run.summary.get("seconds")
    if seconds is not None:
        facts.append(("time", f"{seconds:.0f} s"))
    return facts


def _provenance(run: StoredRun) -> Section:
    rows = run.summary
    text = []
    if rows.get("rows.needed"):
        text.append(
            f"{rows['rows.computed']:,} rows were computed for {rows['rows.needed']:,} pairs of "
            "prompt and intervention."
        )
    return Section(
        "Settings and versions",
        text=text,
        tables=[
            settings_table(run.folder.config, "Settings of the run (config.toml)"),
            settings_table(run.environment, "Model, versions, machine (environment.json)"),
            Table(
                ("figure", Column("value")),
                [(key, value) for key, value in run.summary.items()],
                "All figures (summary.json)",
                folded=True,
                name="summary",
            ),
        ],
    )
