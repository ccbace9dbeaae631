"""The relation studies on the page: a file per study, found by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.stored_run import StoredRun

NAMED = 4  # relations left out that are named on the first screen


def notices(run: StoredRun) -> list[str]:
    """Relations left out, and neurons found on wrong answers."""
    listed = []
    others = (study for study in run.studies if study.startswith("relations."))
    listing = run.table("relations.intra", "skipped")
    tables = [listing, *(run.table(study, "left_out") for study in others)]
    skipped = next((table for table in tables if table), [])
    if skipped:
        short = bool(listing) and len(skipped) > NAMED
        listed.append(_left_out(skipped, short=short))
    if run.setting("relations", "detection_filter") == "none":
        listed.append("Neurons were found on prompts that the model may answer wrongly.")
    return listed


def _left_out(skipped: Sequence[Mapping[str, Any]], *, short: bool) -> str:
    """Each with its reason; in short how many for which, where a table below names them."""
    if not short:
        reasons = "; ".join(f"{record['relation']} ({record['reason']})" for record in skipped)
        return f"{len(skipped)} relations were left out: {reasons}."
    known = sum("others are known better" in record["reason"] for record in skipped)
    parts = [
        f"{n} {why}"
        for n, why in (
            (len(skipped) - known, "are known too little or have too few facts"),
            (known, "are known less well than those studied (max_relations)"),
        )
        if n
    ]
    return (
        f"{len(skipped)} relations were left out: {', '.join(parts)}. "
        "The table \u201cRelations left out\u201d names each with its reason."
    )
