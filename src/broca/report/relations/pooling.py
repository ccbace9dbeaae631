"""Ways of pooling."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.bars import plain_bars
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table, cells
from broca.report.stored_run import StoredRun

POOLING = "relations.pooling"


def pooling_section(run: StoredRun) -> Section:
    """Ways of pooling."""
    columns = [
        "pooling",
        Column("mean AP of the sets", ".2f"),
        Column("shared with the default's", "percent"),
        *(Column(name, "percent") for name in ("own drop", "other drop", "matched random")),
        Column("loss of log P", ".2f"),
    ]
    keys = ("pooling", "ap", "shared", "own_drop", "other_drop", "matched_drop", "log_p_drop")
    return Section(
        "Pooling compared",
        claim="What is found depends on the tokens at which responses are read.",
        text=run.words(POOLING),
        figures=[
            plain_bars(
                run.table(POOLING, "poolings"),
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
        tables=[
            Table(
                columns,
                cells(run.table(POOLING, "poolings"), keys),
                "Means over relations",
                name="pooling",
            )
        ],
        notes=["The paper takes the mean over all tokens, BOS included."],
        changes="Another pooling is better where its sets cost the own relation surely more, and "
        "others no more, at the same size.",
    )


REPORT = StudyReport(lambda run, study: [pooling_section(run)])
