"""Ways of pooling."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.stored_run import StoredRun

POOLING = "relations.pooling"


def pooling_section(run: StoredRun) -> Section:
    """Ways of pooling."""
    columns = {
        "pooling": "pooling",
        "ap": Column("mean AP of the sets", ".2f"),
        **percents(
            shared="shared with the default's",
            own_drop="own drop",
            other_drop="other drop",
            matched_drop="matched random",
        ),
        "log_p_drop": Column("loss of log P", ".2f"),
    }
    records = run.table(POOLING, "poolings")
    return Section(
        "Pooling compared",
        claim="What is found depends on the tokens at which responses are read.",
        text=run.words(POOLING),
        figures=[
            plain_bars(
                records,
                "pooling",
                {
                    "own_drop": "own relation",
                    "other_drop": "other relations",
                    "matched_drop": "matched random",
                },
                title="Loss of right answers by pooling",
                caption="acc_drop, means over relations; sets of equal size.",
                value_title="acc_drop",
                name="pooling",
            )
        ],
        tables=[records_table(records, columns, "Means over relations", name="pooling")],
        notes=["The paper takes the mean over all tokens, BOS included."],
        changes="Another pooling is better where its sets cost the own relation surely more, and "
        "others no more, at the same size.",
    )


REPORT = StudyReport(lambda run, study: [pooling_section(run)])
