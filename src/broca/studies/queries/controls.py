"""Controls: are a query's neurons its own, or those of its letter and of its wording?

Claim tested: neurons found for a query serve its question. A letter is an answer too, and a prompt
has a wording: each could be what was found (METHODS §7). Ours; asked with letters.

1. Every question is asked again with its right option at every letter, all else as it stands:
   **same letter** as in a prompt its neurons were found with (the wrong options moved), or
   **other letter**. Prompts of other queries are split by whether their right letter is one of
   those.
2. NA-ICA's neurons are suppressed on all of these; beside them matched random sets, and **letter
   neurons**: those with a larger attribution in prompts of other queries with these letters than
   in prompts with other letters, as many.
3. Test: own neurons against matched random ones on the own question at other letters; sign flips
   over queries. The verdict is the scale's.
4. Stability: Jaccard of the neurons of two prompts (largest attributions, common neurons left
   out), by same or other question, letter and wording. What two wordings of one question share, and
   two questions with one letter do not, is the question's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from broca.errors import PromptError
from broca.estimates import Estimate, bootstrap_mean, fewest_to_flip, judge, sign_flip_test
from broca.neurons import NeuronIndex, NeuronSet
from broca.prompts import ChoicePrompt, Prompt
from broca.questions import require_several_fields
from broca.studies.queries.config import QueriesConfig
from broca.studies.queries.effect import draw_controls, edit, effect_groups
from broca.studies.queries.effect_words import with_ends
from broca.studies.queries.effects import group_sums, relative_change
from broca.studies.queries.effects import spread as with_interval
from broca.studies.queries.material import Material, Part, QueryBench, near_chance, own_group
from broca.studies.study import Condition, Findings, Outcomes, Plan, Results

SETS = ("own", "letter", "matched")
ASKED = ("found", "same letter", "other letter", "others, same letter", "others, other letter")
"""Whose prompts: those the neurons were found with, the own question again, other questions."""


class QueryControls:
    """The letter and the wording as what may have been found."""

    name = "queries.controls"
    several_fields = True
    answer = "letters"

    def plan(self, material: Material, bench: QueryBench) -> Plan:
        """Own, letter and random neurons off, with the right option at every letter.

        Raises:
            QuestionsError: There is one field only.
        """
        config, part = material.config, material.part("field", bench, self.answer)
        require_several_fields(list(part.questions.values()))
        again = {query: list(moved_options(part.prompts(query)[0])) for query in part.found}
        bench.find_letters([p for listed in again.values() for p in listed], config.letter)
        groups = {own_group(q): part.prompts(q) for q in part.found}
        others = effect_groups(part, config)[0]
        for query in part.found:
            groups |= _split(query, part, again[query], others)
        plan = Plan(groups)
        letters = letter_neurons(part)
        places: dict[tuple[str, str, str], list[Condition]] = {}
        for query in part.found:
            own = part.neurons(query, "na-ica")
            sets = [("own", {}, own), ("letter", {}, letters[query])]
            for control, seed, drawn in draw_controls(own, config):
                sets.append((control, {"control": control, "seed": seed}, drawn))
            for (kind, labels, neurons), asked in product(sets, ASKED):
                group = group_of(query, asked)
                if plan.groups[group] and len(neurons):
                    made = edit(plan, part, neurons, [group], "suppress", config, **labels)
                    places.setdefault((query, kind, asked), []).extend(made)
        plan.extra = {"part": part, "places": places, "letters": letters}
        return plan

    def summarise(self, material: Material, results: Results) -> Findings:
        """Effects by set and prompts, the test of step 3, and stability."""
        config, part = material.config, results.extra["part"]
        changes = _changes(part, results)
        units = np.array(part.bases(part.found), dtype=object)
        records = [
            {"set": kind, "asked": asked, **_mean("change", changes[kind, asked], units, config)}
            for kind, asked in product(SETS, ASKED)
        ]
        gap = changes["matched", "other letter"] - changes["own", "other letter"]
        test = _test(gap, units, config)
        shares = [_shared(part, results.extra["letters"], query) for query in part.found]
        test["letter_share"] = float(np.mean(shares)) if shares else None
        stability = stability_records(part, config)
        near = near_chance(part.accuracy().low, part.chance())
        figures = {
            f"queries.controls.{name}": test[name] for name in ("beyond", "p", "letter_share")
        }
        return Findings(
            figures,
            {
                "effects": records,
                "test": [test],
                "stability": stability,
                "caution": [{"near_chance": near}],
            },
            [*_words(records, test), *_stability_words(stability)],
        )


def moved_options(prompt: Prompt) -> Iterator[ChoicePrompt]:
    """The prompt with its right option at every letter; none where its text hides the options."""
    assert isinstance(prompt, ChoicePrompt)
    n = len(prompt.options)
    wrong = [place for place in range(n) if place != prompt.answer]
    wrong = wrong[1:] + wrong[:1]
    for place in range(n):
        order = [*wrong[:place], prompt.answer, *wrong[place:]]
        if order == list(range(n)):
            continue
        try:
            yield prompt.rearranged(order, f"right-{prompt.labels[place]}")
        except PromptError:
            return


def group_of(query: str, asked: str) -> str:
    """Name of the group of some of the prompts that a query's sets are tried on."""
    return own_group(query) if asked == "found" else f"{asked}/{query}"


def letters_of(part: Part, query: str) -> set[str]:
    """Letters of the prompts that a query's neurons were found with."""
    return {prompt.answers[0] for prompt in part.prompts(query)}


def _split(
    query: str,
    part: Part,
    again: Sequence[ChoicePrompt],
    others: Mapping[str, Sequence[Prompt]],
) -> dict[str, Sequence[Prompt]]:
    """Prompts of the own question and of others, by letter."""
    own = letters_of(part, query)
    elsewhere = [p for name in (f"same/{query}", f"unrelated/{query}") for p in others[name]]
    found: dict[str, Sequence[Prompt]] = {}
    for prefix, prompts in (("", again), ("others, ", elsewhere)):
        for kind, same in (("same letter", True), ("other letter", False)):
            listed = tuple(p for p in prompts if (p.answers[0] in own) == same)
            found[group_of(query, f"{prefix}{kind}")] = listed
    return found


def letter_neurons(part: Part) -> dict[str, NeuronSet]:
    """Per query the neurons of its letters, from prompts of other questions; as many as its own.

    Score of a neuron: its mean share of a prompt's attribution over prompts with these letters,
    minus that over prompts with other letters.
    """
    index = NeuronIndex(part.sets.identity, (part.sets.site,))
    size = part.sets.identity.n_layers * part.sets.identity.width(part.sets.site)
    prompts = [
        (part.questions[query].base, prompt.answers[0], top)
        for query in part.questions
        for prompt, top in zip(part.prompts(query), part.attributed[query].tops, strict=True)
    ]
    found = {}
    for query in part.found:
        own, base = letters_of(part, query), part.questions[query].base
        sums, counts = np.zeros((2, size)), np.zeros(2)
        for other, letter, top in prompts:
            if other != base and len(top):
                row = 0 if letter in own else 1
                sums[row, top.neurons] += top.scores / top.scores.sum()
                counts[row] += 1
        gap = sums[0] / max(counts[0], 1) - sums[1] / max(counts[1], 1)
        order = np.argsort(-gap, kind="stable")[: part.sets.counts()[query]]
        chosen = order[gap[order] > 0]
        found[query] = index.select(
            index.from_grid(chosen), gap[chosen], name=f"{query}/letter", method="letter"
        )
    return found


def _shared(part: Part, letters: Mapping[str, NeuronSet], query: str) -> float:
    """Share of a query's own neurons that are letter neurons."""
    own = part.neurons(query, "na-ica")
    return len(set(own) & set(letters[query])) / len(own)


def _changes(part: Part, results: Results) -> dict[tuple[str, str], np.ndarray]:
    """(set, prompts) -> mean (P' - P) / P of every query, NaN where there are none, [query]."""
    number = {query: i for i, query in enumerate(part.found)}
    found: dict[tuple[str, str], np.ndarray] = {
        (kind, asked): np.full(len(number), np.nan) for kind, asked in product(SETS, ASKED)
    }
    for (query, kind, asked), conditions in results.extra["places"].items():
        rows: Outcomes = results[conditions]
        found[kind, asked][number[query]] = relative_change(rows).mean()
    return found


def _mean(
    name: str, values: np.ndarray, units: np.ndarray, config: QueriesConfig
) -> dict[str, Any]:
    known = np.isfinite(values)
    if not known.any():
        return {"n": 0, name: None, f"{name}_low": None, f"{name}_high": None}
    options: dict[str, Any] = {"seed": config.seed, "n_resamples": config.n_resamples}
    found = bootstrap_mean(values[known], groups=units[known], **options)
    return {"n": int(known.sum()), **with_interval(name, found)}


def _test(gap: np.ndarray, units: np.ndarray, config: QueriesConfig) -> dict[str, Any]:
    """Own beyond matched random neurons on the own question at other letters."""
    record = _mean("beyond", gap, units, config)
    known = np.isfinite(gap)
    if not record["n"]:
        return {**record, "p": None, "verdict": "cannot tell"}
    sums = group_sums(gap[known], units[known])
    p = sign_flip_test(sums, seed=config.seed, n_permutations=config.n_permutations)
    beyond = Estimate(record["beyond"], record["beyond_low"], record["beyond_high"], record["n"])
    verdict = judge(
        beyond,
        config.smallest_share,
        p=p,
        alpha=config.alpha,
        reachable=len(sums) >= fewest_to_flip(config.alpha),
    )
    return {**record, "p": p, "verdict": verdict}


# ---- stability


@dataclass(frozen=True)
class PromptSet:
    """The neurons of one prompt, and what two prompts can have in common."""

    question: str
    letter: str
    wording: str
    field: str
    neurons: frozenset[int]


def stability_records(part: Part, config: QueriesConfig) -> list[dict[str, Any]]:
    """Mean Jaccard of two prompts' neurons by what they have in common, over queries."""
    sets = [one for query in part.questions for one in prompt_sets(part, query)]
    same: dict[str, Callable[[PromptSet, PromptSet], bool]] = {
        "question": lambda a, b: a.question == b.question,
        "letter": lambda a, b: a.letter == b.letter,
        "wording": lambda a, b: a.wording == b.wording,
    }
    values: dict[tuple[bool, ...], dict[str, list[float]]] = {}
    for a, b in product(sets, sets):
        if a is not b and (a.neurons or b.neurons):
            key = tuple(alike(a, b) for alike in same.values())
            shared = len(a.neurons & b.neurons) / len(a.neurons | b.neurons)
            values.setdefault(key, {}).setdefault(a.question, []).append(shared)
    records = []
    for key in sorted(values, reverse=True):
        means = np.array([np.mean(listed) for listed in values[key].values()])
        units = np.array(list(values[key]), dtype=object)
        about = {name: "same" if yes else "other" for name, yes in zip(same, key, strict=True)}
        pairs = sum(map(len, values[key].values())) // 2
        records.append({**about, "pairs": pairs, **_mean("jaccard", means, units, config)})
    return records


def prompt_sets(part: Part, query: str) -> list[PromptSet]:
    """The neurons of every prompt of a query, common ones left out."""
    question, common = part.questions[query], set(part.sets.common.neurons.tolist())
    tops = part.attributed[query].tops
    return [
        PromptSet(
            question.base,
            prompt.answers[0],
            prompt.template,
            question.field,
            frozenset(set(top.neurons.tolist()) - common),
        )
        for prompt, top in zip(part.prompts(query), tops, strict=True)
    ]


# ---- words


def _words(records: Sequence[Mapping[str, Any]], test: Mapping[str, Any]) -> list[str]:
    here = {(r["set"], r["asked"]): r for r in records}

    def told(kind: str, asked: str) -> str:
        record = here[kind, asked]
        return with_ends(record, "change") if record["n"] else "not asked"

    words = [
        f"Own neurons, own question: {told('own', 'found')} as found, "
        f"{told('own', 'same letter')} with the right option at the same letter and the others "
        f"moved, {told('own', 'other letter')} at other letters.",
        f"Own neurons, other questions: {told('own', 'others, same letter')} with the same right "
        f"letter, {told('own', 'others, other letter')} with another.",
        f"Letter neurons, as many: {told('letter', 'found')} on the own question as found, "
        f"{told('letter', 'others, same letter')} on others with the same letter, "
        f"{told('letter', 'others, other letter')} with another.",
    ]
    if test["letter_share"] is not None:
        words.append(f"{test['letter_share']:.0%} of a query's neurons are letter neurons.")
    return words


def _stability_words(records: Sequence[Mapping[str, Any]]) -> list[str]:
    if not any(record["question"] == "same" for record in records):
        return ["Each query has one prompt: how stable its neurons are cannot be said."]
    told = "; ".join(
        f"{r['question']} question, {r['letter']} letter, {r['wording']} wording "
        f"{with_ends(r, 'jaccard', '.0%')}"
        for r in records
    )
    return [f"Neurons that two prompts share (Jaccard): {told}."]


STUDIES = (QueryControls(),)
