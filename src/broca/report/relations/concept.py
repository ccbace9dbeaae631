"""Relation sets beside sets of what the subjects are."""

from __future__ import annotations

from broca.report.page import Section
from broca.report.parts.heatmaps import annotated_heatmap
from broca.report.parts.study import StudyReport
from broca.report.parts.tables import percents, records_table
from broca.report.stored_run import StoredRun

CONCEPT = "relations.concept"


def concept_section(run: StoredRun) -> Section:
    """Relation sets beside concept sets."""
    pairs = run.table(CONCEPT, "pairs")
    names = list(dict.fromkeys(pair["relation"] for pair in pairs))
    concepts = list(dict.fromkeys(pair["concept"] for pair in pairs))
    share = {(p["relation"], p["concept"]): p for p in pairs}
    own = [
        (i, j)
        for i, name in enumerate(names)
        for j, concept in enumerate(concepts)
        if share[name, concept]["own"]
    ]
    figure = annotated_heatmap(
        [[share[name, concept]["of_smaller"] for concept in concepts] for name in names],
        names,
        concepts,
        title="Neurons shared with concepts",
        caption=f"Share of a relation's set that is in a concept's set; framed: the concept of its "
        f"subjects. By chance {run.summary['concept.chance']:.1%}.",
        centre=None,
        text="{:.0%}".format,
        outline=own,
        name="concepts",
    )
    columns = {
        "relation": "relation",
        "concept": "concept of its subjects",
        **percents(
            shared_own="shared with it",
            shared_others="shared with others",
            drop="own set off",
            drop_own_concept="its concept's set off",
            drop_other_concepts="other concepts' sets off",
            drop_without_concept="own set without the concept's off",
        ),
    }
    return Section(
        "Relation or concept",
        claim="Relation neurons are not merely neurons of what the subjects are.",
        text=run.words(CONCEPT),
        figures=[figure],
        tables=[
            records_table(
                run.table(CONCEPT, "relations"),
                columns,
                "Overlaps, and losses of right answers (acc_drop)",
                name="concepts",
            )
        ],
        notes=[
            "The paper compares relation sets with concept sets as well; none of its figures for "
            "Llama-2-7B is known here, so nothing is compared."
        ],
        changes="Overlap with the set of the subject's concept, beyond chance and beyond other "
        "concepts, would say that a set serves the concept. Sets of other predicates, or "
        "more of them, could show it.",
    )


REPORT = StudyReport(lambda run, study: [concept_section(run)])
