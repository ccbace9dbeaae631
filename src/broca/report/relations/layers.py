"""In which layers and sites the sets are."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.charts import neurons_per_layer_and_site
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import Column, percents, records_table
from broca.report.stored_run import StoredRun

LAYERS = "relations.layers"


def layers_section(run: StoredRun) -> Section:
    """Where the sets are."""
    rows = [
        {"panel": r["set"], "layer": r["layer"], "site": r["site"], "count": r["n"]}
        for r in run.table(LAYERS, "places")
    ]
    columns = {
        "set": "set",
        "neurons": Column("neurons", "d"),
        "units": Column("units", "d", "gate i, up i and hidden i of a layer are one unit"),
        "depth": Column("mean layer", ".2f", "0 the first, 1 the last"),
        **percents(lower="lower third", middle="middle third", upper="upper third"),
    }
    sites = {
        "site": "site",
        "neurons": Column("neurons in sets", "d"),
        **percents(share="share", of_all_neurons="of all neurons"),
        "enriched": Column("enriched", ".2f", "share / share of all neurons"),
    }
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
            records_table(run.table(LAYERS, "sets"), columns, "Sets", name="depth"),
            records_table(run.table(LAYERS, "sites"), sites, "Sites", name="sites"),
        ],
        notes=[
            "In the paper most are in the middle layers; here most are in the "
            f"{most} third ({thirds[most]:.0%})" + ("." if most == "middle" else ": they differ.")
        ],
        changes="Nothing is tested here: where sets lie follows from the finder. Switching sites "
        "off apart (relations.ablation) tests what the places do.",
    )


REPORT = StudyReport(lambda run, study: [layers_section(run)])
