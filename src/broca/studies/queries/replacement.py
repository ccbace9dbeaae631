"""Replacement: what survives when a query's neurons are not set to zero?

Claim tested: a query's neurons matter to its answer, whatever is put in their place. Ours
(METHODS §7); the paper multiplies by zero, which is far from anything the model knows at some of
them.

1. Zero, the mean over all queries' prompts, and a resample (values from one prompt of another
   field; `broca.studies.replacing`) take the place of NA-ICA's sets, of matched random sets, of
   random sets as active (nearest mean |value| in the same layer), and of all neurons.
2. Related beyond each kind of random sets, with its verdict (`ways.py`): a conclusion names which
   replacements and which controls it survives.
"""

from __future__ import annotations

from dataclasses import replace

from broca.questions import require_several_fields
from broca.studies.queries.material import Material, QueryBench, record_part, replaced_by
from broca.studies.queries.ways import plan_ways, ways_findings
from broca.studies.replacing import KINDS
from broca.studies.study import Findings, Plan, Results


class QueryReplacement:
    """Zero, mean and resample in the place of own, matched and equally active neurons."""

    name = "queries.replacement"
    several_fields = True

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Every set under every replacement.

        Raises:
            QuestionsError: There is one field only.
        """
        config, part = material.config, material.part("field", bench)
        require_several_fields(list(part.questions.values()))
        ways = {
            kind: replace(part, replacement=replaced_by(kind, part, bench, config.seed))
            for kind in KINDS
        }
        responses = record_part(part, bench)
        activity = responses.index, responses.means(absolute=True)
        return plan_ways(config, part, ways, activity if config.n_active else None)

    def summarise(self, material: Material, results: Results) -> Findings:
        """A record per replacement."""
        return ways_findings(material.config, results, "queries.replacement", "Replacement")


STUDIES = (QueryReplacement(),)
