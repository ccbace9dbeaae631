"""Where the neurons of a field lie."""

from __future__ import annotations

from typing import Any

from broca.report.page import Answer, Section
from broca.report.parts.charts import dot_intervals, layer_lines
from broca.report.parts.fields import (
    P_HELP,
    SHUFFLED_HELP,
    beside_paper,
    file_name,
    found_and_shuffled,
    spread,
)
from broca.report.parts.figure import Figure
from broca.report.parts.heatmaps import layer_index_map
from broca.report.parts.outcomes import ALL, grouping
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, Table
from broca.report.parts.verdicts import answer, is_near_chance
from broca.report.stored_run import StoredRun

LOCALISATION = "queries.localisation"


def localisation_answers(run: StoredRun, study: str) -> list[Answer]:
    """For the first screen: whether fields have places of their own."""
    whole = run.table(LOCALISATION, "shares")[:1]
    if not whole or study != LOCALISATION:
        return []
    record, fields = whole[0], run.table(LOCALISATION, "shares")[1:]
    alpha = run.setting("queries", "alpha", 0.05)
    shared = sum(each["p_holm"] < alpha for each in fields)
    regions = sum(each["p_index_holm"] < alpha for each in fields)
    found = record["p"] < alpha
    question = "Do fields have places of their own?"
    detail = (
        f"The fullest 1 % of the cells hold {record['share']:.0%} of a field's score, of a "
        f"shuffled field's {record['shuffled']:.0%} (p = {record['p']:.2g})."
    )
    if is_near_chance(run, LOCALISATION):
        return [answer(question, "cannot tell", f"The model answers near chance. {detail}")]
    some = "in part" if found or shared or regions else "not shown"
    verdict = "yes" if found and regions == len(fields) else some
    told = f"{shared} of {len(fields)} fields have; as regions of neighbours {regions}."
    return [answer(question, verdict, f"{told} {detail}")]


def localisation_section(run: StoredRun, study: str) -> Section:
    """Maps, profiles, and both tests."""
    by = grouping(study)
    shown = bool(run.table(study, "shares"))
    return Section(
        f"Where the neurons of a {by} lie",
        f"The neurons that carry the answers of a {by} lie in a region of their own.",
        run.words(study),
        figures=[_shares_figure(run, study), _maps_figure(run, study), _profile_figure(run, study)]
        if shown
        else [],
        tables=[_shares_table(run, study), beside_paper(run, study)] if shown else [],
        notes=[
            f"Shuffled: the names of the {by}s dealt anew to the queries, so many to each as "
            "before. Moved: every neuron at a random index of its layer. Only the second test is "
            "about regions; the first also finds queries that share single neurons.",
        ],
        changes="Yes: scores more concentrated than with fields dealt at random and with neurons "
        "moved within their layers, both after Holm's correction.",
    )


def _shares_figure(run: StoredRun, study: str) -> Figure:
    rows: list[dict[str, Any]] = []
    for record in run.table(study, "shares"):
        rows += found_and_shuffled(record, "share")
        if "scattered" in record:
            value, low, high = (record[f"scattered{end}"] for end in ("", "_low", "_high"))
            rows.append(
                {
                    "group": record["field"],
                    "condition": "moved",
                    "value": value,
                    "low": low,
                    "high": high,
                    "n": record["n"],
                }
            )
    return dot_intervals(
        rows,
        title="How localised",
        caption="Share of the score in the fullest 1 % of the map's cells. Shuffled and moved: "
        f"median, and where 95 % of the draws lie. {ALL}: mean over {grouping(study)}s.",
        value_title="share of the score",
        percent=True,
        reference=None,
        name=file_name(study),
    )


def _maps_figure(run: StoredRun, study: str) -> Figure:
    grid = run.table(study, "grid")[0]
    fields = [record["field"] for record in run.table(study, "shares")[1:]]
    maps = {field: [[0.0] * grid["bins"] for _ in range(grid["layers"])] for field in fields}
    for cell in run.table(study, "maps"):
        maps[cell["field"]][cell["layer"]][cell["bin"]] = cell["score"]
    return layer_index_map(
        maps,
        title=f"Maps of the {grouping(study)}s",
        caption=f"Sum of NA-ICA over the queries of a {grouping(study)}; the darker, the more "
        f"(square root). The index is cut into {grid['bins']} bins.",
        n_neurons=grid["neurons"],
        name=f"{file_name(study)}-maps",
    )


def _profile_figure(run: StoredRun, study: str) -> Figure:
    rows = [
        {"series": r["field"], "layer": r["layer"], "value": r["share"]}
        for r in run.table(study, "profiles")
    ]
    return layer_lines(
        rows,
        title="Layers",
        caption=f"Share of each {grouping(study)}'s score by layer.",
        value_title="share of the score",
        name=f"{file_name(study)}-layers",
    )


def _shares_table(run: StoredRun, study: str) -> Table:
    columns = [
        grouping(study),
        Column("queries", "d"),
        Column("in the top 1 %", "percent", "share of the score in the fullest 1 % of the cells"),
        Column("shuffled", "percent", SHUFFLED_HELP),
        Column("p", "p"),
        Column("p (Holm)", "p", P_HELP),
        Column("moved", "percent", "the same neurons at random places of their layers"),
        Column("p, moved (Holm)", "p", P_HELP),
        "layers",
    ]
    rows = [
        (
            *(record["field"], record["n"], record["share"], spread(record, "shuffled")),
            *(record["p"], record.get("p_holm"), spread(record, "scattered")),
            record.get("p_index_holm"),
            f"{record['first_layer']} to {record['last_layer']}" if "p_holm" in record else None,
        )
        for record in run.table(study, "shares")
    ]
    return Table(
        columns,
        rows,
        "How localised; layers: where the middle half of the score lies",
        name=file_name(study),
    )


REPORT = StudyReport(
    lambda run, study: [localisation_section(run, study)], answers=localisation_answers
)
