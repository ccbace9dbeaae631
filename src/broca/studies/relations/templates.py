"""Other templates: do the neurons serve the relation when it is asked in other words?

Claim: the effect carries over to wordings the neurons were not found with.
arXiv 2502.17355; METHODS §2, study 6.

1. The evaluation facts are asked in every other set of wordings the facts come with.
2. The relations' own sets, found with the usual wordings, are switched off there; matched random
   sets, and the set of another relation (the one half way round the list), beside them.
3. Test per relation and set of wordings: own against matched, sign flips over facts, Holm over
   relations.

What differs from the paper: controls, tests, log P.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from broca.facts import Fact
from broca.prompts import Prompt
from broca.store import summary_key
from broca.studies.relations.figures import (
    NAN,
    adjust,
    drop_estimate,
    flip_p,
    interval,
    log_p_drop,
    means,
    median,
    percent,
    spared,
)
from broca.studies.relations.material import Material, evaluation_group, left_out
from broca.studies.study import Bench, Findings, Plan, Results


class OtherTemplates:
    """Own sets off, facts asked in other words."""

    name = "relations.templates"

    def plan(self, material: Material, bench: Bench) -> Plan:
        """Own, matched and another relation's set off, in every set of wordings."""
        config = material.config
        wordings = [config.template_set, *config.other_templates]
        rendered = {(w, n): in_words(material, n, w) for w in wordings for n in material.names}
        groups = {_group(material, *key): prompts for key, prompts in rendered.items() if prompts}
        cells: dict[tuple[str, str], dict[str, Any]] = {}
        extra = {"cells": cells, "lacking": [key for key, p in rendered.items() if not p]}
        plan = material.plan(groups, extra=extra)
        for wording, name in (key for key, prompts in rendered.items() if prompts):
            group = [_group(material, wording, name)]
            half_way = (material.names.index(name) + len(material.names) // 2) % len(material.names)
            cells[wording, name] = {
                "own": plan.switch_off(material.sets[name], group),
                "other": plan.switch_off(material.sets[material.names[half_way]], group),
                "matched": material.matched_off(plan, name, group, config.n_template_controls),
            }
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Drops per relation and set of wordings."""
        cells = results.extra["cells"]
        records = [_record(material, results, wording, n, c) for (wording, n), c in cells.items()]
        wordings = list(dict.fromkeys(record["wordings"] for record in records))
        for wording in wordings:
            adjust([r for r in records if r["wordings"] == wording], "p")
        table = [_wording(records, wording, material.config.alpha) for wording in wordings]
        lacking = [{"wordings": w, "relation": name} for w, name in results.extra["lacking"]]
        return Findings(
            figures=_figures(table),
            tables={
                "left_out": left_out(material),
                "relations": records,
                "wordings": table,
                "lacking": lacking,
            },
            words=_words(table, lacking),
        )


def _group(material: Material, wording: str, name: str) -> str:
    own = evaluation_group(name)
    return own if wording == material.config.template_set else f"evaluation-in-{wording}/{name}"


def in_words(material: Material, name: str, wording: str) -> Sequence[Prompt]:
    """The evaluation facts of a relation in a set of wordings, () where there is none."""
    if wording == material.config.template_set:
        return material.evaluation[name]
    relation = material.facts[name]
    if not relation.templates.get(wording):
        return ()
    facts = tuple(
        Fact(p.subject, name, p.answers, relation.language, p.fact)
        for p in material.evaluation[name]
    )
    return material.asking.render(
        replace(relation, facts=facts), template_set=wording, role="other-templates"
    )


def _record(
    material: Material, results: Results, wording: str, name: str, cell: Mapping[str, Any]
) -> dict[str, Any]:
    own, other, matched = (results[cell[part]] for part in ("own", "other", "matched"))
    testable = own.accuracy_before > 0
    return {
        "wordings": wording,
        "relation": name,
        "n": len(own),
        "before": own.accuracy_before,
        "after": own.accuracy,
        **interval("own_drop", drop_estimate(own)),
        "other_drop": other.drop,
        "matched_drop": matched.drop,
        "log_p_drop": log_p_drop(own),
        "log_p_matched": log_p_drop(matched),
        "p": flip_p(spared(own, matched), material.config) if testable else NAN,
        "p_log_p": flip_p(spared(own, matched, "log_p"), material.config),
    }


def _wording(records: Sequence[dict[str, Any]], wording: str, alpha: float) -> dict[str, Any]:
    here = [record for record in records if record["wordings"] == wording]
    return {
        "wordings": wording,
        "relations": len(here),
        "own_drop_median": median(r["own_drop"] for r in here),
        **means(here, "before", "own_drop", "other_drop", "matched_drop"),
        **means(here, "log_p_drop", "log_p_matched"),
        "significant": sum(r["p_holm"] < alpha for r in here),
    }


def _figures(table: Sequence[dict[str, Any]]) -> dict[str, float | int | None]:
    keys = ("before", "own_drop", "own_drop_median", "other_drop", "matched_drop", "significant")
    return {
        summary_key("templates", record["wordings"], key): record[key]
        for record in table
        for key in (*keys, "log_p_drop")
    }


def _words(table: Sequence[dict[str, Any]], lacking: Sequence[dict[str, Any]]) -> list[str]:
    words = [
        f"In the wordings '{r['wordings']}' ({percent(r['before'])} right before), own neurons "
        f"cost {percent(r['own_drop'])} of the right answers, matched random ones "
        f"{percent(r['matched_drop'])}; {r['significant']} of {r['relations']} relations."
        for r in table
    ]
    for wording in dict.fromkeys(record["wordings"] for record in lacking):
        names = [record["relation"] for record in lacking if record["wordings"] == wording]
        words.append(f"No wordings '{wording}' for {', '.join(names)}: left out there.")
    return words


STUDIES = (OtherTemplates(),)
