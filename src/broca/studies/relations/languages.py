"""Languages: do neurons found in one language serve the relation in another?

Claim: neurons found with English prompts also matter when the same facts are asked in other
languages. arXiv 2502.17355 (one row: found in English); METHODS §2, study 5.

1. In every language: detection facts become prompts, those the model answers rightly are kept,
   neurons are found as in English, with the same k. Relations it does not know there are left
   out there, with the reason.
2. The evaluation facts, the same in all languages, are asked in every language with the set of
   every language off: the full matrix found × asked.
3. Beside it, in every cell: matched random sets, and the set of another relation (the one half
   way round the list), found in the same language.
4. Test for the sets of the base language: own against matched, sign flips over facts, Holm over
   relations, in every language asked.
5. Overlap of the sets of one relation found in two languages.

Names stay as they are; objects are translated where the facts say so. What differs from the
paper: all languages as sources, controls, tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from broca.store import summary_key
from broca.studies.relations.figures import (
    NAN,
    adjust,
    control_set,
    finite,
    flip_p,
    interval,
    mean,
    mean_estimate,
    means,
    median,
    percent,
    spared,
)
from broca.studies.relations.material import Material, left_out
from broca.studies.relations.tongues import Tongue, find_sets, render_tongue
from broca.studies.study import Bench, Condition, Findings, Plan, Results


class Languages:
    """Found in one language, asked in another."""

    name = "relations.languages"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Find neurons in every language, then switch all of them off in all languages."""
        config = material.config
        base = Tongue(
            config.language,
            dict(material.evaluation),
            dict(material.detection),
            dict(material.sets),
        )
        tongues = [base]
        for language in dict.fromkeys(config.languages):
            if language != config.language:
                tongues.append(render_tongue(material, language))
        find_sets(material, bench, tongues[1:])
        groups = {
            tongue.group(name, base.name): prompts
            for tongue in tongues
            for name, prompts in tongue.evaluation.items()
        }
        cells: dict[tuple[str, str, str, str], list[Condition]] = {}
        plan = material.plan(
            groups,
            extra={"cells": cells, "tongues": tongues},
        )
        for found in tongues:
            for asked in tongues:
                _switch(plan, material, found, asked, base.name, cells)
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """The matrix, the tests of the base language's sets, overlaps of sets."""
        cells, tongues = results.extra["cells"], results.extra["tongues"]
        records = [
            _record(material, results, cells, found.name, asked.name, name)
            for found in tongues
            for asked in tongues
            for name in material.names
            if (found.name, asked.name, name, "own") in cells
        ]
        base = material.config.language
        for asked in tongues:
            tested = [r for r in records if (r["found"], r["asked"]) == (base, asked.name)]
            adjust(tested, "p")
        alpha = material.config.alpha
        matrix = [_cell(records, f.name, a.name, alpha) for f in tongues for a in tongues]
        overlaps = _overlaps(material, tongues)
        skipped = [
            {"language": tongue.name, "relation": name, "reason": why}
            for tongue in tongues
            for name, why in tongue.skipped.items()
        ]
        figures = _figures(material, matrix, records, overlaps)
        return Findings(
            figures=figures,
            tables={
                "left_out": left_out(material),
                "matrix": matrix,
                "relations": records,
                "overlap": overlaps,
                "skipped": skipped,
            },
            words=_words(material, matrix, overlaps, skipped),
        )


def _switch(
    plan: Plan,
    material: Material,
    found: Tongue,
    asked: Tongue,
    base: str,
    cells: dict[tuple[str, str, str, str], list[Condition]],
) -> None:
    """Own, matched random and another relation's neurons off, for every relation of a cell."""
    names = [n for n in material.names if n in found.sets and n in asked.evaluation]
    known = [n for n in material.names if n in found.sets]
    for name in names:
        group, own = [asked.group(name, base)], found.sets[name]
        other = found.sets[known[(known.index(name) + len(known) // 2) % len(known)]]
        cells[found.name, asked.name, name, "own"] = plan.switch_off(own, group)
        cells[found.name, asked.name, name, "other"] = plan.switch_off(other, group)
        cells[found.name, asked.name, name, "matched"] = [
            condition
            for seed in range(material.config.n_template_controls)
            for condition in plan.switch_off(
                control_set(own, material.index, material.config.seed + seed),
                group,
                control="matched",
                seed=seed,
            )
        ]


def _record(
    material: Material,
    results: Results,
    cells: Mapping[tuple[str, str, str, str], list[Condition]],
    found: str,
    asked: str,
    name: str,
) -> dict[str, Any]:
    own, other, matched = (
        results[cells[found, asked, name, part]] for part in ("own", "other", "matched")
    )
    testable = own.accuracy_before > 0 and found == material.config.language
    return {
        "found": found,
        "asked": asked,
        "relation": name,
        "n": len(own),
        "before": own.accuracy_before,
        "after": own.accuracy,
        "own_drop": own.drop,
        "other_drop": other.drop,
        "matched_drop": matched.drop,
        "beyond": matched.accuracy - own.accuracy,
        "log_p_drop": float((own.log_p_before - own.log_p).mean()),
        "log_p_matched": float((matched.log_p_before - matched.log_p).mean()),
        "p": flip_p(spared(own, matched), material.config) if testable else NAN,
    }


def _cell(
    records: Sequence[dict[str, Any]], found: str, asked: str, alpha: float
) -> dict[str, Any]:
    here = [r for r in records if (r["found"], r["asked"]) == (found, asked)]
    return {
        "found": found,
        "asked": asked,
        "relations": len(here),
        "own_drop_median": median(r["own_drop"] for r in here),
        **means(here, "before", "own_drop", "other_drop", "matched_drop", "log_p_drop"),
        "significant": sum(r.get("p_holm", 1.0) < alpha for r in here),
    }


def _overlaps(material: Material, tongues: Sequence[Tongue]) -> list[dict[str, Any]]:
    records = []
    for a, b in combinations(tongues, 2):
        names = [name for name in material.names if name in a.sets and name in b.sets]
        shares = [a.sets[name].overlap(b.sets[name]).of_smaller for name in names]
        others = [
            a.sets[name].overlap(b.sets[other]).of_smaller
            for name in names
            for other in names
            if other != name
        ]
        records.append(
            {
                "a": a.name,
                "b": b.name,
                "relations": len(names),
                "same_relation": mean(shares),
                "other_relation": mean(others),
                "chance": material.k / len(material.index),
            }
        )
    return records


def _figures(
    material: Material,
    matrix: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    overlaps: Sequence[dict[str, Any]],
) -> dict[str, float | int | None]:
    base = material.config.language
    away = [c for c in matrix if c["found"] == base != c["asked"] and c["relations"]]
    across = [c for c in matrix if c["found"] != c["asked"] and c["relations"]]
    home = next(c for c in matrix if c["found"] == base == c["asked"])
    beyond = [
        mean(
            r["beyond"]
            for r in records
            if r["relation"] == name and r["found"] == base != r["asked"]
        )
        for name in material.names
    ]
    figures: dict[str, float | int | None] = {
        "languages.asked": len(away),
        **interval("languages.beyond_away", mean_estimate(finite(beyond), material.config)),
        "languages.own_drop_home": home["own_drop"],
        "languages.own_drop_away": mean(c["own_drop"] for c in away),
        "languages.other_drop_away": mean(c["other_drop"] for c in away),
        "languages.matched_drop_away": mean(c["matched_drop"] for c in away),
        "languages.own_drop_across": mean(c["own_drop"] for c in across),
        "languages.relations_tested": sum(c["relations"] for c in away),
        "languages.relations_significant": sum(c["significant"] for c in away),
        "languages.overlap_same_relation": mean(o["same_relation"] for o in overlaps),
        "languages.overlap_other_relation": mean(o["other_relation"] for o in overlaps),
        "languages.overlap_chance": material.k / len(material.index),
    }
    for cell in matrix:
        key = summary_key("languages", f"{cell['found']}-{cell['asked']}", "own_drop")
        figures[key] = cell["own_drop"]
    return figures


def _words(
    material: Material,
    matrix: Sequence[dict[str, Any]],
    overlaps: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, Any]],
) -> list[str]:
    base = material.config.language
    away = [c for c in matrix if c["found"] == base != c["asked"] and c["relations"]]
    words = []
    if away:
        home = next(c for c in matrix if c["found"] == base == c["asked"])
        listed = ", ".join(f"{c['asked']} {percent(c['own_drop'])}" for c in away)
        words.append(
            f"Neurons found in {base} cost their relation {percent(home['own_drop'])} of its right "
            f"answers there, and asked in other languages: {listed} (means over relations; "
            f"another relation's neurons {percent(mean(c['other_drop'] for c in away))}, matched "
            f"random ones {percent(mean(c['matched_drop'] for c in away))})."
        )
        words.append(
            f"Own exceeds matched random in {sum(c['significant'] for c in away)} of "
            f"{sum(c['relations'] for c in away)} pairs of relation and other language "
            "(sign flips, Holm over relations)."
        )
    same = mean(o["same_relation"] for o in overlaps)
    if same == same:
        words.append(
            f"Sets of one relation found in two languages share {same:.0%} of their neurons, sets "
            f"of different relations {mean(o['other_relation'] for o in overlaps):.0%}."
        )
    for language in dict.fromkeys(record["language"] for record in skipped):
        lacking = [r for r in skipped if r["language"] == language]
        names = ", ".join(r["relation"] for r in lacking)
        words.append(f"Left out in {language}: {names} ({lacking[0]['reason']}).")
    return words


STUDIES = (Languages(),)
