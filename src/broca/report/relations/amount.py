"""Sections on how many neurons it takes, and where they are."""

from __future__ import annotations

from broca.report.charts import ladder_lines, neurons_per_layer_and_site
from broca.report.figure import Figure
from broca.report.heatmaps import annotated_heatmap
from broca.report.page import Answer, Section
from broca.report.relations.figures import NARROW
from broca.report.relations.tables import cells
from broca.report.relations.words import percent
from broca.report.runs import StoredRun
from broca.report.tables import Column, Table
from broca.report.theme import WIDTH

CUMULATIVITY = "relations.cumulativity"
LAYERS = "relations.layers"
ABLATION = "relations.ablation"
SERIES = {"own": "own relation", "other": "other relations", "uniform": "own, random neurons off"}


def cumulativity_answer(run: StoredRun) -> Answer:
    """How many does it take?"""
    figures = run.summary
    half = figures["cumulativity.k_half"]
    if half is None:
        return Answer(
            "How many does it take?",
            "More than were tried",
            f"The largest set costs {percent(figures['cumulativity.own_drop_largest'])} of the "
            "right answers.",
            "mixed",
        )
    return Answer(
        "How many does it take?",
        f"{half:,} neurons to lose half",
        f"{figures['cumulativity.k_half_share']:.1%} of all; other relations then lose "
        f"{percent(figures['cumulativity.other_drop_at_half'])}, with as many random neurons off "
        f"{percent(figures['cumulativity.uniform_drop_at_half'])} are lost.",
        "yes",
    )


def ladder_figure(run: StoredRun, narrow: bool = False) -> Figure:
    """Accuracy over the number of neurons."""
    rows = [
        {
            "series": words,
            "k": point["k"],
            "value": point[key],
            "low": point[f"{key}_low"],
            "high": point[f"{key}_high"],
        }
        for key, words in SERIES.items()
        for point in run.table(CUMULATIVITY, "curve")
    ]
    return ladder_lines(
        rows,
        title="Right answers by number of neurons off",
        caption="A relation's top k neurons off: its own evaluation prompts, and those of other "
        "relations; means over relations, 95 % bootstrap intervals over facts.",
        value_title="accuracy",
        width=NARROW if narrow else WIDTH,
        name=f"cumulativity{'-small' if narrow else ''}",
    )


def _relations_figure(run: StoredRun) -> Figure:
    rows = [
        {"panel": r["relation"], "series": SERIES[key], "k": r["k"], "value": r[key]}
        for r in run.table(CUMULATIVITY, "rungs")
        for key in ("own", "other")
    ]
    return ladder_lines(
        [{**row, "low": None, "high": None} for row in rows],
        title="The same, relation by relation",
        caption="Accuracy on the own and on the other relations' prompts.",
        value_title="accuracy",
        name="cumulativity-relations",
    )


def cumulativity_section(run: StoredRun) -> Section:
    """The ladder and the set-difference test."""
    differences = Table(
        [
            Column("k1", "d"),
            Column("k2", "d"),
            Column("total", "d", "answers right with the top k1 off and wrong with the top k2 off"),
            Column("affected", "d", "of these, wrong with only ranks k1 to k2 off"),
            Column("micro", ".2f", "1 − affected / total over answers"),
            Column("macro", ".2f", "mean over relations"),
        ],
        cells(
            run.table(CUMULATIVITY, "differences"),
            ("k1", "k2", "total", "affected", "micro", "macro"),
        ),
        "Set-difference test (the paper's table 3)",
        name="set-difference",
    )
    columns = [
        "relation",
        Column("k", "d"),
        Column("untouched", "percent"),
        Column("own", "percent", "accuracy with its top k off"),
        Column("others", "percent", "accuracy of the others with its top k off"),
        Column("random", "percent", "own accuracy with k random neurons off"),
        Column("loss of log P, own", ".2f"),
        Column("loss of log P, others", ".2f"),
    ]
    keys = ("relation", "k", "before", "own", "other", "uniform", "log_p_drop", "other_log_p_drop")
    rungs = Table(
        columns,
        cells(run.table(CUMULATIVITY, "rungs"), keys),
        "Every rung",
        folded=True,
        name="rungs",
    )
    figures = run.summary
    falls, micro = figures["cumulativity.steps_down"], figures["cumulativity.micro"]
    here = f"{micro:.2f}" if micro is not None else "undefined"
    return Section(
        "Cumulativity: how many neurons",
        claim="The more of a relation's neurons are off, the more is lost, and it takes them "
        "together.",
        text=run.words(CUMULATIVITY),
        figures=[ladder_figure(run), _relations_figure(run)],
        tables=[differences, rungs],
        notes=[
            "In the paper's Llama-2-7B own accuracy falls steadily with k and others hold up to "
            f"3,000 to 10,000 of 835,584 neurons (0.4 to 1.2 %); here own accuracy falls at "
            f"{falls:.0%} of the rungs, and cumulativity over answers is {here}."
        ],
    )


def layers_section(run: StoredRun) -> Section:
    """Where the sets are."""
    rows = [
        {"panel": r["set"], "layer": r["layer"], "site": r["site"], "count": r["n"]}
        for r in run.table(LAYERS, "places")
    ]
    columns = [
        "set",
        Column("neurons", "d"),
        Column("units", "d", "gate i, up i and hidden i of a layer are one unit"),
        Column("mean layer", ".2f", "0 the first, 1 the last"),
        *(Column(name, "percent") for name in ("lower third", "middle third", "upper third")),
    ]
    keys = ("set", "neurons", "units", "depth", "lower", "middle", "upper")
    sites = Table(
        [
            "site",
            Column("neurons in sets", "d"),
            Column("share", "percent"),
            Column("of all neurons", "percent"),
            Column("enriched", ".2f", "share / share of all neurons"),
        ],
        cells(
            run.table(LAYERS, "sites"), ("site", "neurons", "share", "of_all_neurons", "enriched")
        ),
        "Sites",
        name="sites",
    )
    thirds = {t: run.summary[f"layers.{t}"] or 0.0 for t in ("lower", "middle", "upper")}
    most = max(thirds, key=lambda third: thirds[third])
    return Section(
        "Layers and sites",
        claim="Relation neurons sit mostly in the middle layers.",
        text=run.words(LAYERS),
        figures=[
            neurons_per_layer_and_site(
                rows,
                title="Neurons by layer and site",
                caption="Neurons of every set; all layers of the model are shown.",
                n_layers=run.environment["n_layers"],
            )
        ],
        tables=[
            Table(columns, cells(run.table(LAYERS, "sets"), keys), "Sets", name="depth"),
            sites,
        ],
        notes=[
            "In the paper most are in the middle layers; here most are in the "
            f"{most} third ({thirds[most]:.0%})" + ("." if most == "middle" else ": they differ.")
        ],
    )


def ablation_section(run: StoredRun) -> Section:
    """The top k within each site."""
    sites = run.table(ABLATION, "sites")
    records = {(r["relation"], r["sites"]): r["own_drop"] for r in run.table(ABLATION, "relations")}
    names = list(dict.fromkeys(name for name, _ in records))
    labels = [record["sites"] for record in sites]
    figure = annotated_heatmap(
        [[records[name, label] for label in labels] for name in names],
        names,
        labels,
        title="Loss by kind of projection",
        caption="acc_drop of the own relation with the top k within each kind of projection off.",
        column_title="neurons off",
        limit=1.0,
        name="site-ablation",
    )
    columns = [
        "sites",
        Column("k", "d"),
        Column("of", "d", "neurons of these sites"),
        *(Column(n, "percent") for n in ("own drop", "median", "other drop", "random")),
        Column("loss of log P", ".2f"),
        Column("loss of log P, random", ".2f"),
    ]
    keys = (
        *("sites", "k", "of", "own_drop", "own_drop_median", "other_drop", "uniform_drop"),
        *("log_p_drop", "log_p_uniform"),
    )
    drops = {record["sites"]: record["own_drop"] for record in sites}
    notes = []
    if {"gate", "up", "all"} <= set(drops):
        gate, up, everything = drops["gate"] or 0, drops["up"] or 0, drops["all"] or 0
        alike = gate >= 0.7 * everything and up <= 0.3 * everything
        notes.append(
            "In the paper gate does about what all sites do, and up alone almost nothing; here "
            f"gate {gate:.0%}, up {up:.0%}, all {everything:.0%}: "
            + ("the same picture." if alike else "another picture.")
        )
    return Section(
        "Site ablation",
        claim="The gate projection holds nearly all of it.",
        text=run.words(ABLATION),
        figures=[figure],
        tables=[Table(columns, cells(sites, keys), "Means over relations", name="site-ablation")],
        notes=notes,
    )
