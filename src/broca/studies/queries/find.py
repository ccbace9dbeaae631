"""Finding alone: the neurons of every query, with what the untouched model answers.

1. As in every query study: answers, attributions, neurons by every method (`material.py`).
2. The untouched model is asked; nothing is edited. One field is enough.
"""

from __future__ import annotations

from broca.studies.queries.effect_findings import part_figures, part_tables
from broca.studies.queries.effect_words import accuracy_words, convergence_words
from broca.studies.queries.material import Material, Part, QueryBench, ask_untouched
from broca.studies.study import Findings, Plan, Results


class FindNeurons:
    """Neurons of every query, without interventions."""

    name = "queries.find"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every query asked untouched."""
        part = material.part("field", bench)
        return ask_untouched(part)

    def summarise(self, material: Material, results: Results) -> Findings:
        """Accuracy, neurons per query, layers, convergence."""
        part: Part = results.extra["part"]
        tables = part_tables(part, material.config)
        return Findings(
            part_figures(part, material.config, "queries"),
            tables,
            [
                *accuracy_words(tables["accuracy"], "field", part),
                *convergence_words(tables["convergence"], part),
            ],
        )


STUDIES = (FindNeurons(),)
