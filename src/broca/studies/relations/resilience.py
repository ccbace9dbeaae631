"""Resilience: do facts seen often survive when the relation's neurons are off?

Claim: facts that remain right with the relation's neurons off tend to be those seen more often in
training. arXiv 2502.17355 (p = .11 for 7B, .03 for 13B); METHODS §2, study 10.

1. Per relation, own neurons off: resilient facts are right before and after, sensitive facts
   right before only (evaluation facts and checked detection facts).
2. diff = (mean frequency of sensitive facts − that of resilient ones) / that of resilient ones;
   over relations a Wilcoxon signed-rank test of diff < 0.
3. *Ours*: a rank-sum test over all facts, on ranks of frequency within their relation, since
   relations differ in how often they are spoken of; and the share of resilient facts by band.

Frequencies come from a table (`frequencies`; that of atlas comes with it), or from the facts
themselves: their exposure, or else the band they are in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from broca.estimates import rank_sum_test, wilcoxon_test
from broca.facts import load_relations
from broca.store import summary_key
from broca.studies.relations.figures import NAN, mean, p_words
from broca.studies.relations.material import Material, detection_groups, evaluation_group, left_out
from broca.studies.relations.texts import has_frequencies, load_frequencies
from broca.studies.study import Bench, Findings, Outcomes, Plan, Results


class Resilience:
    """Frequencies of facts that are lost and of facts that are kept."""

    name = "relations.resilience"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Own sets off: the conditions of the intra-relation study."""
        cells: dict[str, Any] = {}
        frequency, source = frequencies_of(material)
        extra = {"cells": cells, "frequency": frequency, "source": source}
        plan = material.plan(
            material.groups,
            extra=extra,
        )
        for name in material.names:
            groups = [evaluation_group(name), *detection_groups(name)]
            cells[name] = plan.switch_off(material.sets[name], groups)
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Both tests, and the facts of every relation."""
        frequency, source = results.extra["frequency"], results.extra["source"]
        facts = [
            record
            for name, conditions in results.extra["cells"].items()
            for record in _facts(name, results[conditions], frequency)
        ]
        relations = [_relation(facts, name) for name in material.names]
        bands = _bands(facts)
        figures = _figures(facts, relations)
        return Findings(
            figures=figures,
            tables={"left_out": left_out(material), "relations": relations, "bands": bands},
            words=_words(facts, relations, source, figures),
        )


def frequencies_of(material: Material) -> tuple[dict[str, float], str]:
    """Id of a fact -> how often it was seen, and where that is from ("" if nowhere).

    Raises:
        FactsError: The table of the settings cannot be read.
    """
    config = material.config
    source = config.frequencies
    if source == "auto" and config.facts == "atlas" and has_frequencies("atlas"):
        source = "atlas"
    if source != "auto":
        return _by_id(material, load_frequencies(source)), source
    for attribute in ("exposure", "band"):
        found = {
            fact.id: float(getattr(fact, attribute))
            for fact in _all_facts(material)
            if getattr(fact, attribute) is not None
        }
        if found:
            return found, f"the facts' {attribute}"
    return {}, ""


def _all_facts(material: Material) -> Sequence[Any]:
    """The facts as loaded: the material keeps those of detection only."""
    config = material.config
    loaded = load_relations(
        config.facts,
        templates=config.templates,
        language=config.language,
        relations=material.names,
    )
    return loaded.facts


def _by_id(material: Material, table: Mapping[str, float]) -> dict[str, float]:
    """A table by fact id, or by `relation:subject` where the ids are the facts' own."""
    found = {}
    for name in material.names:
        for prompt in (*material.evaluation[name], *material.detection[name]):
            key = prompt.fact if prompt.fact in table else f"{name}:{prompt.subject}"
            if key in table:
                found[prompt.fact] = table[key]
    return found


def _facts(name: str, outcomes: Outcomes, frequency: Mapping[str, float]) -> list[dict[str, Any]]:
    """Facts right before whose frequency is known, with their rank (0 to 1) in the relation."""
    rows = [
        i
        for i in np.flatnonzero(outcomes.correct_before.astype(bool))
        if outcomes.fact[i] in frequency
    ]
    values = [frequency[outcomes.fact[i]] for i in rows]
    ranks = (stats.rankdata(values) - 0.5) / len(values) if values else []
    return [
        {
            "relation": name,
            "fact": outcomes.fact[i],
            "frequency": value,
            "rank": float(rank),
            "resilient": bool(outcomes.correct[i]),
        }
        for i, value, rank in zip(rows, values, ranks, strict=True)
    ]


def relative_difference(sensitive: Sequence[float], resilient: Sequence[float]) -> float:
    """(mean of sensitive − mean of resilient) / mean of resilient, NaN where undefined."""
    if not len(sensitive) or not len(resilient) or np.mean(resilient) == 0:
        return NAN
    return float((np.mean(sensitive) - np.mean(resilient)) / np.mean(resilient))


def _relation(facts: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    mine = [fact for fact in facts if fact["relation"] == name]
    resilient = [fact["frequency"] for fact in mine if fact["resilient"]]
    sensitive = [fact["frequency"] for fact in mine if not fact["resilient"]]
    return {
        "relation": name,
        "resilient": len(resilient),
        "sensitive": len(sensitive),
        "frequency_resilient": mean(resilient),
        "frequency_sensitive": mean(sensitive),
        "difference": relative_difference(sensitive, resilient),
    }


def _bands(facts: Sequence[dict[str, Any]], n: int = 4) -> list[dict[str, Any]]:
    """Share of resilient facts by quarter of frequency within the relation, rarest first."""
    records = []
    for band in range(n):
        here = [f for f in facts if min(int(f["rank"] * n), n - 1) == band]
        share = mean(float(f["resilient"]) for f in here)
        records.append({"quarter": band + 1, "facts": len(here), "resilient": share})
    return records


def _figures(
    facts: Sequence[dict[str, Any]], relations: Sequence[dict[str, Any]]
) -> dict[str, float | int | None]:
    differences = [r["difference"] for r in relations if np.isfinite(r["difference"])]
    resilient = [f["rank"] for f in facts if f["resilient"]]
    sensitive = [f["rank"] for f in facts if not f["resilient"]]
    both = bool(resilient and sensitive)
    figures: dict[str, float | int | None] = {
        "resilience.facts": len(facts),
        "resilience.facts_resilient": len(resilient),
        "resilience.relations": len(differences),
        "resilience.relations_negative": sum(d < 0 for d in differences),
        "resilience.difference_mean": mean(differences),
        "resilience.p_relations": wilcoxon_test(differences, alternative="less").p
        if differences
        else NAN,
        "resilience.rank_resilient": mean(resilient),
        "resilience.rank_sensitive": mean(sensitive),
        "resilience.p_facts": rank_sum_test(sensitive, resilient, alternative="less").p
        if both
        else NAN,
    }
    for record in relations:
        key = summary_key("resilience", record["relation"], "difference")
        figures[key] = record["difference"]
    return figures


def _words(
    facts: Sequence[dict[str, Any]],
    relations: Sequence[dict[str, Any]],
    source: str,
    figures: dict[str, Any],
) -> list[str]:
    if not source:
        return ["The facts say nothing of how often they were seen, and no table was given."]
    if not figures["resilience.relations"]:
        return [
            f"Frequencies from {source}. No relation has both facts that are kept and facts that "
            f"are lost ({len(facts)} facts)."
        ]
    return [
        f"Frequencies from {source}. Frequency of lost facts against kept ones: "
        f"{figures['resilience.difference_mean']:+.0%} in the mean over "
        f"{figures['resilience.relations']} relations "
        f"({figures['resilience.relations_negative']} below; Wilcoxon "
        f"{p_words(figures['resilience.p_relations'])}).",
        f"Over {len(facts)} facts, rank of frequency within the relation: lost "
        f"{figures['resilience.rank_sensitive']:.2f}, kept "
        f"{figures['resilience.rank_resilient']:.2f} "
        f"(rank-sum {p_words(figures['resilience.p_facts'])}).",
    ]


STUDIES = (Resilience(),)
