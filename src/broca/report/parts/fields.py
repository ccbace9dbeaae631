"""Fields beside shuffled fields: what localisation, overlap and embedding share."""

from __future__ import annotations

from typing import Any

from broca.estimates import Estimate
from broca.report.parts.tables import Table
from broca.report.stored_run import StoredRun

SHUFFLED_HELP = "median of shuffled fields; 95 % of them lie between the ends"
P_HELP = "permutation p-value after Holm's correction"


def file_name(study: str) -> str:
    """Short name of a study, for files."""
    return study.removeprefix("queries.").replace(".", "-")


def beside_paper(run: StoredRun, study: str) -> Table:
    rows = [(r["figure"], r["ours"], r["published"]) for r in run.table(study, "published")]
    columns = ["figure", "this run", "Llama-2-7B-chat (published)"]
    return Table(
        columns, rows, "Beside the paper", sortable=False, name=f"{file_name(study)}-paper"
    )


def found_and_shuffled(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    about = {"group": record["field"], "n": record["n"]}
    ends = {"low": record["shuffled_low"], "high": record["shuffled_high"]}
    return [
        {**about, "condition": "own", "value": record[name], "low": None, "high": None},
        {**about, "condition": "shuffled", "value": record["shuffled"], **ends},
    ]


def spread(record: dict[str, Any], name: str) -> Estimate | None:
    """A median with the ends of 95 % of its draws, as tables show intervals."""
    if name not in record:
        return None
    value, low, high = (record[f"{name}{end}"] for end in ("", "_low", "_high"))
    return Estimate(value, low, high, record["n"])
