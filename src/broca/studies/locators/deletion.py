"""What is lost when a locator's neurons of every layer are deleted (DEL)?

Claim: the neurons found carry this answer and little else.

1. The first .1, .5, ... % of each layer (at least one neuron) are set to 0 at every position.
2. Lost: the share of P of the own answer, of answers of other relations (means over four prompts),
   and nats per token of plain sentences.
3. Means over prompts with intervals; paired with the reference.

Source: DEL of arXiv 2311.09060, section 3.2. There the own text is a memorised passage and P that
of all its tokens; here it is the answer's P *(ours)*.
"""

from __future__ import annotations

from broca.studies.locators.agreement import judged_prompts
from broca.studies.locators.material import KeepingBench, Material
from broca.studies.locators.published import LOST
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.study import Findings, Plan, Results

SIDES = ("own", "other", "text")


class Deletion:
    """See the module."""

    name = "locators.deletion"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        return Plan({}, extra={"units": judged_prompts(material, bench)})

    def summarise(self, material: Material, results: Results) -> Findings:
        config, units = material.config, results.extra["units"]
        tables, figures, words = [], {}, []
        for number, share in enumerate(config.deleted):
            reads = {
                side: (lambda one, side=side, n=number: one[f"deleted_{side}"][n]) for side in SIDES
            }
            records = compared(units, config, reads)
            best = winners(units, config, reads["own"])
            for record in records:
                record |= {"share": share, "own_wins": record["locator"] in best}
                record["published_own"], record["published_other"] = LOST.get(
                    record["locator"], (None, None)
                )
            tables += records
            figures |= flat_figures(f"{self.name}.{share:g}", records, SIDES)
            first = max(
                (r for r in records if r["locator"] not in ("exact", "random")),
                key=lambda r: r["own"],
            )
            words.append(
                f"With {share:.1%} of every layer off, {first['title']} costs the own answer "
                f"{told(first, 'own')} of its P, others {told(first, 'other')}."
            )
        return Findings(figures, {"locators": tables}, words)


STUDIES = (Deletion(),)
