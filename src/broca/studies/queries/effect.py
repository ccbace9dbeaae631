"""Effect: what boosting and suppressing a query's neurons does to the probability of its answer.

Claim: the neurons NA-ICA finds for a query change the probability of its right answer, more than
that of other fields' answers, and more than the neurons other methods find. arXiv 2406.10868,
section 5; METHODS §3, Effect, and §7.

1. Every query's neurons, by every method, are scaled by 2 (boost) and by 0 (suppress) at the last
   position: on the query's own prompts (**Related**), on the prompts of 10 random queries of its
   own field with other answers (**Same field**), and of every other field (**Unrelated**), drawn
   by seed, the same for all methods. In words, queries with the same right answer are never drawn.
2. Effect of a set on a query: mean over the query's prompts of (P' - P) / P.
3. PCR = |mean Related| / |mean Unrelated|. With a denominator near 0 it is noise: Related,
   Unrelated and |Related| - |Unrelated| stand beside it, with bootstrap intervals over queries.
4. Test of Related: own sets against matched random sets (same count per layer, outside the set) on
   the same prompts, by sign flips over queries, one-sided.
5. Every method against NA-ICA: paired bootstrap over queries of the difference of
   |Related| - |Unrelated|; sign flips over queries of the difference of per-query effects, Holm
   over methods.

By language, versions of one question (ids alike but for "@language") are no independent queries:
they are drawn, and flipped, together.

What differs from the paper: intervals, tests, matched sets; queries without neurons are left out.
Fields are domains ("queries.effect") or languages ("queries.languages"), never their product.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from broca.estimates import bootstrap_mean
from broca.facts.seeding import stable_random
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import Prompt
from broca.questions import require_several_fields
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect_findings import effect_findings
from broca.studies.queries.effects import Effects, Key, relative_change, spread
from broca.studies.queries.material import (
    Material,
    Part,
    QueryBench,
    other_group,
    own_group,
    same_group,
)
from broca.studies.study import Condition, Findings, Plan, Results


@dataclass(frozen=True)
class QueryEffect:
    """The effect study, by field of knowledge or by language.

    Attributes:
        name: As recipes name it.
        by: "field" or "language".
        prefix: Of its figures.
        answer: "letters" or "words", whatever the settings say; None for theirs.
    """

    name: str
    by: str
    prefix: str
    answer: str | None = None
    several_fields: ClassVar[bool] = True

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Own, other and matched random sets boosted and suppressed.

        Raises:
            QuestionsError: There is one field only.
        """
        part = material.part(self.by, bench, self.answer)
        require_several_fields(list(part.questions.values()))
        config = material.config
        groups, others = effect_groups(part, config)
        plan = Plan(groups)
        plan.ask([own_group(query) for query in part.questions])
        places: dict[Key, list[Condition]] = {}
        for query in part.found:
            for key, condition in set_conditions(plan, part, query, material.config):
                places.setdefault(key, []).append(condition)
        ceilings = plan_ceilings(plan, part, config)
        plan.extra = {"places": places, "unrelated": others, "part": part, "ceilings": ceilings}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Related, Unrelated, PCR and their tests; neurons per query, layers, convergence."""
        places: Mapping[Key, Sequence[Condition]] = results.extra["places"]
        part: Part = results.extra["part"]
        config = material.config
        effects = Effects.of(
            part.found,
            places,
            results,
            config.methods,
            tuple(config.actions),
            part.bases(part.found),
        )
        found = effect_findings(config, part, effects, self.prefix, self.by)
        ceilings = ceiling_records(results, results.extra["ceilings"], config)
        whole = {f"{self.prefix}.ceiling": ceilings[0]["change"]} if ceilings else {}
        return Findings(
            {**found.figures, **whole}, {**found.tables, "ceilings": ceilings}, found.words
        )


def effect_groups(
    part: Part, config: QueriesConfig
) -> tuple[dict[str, Sequence[Prompt]], dict[str, list[str]]]:
    """Prompts by group, own, same field and others, and the queries of other fields by query."""
    others = {q: unrelated(part, q, config.n_unrelated, config.seed) for q in part.found}
    alike = {q: same_field(part, q, config.n_same, config.seed) for q in part.found}
    groups: dict[str, Sequence[Prompt]] = {own_group(q): part.prompts(q) for q in part.questions}
    for name, drawn in ((other_group, others), (same_group, alike)):
        for query, listed in drawn.items():
            groups[name(query)] = tuple(p for other in listed for p in part.prompts(other))
    return groups, others


def plan_ceilings(
    plan: Plan, part: Part, config: QueriesConfig, *, layers: bool = True
) -> dict[str, list[Condition]]:
    """All neurons of the site off at the same positions, of all layers and of each.

    It is what a set can do at most. Name -> its conditions, one per query.
    """
    index = NeuronIndex(part.sets.identity, (part.sets.site,))
    each = {f"layer {n}": where for _, n, where in index.blocks()} if layers else {}
    groups = [own_group(query) for query in part.found]
    made: dict[str, list[Condition]] = {}
    for name, where in {"all layers": slice(0, len(index)), **each}.items():
        every = index.select(np.arange(where.start, where.stop), name=f"ceiling.{name}")
        made[name] = edit(plan, part, every, groups, "suppress", config, control="ceiling")
    return made


def ceiling_records(
    results: Results, ceilings: Mapping[str, Sequence[Condition]], config: QueriesConfig
) -> list[dict[str, Any]]:
    """Mean (P' - P) / P with all neurons off, over queries, all layers first."""
    records = []
    for name, conditions in ceilings.items():
        if conditions:
            rows = results[list(conditions)]
            found = bootstrap_mean(
                relative_change(rows),
                groups=list(rows.fact),
                seed=config.seed,
                n_resamples=config.n_resamples,
            )
            records.append({"off": name, "n": found.n, **spread("change", found)})
    return records


def unrelated(part: Part, query: str, n: int, seed: int) -> list[str]:
    """At most n queries of every other field, drawn by seed and query."""
    field = part.questions[query].field
    drawn = []
    for other in part.fields:
        if other != field:
            listed = _with_other_answers(part, query, other)
            rng = stable_random(seed, "unrelated", query, other)
            drawn += rng.sample(listed, min(n, len(listed)))
    return drawn


def same_field(part: Part, query: str, n: int, seed: int) -> list[str]:
    """At most n other queries of the same field, drawn by seed and query."""
    field = part.questions[query].field
    listed = [other for other in _with_other_answers(part, query, field) if other != query]
    return stable_random(seed, "same field", query).sample(listed, min(n, len(listed)))


def _with_other_answers(part: Part, query: str, field: str) -> list[str]:
    """Queries of a field, in words those with another right answer: its neurons are theirs too.

    Versions of one question in other languages are another field's queries all the same.
    """
    listed = sorted(q for q, one in part.questions.items() if one.field == field)
    if part.answer == "letters":
        return listed
    own = part.questions[query]
    return [
        other
        for other in listed
        if part.questions[other].right != own.right and part.questions[other].base != own.base
    ]


def set_conditions(
    plan: Plan,
    part: Part,
    query: str,
    config: QueriesConfig,
    *,
    others: bool = True,
    actions: Collection[str] = ("boost", "suppress"),
    activity: Activity | None = None,
) -> Iterator[tuple[Key, Condition]]:
    """Every condition of one query's sets, with what it is for; an empty set has none.

    Args:
        plan: Takes the conditions; has the groups `own_group` and, with others, `same_group` and
            `other_group`.
        part: The queries.
        query: Which one.
        config: The settings.
        others: Also on other queries of the same field, and of other fields.
        actions: What is done.
        activity: Where given, sets as active are drawn beside the matched ones.
    """
    groups = {"related": own_group(query)}
    if others:
        groups |= {"same": same_group(query), "unrelated": other_group(query)}
    groups = {kind: group for kind, group in groups.items() if plan.groups[group]}
    for method in config.methods:
        neurons = part.neurons(query, method)
        if not len(neurons):
            continue
        drawn = [] if method == "random" else draw_controls(neurons, config, activity)
        for action in actions:
            made = edit(plan, part, neurons, groups.values(), action, config)
            for kind, condition in zip(groups, made, strict=True):
                yield Key(method, action, kind, query), condition
            for control, seed, random in drawn:
                labels = {"control": control, "seed": seed}
                (condition,) = edit(
                    plan, part, random, [own_group(query)], action, config, **labels
                )
                yield Key(method, action, control, query), condition


def edit(
    plan: Plan,
    part: Part,
    neurons: NeuronSet,
    groups: Iterable[str],
    action: str,
    config: QueriesConfig,
    **labels: Any,
) -> list[Condition]:
    """Boost or suppress neurons where the part says, suppressed ones replaced as it says."""
    labels["positions"] = part.positions
    if action == "suppress" and part.replacement is not None:
        return plan.replace(neurons, groups, part.replacement, **labels)
    return plan.intervene("scale", neurons, groups, factor=config.actions[action], **labels)


Activity = tuple[NeuronIndex, np.ndarray]
"""All neurons of a site, and the mean |response| of each."""


def draw_controls(
    neurons: NeuronSet, config: QueriesConfig, activity: Activity | None = None
) -> list[tuple[str, int, NeuronSet]]:
    """Kind, seed and neurons of random sets: same count per layer, outside the set."""

    def named(drawn: NeuronSet, kind: str, seed: int) -> tuple[str, int, NeuronSet]:
        return kind, seed, drawn.take(slice(None), name=f"{neurons.name}.{kind}-{seed}")

    found = [
        named(neurons.matched_random(seed), "matched", seed)
        for seed in range(config.seed, config.seed + config.n_matched)
    ]
    if activity is not None:
        found += [
            named(neurons.active_random(*activity, seed), "active", seed)
            for seed in range(config.seed, config.seed + config.n_active)
        ]
    return found


STUDIES = (
    QueryEffect("queries.effect", "field", "queries"),
    QueryEffect("queries.effect.letters", "field", "queries.letters", "letters"),
)
