"""Positions: how much depends on where a query's neurons are suppressed?

Claim tested: a query's neurons act where the answer is read. The paper scales neurons at the last
position only (arXiv 2406.10868, section 5); a neuron may do more, or less alone, elsewhere. Ours.

1. NA-ICA's sets are suppressed where the answer is read (with letters the last position), on the
   lines of the options (letters only), and at all positions of the prompt.
2. Matched random sets, other answers and the ceiling stand beside each, at the same positions
   (`ways.py`).
"""

from __future__ import annotations

from broca.questions import require_several_fields
from broca.studies.queries.material import Material, Place, QueryBench, placed
from broca.studies.queries.ways import plan_ways, ways_findings
from broca.studies.study import Findings, Plan, Results

PLACES: dict[str, tuple[Place, ...]] = {
    "letters": ("answer", "options", "all"),
    "words": ("answer", "all"),
}


class Positions:
    """Own and random sets suppressed at the last position, the option lines, everywhere."""

    name = "queries.positions"
    several_fields = True

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every set at every place.

        Raises:
            QuestionsError: There is one field only.
        """
        part = material.part("field", bench)
        require_several_fields(list(part.questions.values()))
        ways = {place: placed(part, place, material.config, bench) for place in PLACES[part.answer]}
        return plan_ways(material.config, part, ways)

    def summarise(self, material: Material, results: Results) -> Findings:
        """A record per place."""
        return ways_findings(material.config, results, "queries.positions", "Position")


STUDIES = (Positions(),)
