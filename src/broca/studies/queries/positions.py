"""Positions: how much depends on where a query's neurons are suppressed?

Claim tested: a query's neurons act where the answer is read. The paper scales neurons at the last
position only (arXiv 2406.10868, section 5); a neuron may do more, or less alone, elsewhere. Ours.

1. NA-ICA's sets are suppressed where the answer is read (with letters the last position), on the
   lines of the options (letters only), and at all positions of the prompt.
2. Matched random sets, other answers and the ceiling stand beside each, at the same positions
   (`ways.py`).
3. Elsewhere: what own sets cost beyond matched ones at all positions, less the same where the
   answer is read, over the same queries; its verdict by the scale (METHODS §7).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from broca.estimates import bootstrap_mean, fewest_to_flip, judge, sign_flip_test
from broca.questions import require_several_fields
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect_words import with_ends
from broca.studies.queries.effects import SIGN, group_sums, spread
from broca.studies.queries.material import Material, Place, QueryBench, placed
from broca.studies.queries.ways import OWN, SUPPRESS, plan_ways, way_effects, ways_findings
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
        """A record per place, and what is added elsewhere than where the answer is read."""
        found = ways_findings(material.config, results, "queries.positions", "Position")
        added = added_elsewhere(material.config, results)
        figures = {
            f"queries.positions.{name}": added[name]
            for name in added
            if name != "elsewhere_verdict"
        }
        return replace(
            found,
            figures={**found.figures, **figures},
            tables={**found.tables, "elsewhere": [added] if added else []},
            words=[*found.words, *_words(added)],
        )


def added_elsewhere(config: QueriesConfig, results: Results) -> dict[str, Any]:
    """What own sets cost at all positions beyond the answer's, and beyond matched sets there.

    Empty where no matched sets were tried.
    """
    beyond = []
    for place in ("answer", "all"):
        effects = way_effects(results, place)
        own, random = (effects.relative.get((*OWN, *SUPPRESS, k)) for k in ("related", "matched"))
        if own is None or random is None or not np.isfinite(random).any():
            return {}
        beyond.append(own - random)
        units = np.array(effects.units, dtype=object)
    gap = SIGN["suppress"] * (beyond[1] - beyond[0])
    drawn = np.isfinite(gap)
    gap, units = gap[drawn], units[drawn]
    options: dict[str, Any] = {"seed": config.seed, "n_resamples": config.n_resamples}
    added = bootstrap_mean(gap, groups=units, **options)
    sums = group_sums(gap, units)
    p = sign_flip_test(sums, seed=config.seed, n_permutations=config.n_permutations)
    verdict = judge(
        added,
        config.smallest_share,
        p=p,
        alpha=config.alpha,
        reachable=len(sums) >= fewest_to_flip(config.alpha),
    )
    return {**spread("elsewhere", added), "elsewhere_p": p, "elsewhere_verdict": verdict}


def _words(added: Mapping[str, Any]) -> list[str]:
    if not added:
        return []
    return [
        "At all positions the own neurons cost "
        f"{with_ends(added, 'elsewhere')} of P more than where the answer is read alone, beyond "
        f"what matched random ones add (p = {added['elsewhere_p']:.2g})."
    ]


STUDIES = (Positions(),)
