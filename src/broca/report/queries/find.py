"""The neurons of each query, and how accurately their attributions are integrated."""

from __future__ import annotations

from broca.estimates import wilson
from broca.report.page import Answer, Section
from broca.report.parts.charts import histogram, neurons_per_layer_and_site
from broca.report.parts.figure import Figure
from broca.report.parts.outcomes import ALL, answered, estimate, grouping, slug
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells, percents, records_table
from broca.report.parts.verdicts import answer
from broca.report.stored_run import StoredRun

FIND = "queries.find"
ACCURATE = 0.9  # share of prompts that must converge
ATTRIBUTED = ("queries.effect", FIND, "queries.languages", "queries.effect.letters")
GUESSING = {
    "letter": "one in as many as there are options",
    "answer": "always the most frequent right answer of the field",
}
WORST = 20  # prompts shown of those that converge worst


def counts_figure(run: StoredRun, study: str) -> Figure:
    """Neurons per query."""
    counts = [record["na-ica"] for record in run.table(study, "counts")]
    return histogram(
        counts,
        title="Neurons per query",
        caption="NA-ICA, after common neurons are removed.",
        value_title="neurons",
        bins=max(1, max(counts, default=1)),
        name=f"neurons-per-query-{slug(study)}",
    )


def layers_figure(run: StoredRun, study: str) -> Figure:
    """In which layers the neurons lie, by method."""
    layers = run.table(study, "layers")
    site = run.setting("queries", "site", "hidden")
    rows = [
        {"panel": r["method"], "layer": r["layer"], "site": site, "count": r["n"]} for r in layers
    ]
    return neurons_per_layer_and_site(
        rows,
        title="Layers",
        caption="Neurons of all queries together, by method; common: the common neurons.",
        n_layers=max((r["layer"] for r in layers), default=0) + 1,
        name=f"layers-{slug(study)}",
    )


def convergence_figure(run: StoredRun, study: str) -> Figure:
    """Both figures of convergence over prompts."""
    prompts = [r for r in run.table(study, "convergence") if not r["without_effect"]]
    return histogram(
        [100 * r["step_change"] for r in prompts],
        title="How far attributions can be trusted",
        caption="Largest change of a neuron between two rules, % of the largest attribution, per "
        "prompt; converged means at most 2 %, and a completeness error of at most 1 %.",
        value_title="change of the worst neuron, %",
        references={"2 %": 2.0},
        name=f"convergence-{slug(study)}",
    )


def accuracy_table(run: StoredRun, study: str) -> Table:
    """What the untouched model answers."""
    columns = [
        grouping(study),
        Column("asked", "d", "queries that the model was asked"),
        Column("kept", "d", "of these, the queries that are studied"),
        Column(f"right {answered(run, study)}s", "percent", "share of all prompts asked"),
        Column("guessing", "percent", GUESSING[answered(run, study)]),
        "near chance",
        Column("mean P", ".3f"),
    ]
    rows = [
        (
            r["field"],
            r["n"],
            r.get("kept", r["n"]),
            estimate(r, "accuracy"),
            r["chance"],
            "yes" if r["near_chance"] else "",
            r["mean_p"],
        )
        for r in run.table(study, "accuracy")
    ]
    return Table(columns, rows, "The untouched model", name=f"accuracy-{slug(study)}")


def counts_table(run: StoredRun, study: str) -> Table:
    """Mean number of neurons per field and method."""
    records = run.table(study, "counts")
    names = [name for name in (records[0] if records else {}) if name not in ("query", "field")]
    rows = []
    for field in [ALL, *dict.fromkeys(r["field"] for r in records)]:
        here = [r for r in records if field in (ALL, r["field"])]
        means = (sum(r[name] for r in here) / max(1, len(here)) for name in names)
        rows.append((field, len(here), *means))
    columns = [grouping(study), Column("queries", "d"), *(Column(name, ".1f") for name in names)]
    return Table(
        columns,
        rows,
        "Neurons per query, mean; cluster: the coarse cluster",
        name=f"counts-{slug(study)}",
    )


def forms_tables(run: StoredRun, study: str) -> list[Table]:
    """The forms of asking that were tried, if the form was chosen."""
    records = run.table(study, "forms")
    if not records:
        return []
    columns = [
        "form",
        Column("asked", "d"),
        Column("right", "percent"),
        Column("right and shown", "d", "the right answer stood among the demonstrations"),
        Column("right and named", "d", "the right answer stands in the subject asked about"),
        "not asked",
        "answers",
    ]
    # runs of earlier versions did not count what could be copied
    keys = ("form", "n", "accuracy", "right_shown", "right_named", "reason")
    rows = [(*(r.get(key) for key in keys), "; ".join(r["examples"])) for r in records]
    title = "Forms of asking, on prompts kept for their choice"
    return [Table(columns, rows, title, name=f"forms-{slug(study)}")]


def common_table(run: StoredRun, study: str) -> Table:
    """Common neurons with their share of the clusters."""
    return records_table(
        run.table(study, "common"),
        {
            "neuron": "neuron",
            **percents(share="clusters"),
        },
        "Common neurons: in more than a share u of the clusters",
        folded=True,
        name=f"common-{slug(study)}",
    )


def convergence_table(run: StoredRun, study: str) -> Table:
    """The prompts that converge worst."""
    columns = [
        "prompt",
        Column("P", ".4f"),
        Column("largest |P(1) − P(0)|", ".2e"),
        Column("completeness error", "percent"),
        Column("worst neuron", "percent"),
        Column("nodes", "d"),
        "branches",
        "converged",
    ]
    keys = (
        *("prompt", "p", "largest_change", "completeness_error", "step_change"),
        *("n_steps", "branches", "converged"),
    )
    listed = run.table(study, "convergence")
    rows = cells([r for r in listed if not r["without_effect"]][:WORST], keys)
    return Table(
        columns,
        rows,
        f"Worst convergence, {len(rows)} of {len(listed)} prompts",
        name=f"convergence-table-{slug(study)}",
    )


def queries_table(run: StoredRun, study: str) -> Table:
    """Every query with its neurons."""
    listed = run.table(study, "queries")
    effects = [name for name in ("boost", "suppress") if listed and name in listed[0]]
    columns = [
        "query",
        grouping(study),
        "question",
        "answer",
        Column("right", "percent", "share of its prompts"),
        Column("P", ".3f"),
        *(Column(name, "percent", "(P′ − P) / P with its NA-ICA neurons") for name in effects),
        Column("neurons", "d"),
        "first neurons",
    ]
    keys = ("query", "field", "question", "answer", "right", "p", *effects, "n", "neurons")
    return Table(
        columns, cells(listed, keys), "Queries", folded=True, name=f"queries-{slug(study)}"
    )


def near_chance(run: StoredRun, study: str) -> list[str]:
    """A warning where the model answers no better than guessing."""
    whole_run = run.table(study, "accuracy")[:1]
    return [
        f"The model answers the questions near chance ({record['accuracy']:.0%} right, guessing "
        f"gives {record['chance']:.0%}): no conclusions about knowledge are drawn from the query "
        f"neurons by {grouping(study)}."
        for record in whole_run
        if record["near_chance"]
    ]


def trust_answers(run: StoredRun, study: str) -> list[Answer]:
    """How accurately attributions are integrated, told by the first study that has them."""
    first = next(name for name in ATTRIBUTED if name in run.findings)
    return [_trust_answer(run, study)] if study == first else []


def _trust_answer(run: StoredRun, study: str) -> Answer:
    question = "Are the attributions integrated accurately?"
    prefix = {"language": "queries.languages.attribution", "letters": "queries.letters.attribution"}
    share = run.summary.get(f"{prefix.get(slug(study), 'attribution')}.converged_share")
    if share is None:
        return answer(question, "cannot tell", "There is nothing to attribute.")
    prompts = [r for r in run.table(study, "convergence") if not r["without_effect"]]
    low, high = wilson(share, max(1, len(prompts)))
    return answer(
        question,
        "yes" if low >= ACCURATE else "no" if high < ACCURATE else "not shown",
        f"On {share:.1%} [{low:.1%}, {high:.1%}] of {len(prompts)} prompts sums agree with the "
        "measured change within 1 %, and every neuron with a second rule within 2 % of the "
        "largest. That is accuracy, not truth: what a neuron does alone is another question.",
    )


def neurons_section(run: StoredRun, study: str) -> Section:
    """Counts, layers and convergence; the words and the accuracy where no effect tells them."""
    alone = study == FIND
    return Section(
        f"The neurons of each query, by {grouping(study)}"
        + (", with letters for answers" if slug(study) == "letters" else ""),
        "Few neurons per query, in few layers; attributions whose accuracy is known per prompt.",
        run.words(study) if alone else [],
        figures=[
            counts_figure(run, study),
            layers_figure(run, study),
            convergence_figure(run, study),
        ],
        tables=[
            *([accuracy_table(run, study), *forms_tables(run, study)] if alone else []),
            counts_table(run, study),
            convergence_table(run, study),
            queries_table(run, study),
            common_table(run, study),
        ],
        changes="Nothing is claimed of effects here: queries.effect tests what these neurons do, "
        "queries.truth what attributions are worth.",
    )


REPORT = StudyReport(
    lambda run, study: [neurons_section(run, study)], answers=trust_answers, notices=near_chance
)
