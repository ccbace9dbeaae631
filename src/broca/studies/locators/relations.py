"""Do locators find the neurons of a relation: what carries its answers and spares others'?

Claim: the neurons of highest average precision carry a relation (arXiv 2502.17355); learned masks
look for the fewest without which its answers are lost and others' are not (arXiv 2311.09060).

1. Of every relation, prompts that the model answers rightly, one per fact: the first `n_group` are
   what locators see (with `n_others` of other relations, for contrasts and for what masks spare),
   the next `n_judged` what sets are judged on, with as many of other relations.
2. A locator's numbers are averaged over the prompts it saw; masks are one for the relation, learned
   to destroy its answers.
3. The first k neurons are set to 0 at every position, k growing. Lost: the share of P of the own
   answers and of others' (1 - P after / P before, means over prompts).
4. Own loss minus other loss at equal sizes; means over relations with intervals, paired with
   average precision over the same relations.
5. The smallest size on the ladder at which at most half of the own answers are still said, and
   what others lose at that size.

Source: METHODS, "Locators and the truth"; sets and their loss are those of arXiv 2502.17355.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from broca.effects.agreement import ranked
from broca.effects.aims import Aim, make_aims
from broca.errors import StudyError
from broca.estimates import bootstrap_mean
from broca.interventions import Deactivate, intervene
from broca.locators import find_locator, locate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex
from broca.prompts import Prompt
from broca.studies.locators.answering import Answers, measure_answers
from broca.studies.locators.config import LocatorsConfig
from broca.studies.locators.material import (
    KeepingBench,
    Material,
    known_first,
    round_by_round,
)
from broca.studies.locators.tables import compared, flat_figures, told, winners
from broca.studies.study import Findings, Plan, Results

REFERENCE = "expertise"
_ASKED = 96  # prompts of a relation asked to find known ones, at most


class Relations:
    """See the module."""

    name = "locators.relations"

    def plan(self, material: Material, bench: KeepingBench) -> Plan:
        """Judge relation by relation.

        Raises:
            StudyError: The model knows too few facts of all relations but one.
        """
        config = material.config
        known = known_prompts(bench, material)
        seen = {name: listed[: config.n_group] for name, listed in known.items()}
        judged = {name: listed[config.n_group :] for name, listed in known.items()}
        items = []
        for name in known:
            others = round_by_round({n: p for n, p in seen.items() if n != name})
            rest = round_by_round({n: p for n, p in judged.items() if n != name})[: config.n_judged]
            parts = _Parts(name, seen[name], others[: config.n_others], judged[name], rest)
            items.append(({"settings": asdict(config), "prompts": parts.texts()}, parts))
        units = bench.keep(
            "relation", lambda model, parts: judge_relation(model, config, parts), items
        )
        return Plan({}, extra={"units": units})

    def summarise(self, material: Material, results: Results) -> Findings:
        config, units = material.config, results.extra["units"]
        config = replace(config, locators=config.relation_locators, reference=REFERENCE)
        tables, figures = [], {}
        for number, size in enumerate(config.relation_sizes):
            reads = {
                "own": lambda one, n=number: one["own"][n],
                "other": lambda one, n=number: one["other"][n],
                "apart": lambda one, n=number: one["own"][n] - one["other"][n],
            }
            records = compared(units, config, reads)
            best = winners(units, config, reads["apart"])
            for record in records:
                record |= {"k": size, "apart_wins": record["locator"] in best}
            tables += records
            figures |= flat_figures(f"{self.name}.{size}", records, ("own", "other", "apart"))
        halves = [_half(units, name, config) for name in config.locators]
        figures |= {f"{self.name}.{h['locator']}.half_reached": h["reached"] for h in halves}
        return Findings(
            figures,
            {"locators": tables, "halves": halves, "relations": _relations(units, config)},
            _words(tables, halves, config, len(units)),
        )


class _Parts:
    """The prompts of one relation: seen by locators, and judged on."""

    def __init__(
        self,
        name: str,
        own: Sequence[Prompt],
        others: Sequence[Prompt],
        judged: Sequence[Prompt],
        elsewhere: Sequence[Prompt],
    ) -> None:
        self.name, self.own, self.others = name, own, others
        self.judged, self.elsewhere = judged, elsewhere

    def texts(self) -> list[list[str]]:
        """What determines the result."""
        listed = (self.own, self.others, self.judged, self.elsewhere)
        return [[prompt.text for prompt in prompts] for prompts in listed]


def known_prompts(bench: KeepingBench, material: Material) -> dict[str, list[Prompt]]:
    """Relation -> prompts with right answers, one per fact, as many as are needed.

    Raises:
        StudyError: Fewer than two relations have enough.
    """
    config = material.config
    enough = config.n_group + config.n_judged
    found = {}
    for name, prompts in material.asked.items():
        firsts = list({prompt.fact: prompt for prompt in reversed(prompts)}.values())[::-1]
        order = known_first(bench, firsts[:_ASKED], enough)
        right = [firsts[number] for number, known in order if known]
        if len(right) >= enough:
            found[name] = right[:enough]
    if len(found) < 2:
        raise StudyError(
            f"the model knows {enough} facts of {len(found)} relations, two are needed",
            mend="Use smaller n_group and n_judged, or another form of asking",
        )
    return found


def judge_relation(model: LanguageModel, config: LocatorsConfig, parts: _Parts) -> dict[str, Any]:
    """Every locator's sets of one relation, as plain values."""
    aims = [make_aims(model, listed, "answer") for listed in (parts.judged, parts.elsewhere)]
    before = [measure_answers(model, listed) for listed in aims]
    index = NeuronIndex(model.identity, ("hidden",))
    sizes = [k for k in config.relation_sizes if k <= len(index)]
    found = {}
    for name in config.relation_locators:
        locator = find_locator(name)
        located = locate(
            model,
            list(parts.own),
            name,
            others=parts.others if locator.contrast or locator.learned else (),
            seed=config.seed,
            **_settings(name, config, model),
        )
        order = ranked(index.of_grid(located.mean()))
        after = [_without(model, order[:size], aims) for size in sizes]
        found[name] = {
            "seconds": located.seconds,
            "own": [_lost(own, before[0]) for own, _ in after],
            "other": [_lost(other, before[1]) for _, other in after],
            "still_right": [float(own.right[before[0].right].mean()) for own, _ in after],
        }
    return {"relation": parts.name, "locators": found}


def _settings(name: str, config: LocatorsConfig, model: LanguageModel) -> dict[str, Any]:
    settings = config.settings_of(name, model.identity.total("hidden"))
    if find_locator(name).learned:
        settings |= {"shared": True, "goal": "destroy"}
    return settings


def _without(
    model: LanguageModel, flat: np.ndarray, aims: Sequence[Sequence[Sequence[Aim]]]
) -> tuple[Answers, Answers]:
    neurons = NeuronIndex(model.identity, ("hidden",)).select(flat)
    with intervene(model, Deactivate(neurons)):
        own, other = (measure_answers(model, listed) for listed in aims)
    return own, other


def _lost(after: Answers, before: Answers) -> float:
    return float(np.mean(1 - after.p / before.p))


def _half(units: Sequence[Mapping[str, Any]], name: str, config: LocatorsConfig) -> dict[str, Any]:
    """The smallest sizes that cost half of the own answers, over relations."""
    sizes, others = [], []
    for unit in units:
        one = unit["locators"][name]
        reached = next((n for n, right in enumerate(one["still_right"]) if right <= 0.5), None)
        sizes.append(np.inf if reached is None else config.relation_sizes[reached])
        others += [] if reached is None else [one["other"][reached]]
    median, lost = float(np.median(sizes)), None
    if others:
        lost = bootstrap_mean(others, seed=config.seed, n_resamples=config.n_resamples)
    return {
        "locator": name,
        "title": find_locator(name).title,
        "n": len(units),
        "reached": len(others),
        "median": median if np.isfinite(median) else None,
        "smallest": float(min(sizes)) if others else None,
        "other": lost.value if lost else None,
        "other_low": lost.low if lost else None,
        "other_high": lost.high if lost else None,
    }


def _relations(units: Sequence[Mapping[str, Any]], config: LocatorsConfig) -> list[dict[str, Any]]:
    """Relation by relation, a record per locator and size."""
    return [
        {
            "relation": unit["relation"],
            "locator": name,
            "title": find_locator(name).title,
            "k": size,
            **{key: unit["locators"][name][key][n] for key in ("own", "other", "still_right")},
        }
        for unit in units
        for name in config.locators
        for n, size in enumerate(config.relation_sizes[: len(unit["locators"][name]["own"])])
    ]


def _words(
    tables: Sequence[Mapping[str, Any]],
    halves: Sequence[Mapping[str, Any]],
    config: LocatorsConfig,
    n: int,
) -> list[str]:
    words = []
    for size in config.relation_sizes:
        here = [r for r in tables if r["k"] == size and r["locator"] != "random"]
        best = max(here, key=lambda r: r["apart"])
        words.append(
            f"{size} neurons off: {best['title']} takes most from the own answers beyond others "
            f"({told(best, 'apart')} of P, {n} relations)."
        )
    for half in halves:
        if half["reached"] and half["locator"] != "random":
            over = f"median size {half['median']:g}" if half["median"] else "median beyond them"
            words.append(
                f"{half['title'].capitalize()}: a size of the ladder costs half of the own answers "
                f"in {half['reached']} of {n} relations ({over}); others lose {half['other']:.0%} "
                "of P there."
            )
    return words


STUDIES = (Relations(),)
