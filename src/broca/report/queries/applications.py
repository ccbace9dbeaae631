"""What query neurons are good for: flips of answers, and prediction; first screen and sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broca.report.charts import dot_intervals
from broca.report.figure import Figure
from broca.report.page import Answer, Section
from broca.report.queries.figures import ALL, action_words, point
from broca.report.queries.tables import estimate
from broca.report.queries.verdicts import (
    NEAR_CHANCE,
    WITHIN,
    Verdict,
    is_as_good,
    is_near_chance,
    judge_more,
)
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table
from broca.report.theme import WIDTH

FLIPS = {"queries.flips": "field", "queries.flips.languages": "language"}
PREDICTION = "queries.prediction"
FEW = 10  # queries below which the first screen draws no conclusion
ASKED = {"boost": "answered wrongly, turned right", "suppress": "answered rightly, turned wrong"}

Record = Mapping[str, Any]


def application_answers(run: StoredRun) -> list[Answer]:
    """Answers for the first screen."""
    found = [_flips_answer(run, study) for study in FLIPS if run.table(study, "flips")]
    if run.table(PREDICTION, "fields"):
        found.append(_prediction_answer(run))
    return found


def application_sections(run: StoredRun) -> list[Section]:
    """A section per study."""
    found = [_flips_section(run, study) for study in FLIPS if study in run.findings]
    if PREDICTION in run.findings:
        found.append(_prediction_section(run))
    return found


# ---- first screen


def _flips_answer(run: StoredRun, study: str) -> Answer:
    """Whether suppressing own neurons flips right answers more often than random ones."""
    by = FLIPS[study]
    question = f"Do query neurons flip answers, by {by}?"
    own = {r["action"]: r for r in _whole(run, study) if r["method"] == "na-ica"}
    detail = "; ".join(
        f"{action_words(run, action)}: {_percent(own[action]['rate'])} of "
        f"{own[action]['candidates']} prompts {ASKED[action]}"
        for action in own
    )
    if is_near_chance(run, study):
        return Answer(question, NEAR_CHANCE, detail)
    judged = [action for action, record in own.items() if record["n"] >= FEW]
    if not judged:
        return Answer(question, "This run cannot tell: too few prompts could flip", detail)
    verdicts = {action: _beyond_random(run, study, own[action]) for action in judged}
    beyond = [action for action, verdict in verdicts.items() if verdict == "more"]
    words = {"boost": "boosted, to right ones", "suppress": "suppressed, to wrong ones"}
    if beyond:
        tone = "yes" if len(beyond) == len(own) else "mixed"
        return Answer(question, "Yes: " + " and ".join(words[a] for a in beyond), detail, tone)
    if "cannot be told" in verdicts.values():
        return Answer(question, "Cannot be told from random neurons", detail)
    if "no more" in verdicts.values():
        return Answer(question, f"No more than random neurons, {WITHIN}", detail, "no")
    return Answer(question, "Not compared with random neurons", detail)


def _beyond_random(run: StoredRun, study: str, own: Record) -> Verdict | None:
    """By the random method's neurons, else by matched random sets; None where there are neither."""
    for pair in run.table(study, "paired"):
        if (pair["method"], pair["other"], pair["action"]) == ("na-ica", "random", own["action"]):
            return judge_more(pair, "gap")
    p = own.get("p_matched")
    if p is None:
        return None
    return "more" if p < run.setting("queries", "alpha", 0.05) else "cannot be told"


def _prediction_answer(run: StoredRun) -> Answer:
    record = run.table(PREDICTION, "fields")[0]
    told = "" if record["auroc"] is None else f"; AUROC of its margin {record['auroc']:.2f}"
    question = "Do a field's neurons predict answers?"
    detail = (
        f"Right on {record['neurons']:.0%} of held-out prompts; the model's letters "
        f"{record['model']:.0%}, random neurons {record['random']:.0%}, guessing "
        f"{record['chance']:.0%}{told}."
    )
    if is_near_chance(run, PREDICTION):
        return Answer(question, NEAR_CHANCE, detail)
    rivals = {"random neurons": "beyond_random", "guessing": "beyond_chance"}
    verdicts = {rival: judge_more(record, name) for rival, name in rivals.items()}
    equal, open_ = (
        " or ".join(rival for rival, verdict in verdicts.items() if verdict == wanted)
        for wanted in ("no more", "cannot be told")
    )
    if equal:
        return Answer(question, f"No better than {equal}, {WITHIN}", detail, "no")
    if open_:
        return Answer(question, f"Cannot be told from {open_}", detail)
    if is_as_good(record, "beyond_model"):
        return Answer(question, f"As well as the model's letters, {WITHIN}", detail, "yes")
    if (record["beyond_model_high"] or 0.0) < 0:
        return Answer(question, "Better than chance, worse than the letters", detail, "mixed")
    return Answer(question, "Better than chance; cannot be told from the letters", detail, "mixed")


# ---- flips


def _whole(run: StoredRun, study: str) -> list[dict[str, Any]]:
    return [record for record in run.table(study, "flips") if record["field"] == ALL]


def _flips_section(run: StoredRun, study: str) -> Section:
    by = FLIPS[study]
    return Section(
        f"Knowledge editing at inference, by {by}",
        "Boosting a query's own neurons turns wrong answers right, and suppressing them turns "
        "right ones wrong, more often than other methods' neurons.",
        run.words(study),
        figures=[_flips_figure(run, study)],
        tables=[_flips_table(run, study), _paired_table(run, study), _each_table(run, study)],
        notes=[
            "A flip is a change of the preferred letter. Rates are over the prompts that could "
            'flip; the paper counts over all queries, which is the column "of all".',
            "Methods that find no neurons for a query flip nothing there.",
        ],
    )


def _flips_figure(run: StoredRun, study: str) -> Figure:
    rows = [
        {
            "panel": f"{action_words(run, record['action'])}: {ASKED[record['action']]}",
            "group": record["method"],
            "condition": label,
            **point(record, name),
        }
        for record in _whole(run, study)
        for name, label in (("rate", "of those that could flip"), ("share", "of all"))
        if record[name] is not None
    ]
    return dot_intervals(
        rows,
        title=f"Answers flipped, by {FLIPS[study]}",
        caption="Share of prompts whose preferred letter flips, 95 % intervals over queries.",
        value_title="flipped",
        percent=True,
        width=WIDTH // 2 - 70,
        name=f"flips-{FLIPS[study]}",
    )


def _flips_table(run: StoredRun, study: str) -> Table:
    published = {r["method"]: r for r in run.table(study, "published")}
    columns = [
        "action",
        "method",
        Column("flips", "d"),
        Column("of", "d", "prompts answered wrongly (boost) or rightly (suppress)"),
        Column("flipped", "percent", "of the prompts that could flip"),
        Column("of all", "percent", "of all prompts, as in the paper"),
        Column("published", "percent", "of all, Llama-2-7B-chat"),
        Column("matched", "percent", "matched random sets, of the prompts that could flip"),
        Column("p", "p", "own against matched sets, sign flips over queries"),
    ]
    rows = [
        (
            record["action"],
            record["method"],
            record["flips"],
            record["candidates"],
            estimate(record, "rate"),
            estimate({**record, "n": record["queries"]}, "share"),
            published.get(record["method"], {}).get(record["action"]),
            record.get("matched"),
            record.get("p_matched"),
        )
        for record in sorted(_whole(run, study), key=lambda r: r["action"])
    ]
    caption = "Flips by method; published: of all, Llama-2-7B-chat"
    return Table(columns, rows, caption, name=f"flips-{FLIPS[study]}")


def _paired_table(run: StoredRun, study: str) -> Table:
    columns = [
        "action",
        "method",
        "against",
        Column("queries", "d"),
        Column("gap", "percent", "difference of the rates, paired bootstrap over queries"),
        Column("p (Holm)", "p", "sign flips over queries, two-sided"),
    ]
    rows = [
        (r["action"], r["method"], r["other"], r["n"], estimate(r, "gap"), r["p_holm"])
        for r in run.table(study, "paired")
    ]
    return Table(
        columns,
        rows,
        "Methods compared over the same queries",
        folded=True,
        name=f"flips-paired-{FLIPS[study]}",
    )


def _each_table(run: StoredRun, study: str) -> Table:
    columns = [
        FLIPS[study],
        "action",
        "method",
        Column("could flip", "d"),
        Column("flips", "d"),
        Column("flipped", "percent"),
        Column("of all", "percent"),
        Column("the other way", "percent", "of all prompts"),
    ]
    rows = [
        (
            record["field"],
            record["action"],
            record["method"],
            record["candidates"],
            record["flips"],
            estimate(record, "rate"),
            estimate(record, "share"),
            record["against"],
        )
        for record in run.table(study, "flips")
    ]
    return Table(
        columns,
        rows,
        f"Flips by {FLIPS[study]} and method",
        folded=True,
        name=f"flips-each-{FLIPS[study]}",
    )


# ---- prediction


def _prediction_section(run: StoredRun) -> Section:
    shown = bool(run.table(PREDICTION, "fields"))
    return Section(
        "Prediction by neurons",
        "A field's neurons are most active when the right option is put as the answer, and their "
        "margin tells when the model is wrong.",
        run.words(PREDICTION),
        figures=[_accuracy_figure(run), _auroc_figure(run)] if shown else [],
        tables=[_prediction_table(run), _published_table(run), _queries_table(run)]
        if shown
        else [],
        notes=[
            "Neurons come from detection queries alone; every figure is on the other half. Random "
            "neurons: as many per layer, mean over draws.",
            "Activities are the neurons' values at the label's position, mean over the neurons, "
            "normalised per option position on the detection queries.",
        ],
    )


def _accuracy_figure(run: StoredRun) -> Figure:
    rows = [
        {
            "group": record["field"],
            "condition": label,
            **point(record, name),
        }
        for record in run.table(PREDICTION, "fields")
        for name, label in (
            ("neurons", "most active option"),
            ("model", "the model's letter"),
            ("random", "random neurons"),
            ("chance", "guessing"),
        )
    ]
    return dot_intervals(
        rows,
        title="Right answers on held-out questions",
        caption="Mean over questions, 95 % bootstrap intervals.",
        value_title="right",
        percent=True,
        reference=None,
        name="prediction",
    )


def _auroc_figure(run: StoredRun) -> Figure:
    rows = [
        {
            "group": record["field"],
            "condition": label,
            **point(record, name),
        }
        for record in run.table(PREDICTION, "fields")
        for name, label in (("auroc", "the field's neurons"), ("auroc_random", "random neurons"))
        if record["auroc"] is not None
    ]
    return dot_intervals(
        rows,
        title="Do neurons tell when the model is wrong?",
        caption="AUROC of the margin for the model's own letter, right against wrong answers; 0.5 "
        "is chance. Fields in which all held-out answers are right, or all wrong, have none.",
        value_title="AUROC",
        reference=0.5,
        name="prediction-auroc",
    )


def _prediction_table(run: StoredRun) -> Table:
    columns = [
        "field",
        Column("detection", "d", "queries the neurons come from"),
        Column("held out", "d", "queries predicted"),
        Column("neurons", "d", "size of the set"),
        Column("right", "percent", "held-out prompts of which the most active option is right"),
        Column("letters", "percent", "held-out prompts the model answers rightly"),
        Column("random", "percent", "by random neurons"),
        Column("guessing", "percent"),
        Column("− letters", "percent", "paired difference"),
        Column("− random", "percent", "paired difference"),
        Column("p (Holm)", "p", "against random neurons, sign flips over queries"),
        Column("wrong", "d", "held-out prompts the model answers wrongly"),
        Column("AUROC", ".2f", "of the margin for the model's letter"),
    ]
    rows = [
        (
            r["field"],
            r["detection"],
            r["n"],
            r["n_neurons"],
            estimate(r, "neurons"),
            estimate(r, "model"),
            r["random"],
            r["chance"],
            estimate(r, "beyond_model"),
            estimate(r, "beyond_random"),
            r["p_holm"],
            r["wrong"],
            estimate(r, "auroc"),
        )
        for r in run.table(PREDICTION, "fields")
    ]
    return Table(columns, rows, "Prediction by field", name="prediction")


def _published_table(run: StoredRun) -> Table:
    rows = [
        (f"{r['field']} (published)", r["neurons"], r["prompts"])
        for r in run.table(PREDICTION, "published")
    ]
    rows += [(r["field"], r["neurons"], r["model"]) for r in run.table(PREDICTION, "fields")]
    return Table(
        ["field", Column("by neurons", "percent"), Column("by prompts", "percent")],
        rows,
        "Beside the published accuracies (Llama-2-7B-chat)",
        name="prediction-published",
    )


def _queries_table(run: StoredRun) -> Table:
    columns = [
        "query",
        "field",
        "question",
        "answer",
        *(Column(name, "percent") for name in ("neurons", "model", "random")),
        Column("margin", ".2f"),
    ]
    keys = ("query", "field", "question", "answer", "neurons", "model", "random", "margin")
    rows = [tuple(r[key] for key in keys) for r in run.table(PREDICTION, "queries")]
    return Table(columns, rows, "Held-out queries", folded=True, name="prediction-queries")


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"
