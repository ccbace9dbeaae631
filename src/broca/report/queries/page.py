"""The first screen and the sections of the query studies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.page import Answer, Section
from broca.report.queries import tables
from broca.report.queries.applications import application_answers, application_sections
from broca.report.queries.figures import (
    BY,
    EFFECT,
    FIND,
    FREE,
    LANGUAGES,
    PARITY,
    convergence_figure,
    counts_figure,
    difference_figure,
    effect_figure,
    fields_figure,
    free_figure,
    layers_figure,
    probability_figure,
    whole,
)
from broca.report.queries.regions import region_answers, region_sections
from broca.report.runs import Part, StoredRun

CLAIMS = {
    EFFECT: "The neurons found for a query change the probability of its right answer, more than "
    "that of answers in other fields.",
    LANGUAGES: "The neurons found for a query in one language change its answer, more than answers "
    "in other languages.",
}
TITLES = {EFFECT: "Query neurons by field", LANGUAGES: "Query neurons by language"}


def report_part(run: StoredRun) -> Part:
    """All that the query studies show of a run."""
    part = Part()
    for study in (EFFECT, LANGUAGES):
        if study in run.findings:
            part.notices += _near_chance(run, study)
            part.answers.append(_effect_answer(run, study))
            part.figures.append(difference_figure(run, study, narrow=True))
            part.sections += [_effect_section(run, study), _neurons_section(run, study)]
    if FIND in run.findings:
        part.notices += _near_chance(run, FIND)
        part.sections.append(_neurons_section(run, FIND))
    first = next((study for study in (EFFECT, FIND, LANGUAGES) if study in run.findings), None)
    if first:
        part.answers.append(_trust_answer(run, first))
    part.answers += region_answers(run)
    part.sections += region_sections(run)
    part.answers += application_answers(run)
    part.sections += application_sections(run)
    if FREE in run.findings:
        part.sections.append(_free_section(run))
    if PARITY in run.findings:
        part.sections.append(
            Section(
                "Beside a published run",
                "With the released code's settings, broca finds the clusters it found.",
                run.words(PARITY),
                tables=tables.parity_tables(run),
            )
        )
    return part


# ---- first screen


def _near_chance(run: StoredRun, study: str) -> list[str]:
    whole_run = run.table(study, "accuracy")[:1]
    return [
        f"The model answers the questions near chance ({record['accuracy']:.0%} right, guessing "
        f"gives {record['chance']:.0%}): no conclusions about knowledge are drawn from the query "
        f"neurons by {BY[study]}."
        for record in whole_run
        if record["near_chance"]
    ]


def _effect_answer(run: StoredRun, study: str) -> Answer:
    question = f"Do query neurons carry their answer, by {BY[study]}?"
    record = _own(run, study, "suppress")
    accuracy = run.table(study, "accuracy")[0]
    detail = (
        f"Suppressed, a query's own neurons change P of its answer by {record['related']:+.1%}, "
        f"those of other {BY[study]}s by {record['unrelated']:+z.2%} (n = {record['n']})."
    )
    if accuracy["near_chance"]:
        return Answer(question, "This run cannot tell: near chance", detail)
    above = (record["difference_low"] or 0.0) > 0 and record["related"] < 0
    beyond = [
        r["method"]
        for r in run.table(study, "paired")
        if r["action"] == "suppress" and (r["gap_low"] or 0.0) > 0
    ]
    others = sum(r["action"] == "suppress" for r in run.table(study, "paired"))
    return Answer(
        question,
        "Yes" if above else "Not shown",
        f"{detail} NA-ICA exceeds {len(beyond)} of {others} other methods"
        f"{': ' + ', '.join(beyond) if beyond else ''}.",
        "yes" if above and len(beyond) == others else "mixed" if above else "no",
    )


def _own(run: StoredRun, study: str, action: str) -> Mapping[str, Any]:
    return next(r for r in whole(run, study) if r["method"] == "na-ica" and r["action"] == action)


def _trust_answer(run: StoredRun, study: str) -> Answer:
    prefix = "queries.languages.attribution" if study == LANGUAGES else "attribution"
    share = run.summary.get(f"{prefix}.converged_share")
    if share is None:
        return Answer("Can the attributions be trusted?", "There is nothing to attribute")
    return Answer(
        "Can the attributions be trusted?",
        f"On {share:.1%} of the prompts",
        "There, sums agree with the measured change within 1 % and every neuron with a second "
        "rule within 2 % of the largest.",
        "yes" if share >= 0.9 else "mixed" if share >= 0.5 else "no",
    )


# ---- sections


def _effect_section(run: StoredRun, study: str) -> Section:
    return Section(
        TITLES[study],
        CLAIMS[study],
        run.words(study),
        figures=[
            effect_figure(run, study),
            difference_figure(run, study),
            fields_figure(run, study),
            probability_figure(run, study),
        ],
        tables=[
            tables.effects_table(run, study),
            tables.paired_table(run, study),
            tables.accuracy_table(run, study),
            tables.fields_table(run, study),
            tables.probability_table(run, study),
        ],
        notes=[
            "PCR divides by |Unrelated|: where that is near 0, PCR is noise; read the difference "
            "and its interval.",
            *(r["note"] for r in run.table(study, "published_notes")),
        ],
    )


def _neurons_section(run: StoredRun, study: str) -> Section:
    return Section(
        f"The neurons of each query, by {BY[study]}",
        "Few neurons per query, in few layers; attributions whose accuracy is known per prompt.",
        [] if study in (EFFECT, LANGUAGES) else run.words(study),
        figures=[
            counts_figure(run, study),
            layers_figure(run, study),
            convergence_figure(run, study),
        ],
        tables=[
            *([] if study in (EFFECT, LANGUAGES) else [tables.accuracy_table(run, study)]),
            tables.counts_table(run, study),
            tables.convergence_table(run, study),
            tables.queries_table(run, study),
            tables.common_table(run, study),
        ],
    )


def _free_section(run: StoredRun) -> Section:
    shown = bool(run.table(FREE, "totals"))
    return Section(
        "Proxy against free form",
        "The letter of a multiple-choice question points to the neurons of the answer itself.",
        run.words(FREE),
        figures=[free_figure(run)] if shown else [],
        tables=[tables.free_table(run)] if shown else [],
        notes=[
            "Free form: the question without options; the sum over the answer's tokens of each "
            "token's attribution in log P.",
        ],
    )
