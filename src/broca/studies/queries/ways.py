"""The same queries and sets tried in several ways: at other positions, or replaced otherwise.

1. A way is a part that says where its neurons are suppressed, and what is put in their place.
2. In every way NA-ICA's sets are suppressed on the own prompts, on others of the same field, and of
   other fields; random sets of each kind, and all neurons of the site (the ceiling), on the own.
3. Related against random sets of each kind: sign flips over queries, Holm over the ways; the
   verdict by the scale (METHODS §7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from broca.estimates import holm
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect import (
    Activity,
    ceiling_records,
    effect_groups,
    plan_ceilings,
    set_conditions,
)
from broca.studies.queries.effect_words import with_ends
from broca.studies.queries.effects import CONTROLS, Effects, Key, describe, verdict_of
from broca.studies.queries.material import Part, near_chance, own_group
from broca.studies.study import Condition, Findings, Plan, Results

OWN, SUPPRESS = ("na-ica",), ("suppress",)


def plan_ways(
    config: QueriesConfig, part: Part, ways: Mapping[str, Part], activity: Activity | None = None
) -> Plan:
    """Every query's own and random sets suppressed in every way.

    Args:
        config: The settings.
        part: The queries.
        ways: Name -> the same queries, with where and how neurons are suppressed.
        activity: Where given, sets as active are tried as well.
    """
    config = replace(config, methods=OWN)
    plan = Plan(effect_groups(part, config)[0])
    plan.ask([own_group(query) for query in part.questions])
    places: dict[str, dict[Key, list[Condition]]] = {name: {} for name in ways}
    for name, way in ways.items():
        for query in way.found:
            options: dict[str, Any] = {"actions": SUPPRESS, "activity": activity}
            for key, condition in set_conditions(plan, way, query, config, **options):
                places[name].setdefault(key, []).append(condition)
    ceilings = {n: plan_ceilings(plan, way, config, layers=False) for n, way in ways.items()}
    plan.extra = {"part": part, "places": places, "ceilings": ceilings}
    return plan


def ways_findings(config: QueriesConfig, results: Results, prefix: str, what: str) -> Findings:
    """A record per way, with its verdicts.

    Args:
        config: The settings.
        results: Of `plan_ways`.
        prefix: Of the figures.
        what: What a way is, in words.
    """
    part: Part = results.extra["part"]
    records = [{"way": name, **_record(config, results, name)} for name in results.extra["places"]]
    for control in CONTROLS:
        here = [record for record in records if f"p_{control}" in record]
        if here:
            for record, p in zip(here, holm([r[f"p_{control}"] for r in here]), strict=True):
                record[f"p_{control}_holm"] = float(p)
                record[f"{control}_verdict"] = verdict_of(record, config, control)
    figures = {
        f"{prefix}.{record['way']}.{name}": record[name]
        for record in records
        for name in ("related", "same", "unrelated", "ceiling", *CONTROLS, *CONTROLS.values())
        if name in record
    }
    near = near_chance(part.accuracy().low, part.chance())
    tables = {
        "ways": records,
        "caution": [{"near_chance": near}],
        "about": [{"answer": part.answer}],
    }
    return Findings(figures, tables, _words(records, what))


def way_effects(results: Results, way: str) -> Effects:
    """Effects of all sets in one way, by query."""
    part: Part = results.extra["part"]
    places = results.extra["places"][way]
    return Effects.of(part.found, places, results, OWN, SUPPRESS, part.bases(part.found))


def _record(config: QueriesConfig, results: Results, way: str) -> dict[str, Any]:
    effects = way_effects(results, way)
    (ceiling,) = ceiling_records(results, results.extra["ceilings"][way], config)
    return {
        **describe(
            effects,
            *OWN,
            *SUPPRESS,
            seed=config.seed,
            n_resamples=config.n_resamples,
            n_permutations=config.n_permutations,
        ),
        **{name.replace("change", "ceiling"): v for name, v in ceiling.items() if "change" in name},
    }


def _words(records: Sequence[Mapping[str, Any]], what: str) -> list[str]:
    words = []
    for record in records:
        random = [
            f"{name} {with_ends(record, control)}"
            for control, name in (("matched", "matched random neurons"), ("active", "as active"))
            if control in record
        ]
        has_same = record["same"] is not None
        alike = f", of the same field {with_ends(record, 'same')}" if has_same else ""
        words.append(
            f"{what} {record['way']}: the own neurons change P by {with_ends(record, 'related')}, "
            f"{', '.join(random)}; other answers{alike}, of other fields "
            f"{with_ends(record, 'unrelated')}; all neurons together "
            f"{with_ends(record, 'ceiling')} (n = {record['n']} queries)."
        )
    return words
