"""In which form the facts were asked, and how the model does in the others."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.stored_run import StoredRun

FORMS = "relations.forms"


def forms_section(run: StoredRun) -> Section:
    """The forms tried, as a whole and by relation."""
    records = run.table(FORMS, "forms")
    tried = [record for record in records if record["n"]]
    whole = [record for record in tried if not record["relation"]]
    tables = []
    if whole:
        columns = [
            "form",
            Column("facts", "d"),
            Column("right", "d"),
            Column("accuracy", "percent"),
            Column("shown", "d", "the right answer stood among the demonstrations"),
            Column("right and shown", "d"),
            Column("named", "d", "the right answer stands in the subject asked about"),
            Column("right and named", "d"),
            "example",
            "right answer",
            "said",
        ]
        counts = ("n", "right", "accuracy", "shown", "right_shown", "named", "right_named")
        keys = ("form", *counts, "example", "answer", "said")
        # runs of earlier versions did not count what the subject names
        rows = [tuple(record.get(key) for key in keys) for record in whole]
        tables = [Table(columns, rows, "Forms of asking", name="forms"), _by_relation(tried)]
    lacking = [r for r in records if not r["n"]]
    return Section(
        "How the facts are asked",
        text=run.words(FORMS),
        tables=tables,
        notes=[f"The form {r['form']} was not tried: {r['reason']}." for r in lacking],
        changes="Another form is taken where it has more right answers on facts kept for this "
        "alone; more such facts (n_form) make the choice surer.",
    )


def _by_relation(tried: list[dict]) -> Table:
    forms = list(dict.fromkeys(record["form"] for record in tried))
    found = {(r["relation"], r["form"]): r["accuracy"] for r in tried if r["relation"]}
    counts = {r["relation"]: r["n"] for r in tried if r["relation"]}
    return Table(
        ["relation", Column("facts", "d"), *(Column(form, "percent") for form in forms)],
        [(name, n, *(found.get((name, form)) for form in forms)) for name, n in counts.items()],
        "Accuracy by relation and form",
        folded=True,
        name="forms-by-relation",
    )


REPORT = StudyReport(lambda run, study: [forms_section(run)])
