"""The relation studies on the page: a file per study, found by its name."""

from __future__ import annotations

from broca.report.stored_run import StoredRun


def notices(run: StoredRun) -> list[str]:
    """Relations left out, and neurons found on wrong answers."""
    listed = []
    others = (study for study in run.studies if study.startswith("relations."))
    tables = [run.table("relations.intra", "skipped"), *(run.table(s, "left_out") for s in others)]
    skipped = next((table for table in tables if table), [])
    if skipped:
        reasons = "; ".join(f"{record['relation']} ({record['reason']})" for record in skipped)
        listed.append(f"{len(skipped)} relations were left out: {reasons}.")
    if run.setting("relations", "detection_filter") == "none":
        listed.append("Neurons were found on prompts that the model may answer wrongly.")
    return listed
