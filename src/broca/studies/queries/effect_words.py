"""Sentences computed from the numbers of an effect study; no conclusion where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from broca.studies.queries.effects import SIGN
from broca.studies.queries.material import Part
from broca.studies.queries.published import PAPER_ORDER
from broca.studies.queries.told import asking_words

Record = Mapping[str, Any]


def accuracy_words(accuracy: Sequence[Record], by: str, part: Part | None = None) -> list[str]:
    """What the untouched model answers, against guessing; which queries are kept of those asked.

    Args:
        accuracy: All queries first, then field by field.
        by: "field" or "language".
        part: The queries; letters if there is none.
    """
    whole, fields = accuracy[0], accuracy[1:]
    in_words = part is not None and part.answer == "words"
    share = (
        f"{whole['accuracy']:.0%} [{whole['accuracy_low']:.0%}, {whole['accuracy_high']:.0%}]"
        f" of the prompts of {whole['n']} "
    )
    if part is not None and in_words:
        words = [
            f"Asked in words, the untouched model says a right answer in {share}queries; always "
            f"saying the most frequent answer of the {by} would give {whole['chance']:.0%}."
        ]
    else:
        words = [
            f"The untouched model prefers the right letter in {share}questions; guessing gives "
            f"{whole['chance']:.0%}."
        ]
    if part is not None and (in_words or part.form != "question"):
        words.append(asking_words(part))
    if part is not None and in_words:
        words += _kept_words(part, by)
    if whole["near_chance"]:
        words.append(
            "The model answers these questions near chance: what follows says how its neurons move "
            "the answers' probabilities, and nothing about knowledge. No conclusions are drawn."
        )
    near = [record["field"] for record in fields if record["near_chance"]]
    if near and not whole["near_chance"]:
        kind = "language" if by == "language" else "field"
        words.append(
            f"Near chance, or too few to tell, in {len(near)} of {len(fields)} {kind}s: "
            f"{', '.join(near)}. Effects in these say nothing about knowledge."
        )
    return words


def _kept_words(part: Part, by: str) -> list[str]:
    """Which queries are studied."""
    right = all(one.correct for listed in part.asked.values() for one in listed)
    which = ": those with a right answer in all of their prompts" if right else ", right or wrong"
    words = [
        f"{len(part.questions)} queries of {len(part.fields)} {by}s are kept{which}. P is that of "
        "the whole answer; neurons are scaled wherever a token of it is read."
    ]
    shown, named = part.copied()
    if shown or named:
        words.append(
            f"In {shown} of them the right answer stands among the demonstrations, in {named} more "
            "in the subject itself: these may be copied."
        )
    if part.left_out:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in part.left_out.items())
        words.append(f"{len(part.left_out)} {by}s are left out: {reasons}.")
    return words


def effect_words(
    effects: Sequence[Record],
    paired: Sequence[Record],
    accuracy: Record,
    alpha: float,
    by: str = "field",
) -> list[str]:
    """Related against Unrelated, the comparison with other methods, the paper's order."""
    words = []
    for record in effects:
        if record["method"] == "na-ica":
            words.append(_own(record, by))
    if accuracy["near_chance"]:
        return words
    for record in effects:
        if record["method"] == "na-ica":
            words += _against(record["action"], paired, alpha)
            words += _wrong_way(record["action"], effects)
            words.append(_order(record["action"], effects))
    return words


def with_ends(record: Record, name: str, form: str = "+z.1%") -> str:
    """A value with its interval, where there is one."""
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    ends = f" [{low:{form}}, {high:{form}}]" if low == low and high == high else ""
    return f"{record[name]:{form}}{ends}"


def _own(record: Record, by: str) -> str:
    verb = "Boosting" if record["action"] == "boost" else "Suppressing"
    pcr = record["pcr"]
    same = (
        f"that of other answers of the same {by} by {with_ends(record, 'same')}, "
        if record.get("same") is not None
        else ""
    )
    return (
        f"{verb} a query's own NA-ICA neurons changes the probability of its answer by "
        f"{with_ends(record, 'related')}, {same}and that of answers in other {by}s by "
        f"{with_ends(record, 'unrelated', '+z.2%')}: "
        f"|Related| − |Unrelated| = {record['difference']:.3f} "
        f"[{record['difference_low']:.3f}, {record['difference_high']:.3f}], "
        f"PCR {_number(pcr)} [{_number(record['pcr_low'])}, {_number(record['pcr_high'])}], "
        f"n = {counted(record['n'], record.get('groups'))}"
        + (
            f"; matched random neurons {record['matched']:+z.1%} (p = {record['p_matched']:.2g})."
            if "p_matched" in record
            else "."
        )
    )


def _against(action: str, paired: Sequence[Record], alpha: float) -> list[str]:
    """Which methods NA-ICA exceeds, by paired intervals; nothing where there is no other."""
    here = [record for record in paired if record["action"] == action]
    if not here:
        return []
    above = [r["method"] for r in here if r["gap_low"] > 0]
    below = [r["method"] for r in here if r["gap_high"] < 0]
    rest = [r["method"] for r in here if r["method"] not in (*above, *below)]
    sure = [r["method"] for r in here if r["p_holm"] < alpha]
    parts = []
    if above:
        parts.append(f"exceeds {listed(above)}")
    if rest:
        parts.append(f"cannot be told from {listed(rest)}")
    if below:
        parts.append(f"stays below {listed(below)}")
    return [
        f"{action.capitalize()}: by |Related| − |Unrelated|, paired over queries, NA-ICA "
        f"{'; '.join(parts)} (95 % intervals). Per-query effects differ after Holm's correction "
        f"for {listed(sure) if sure else 'no method'}."
    ]


def _wrong_way(action: str, effects: Sequence[Record]) -> list[str]:
    """Methods whose scaling moves the answer against what it is meant to do."""
    against = [
        record["method"]
        for record in effects
        if record["action"] == action and SIGN[action] * record["related"] < 0
    ]
    if not against:
        return []
    lowers = "lowers" if action == "boost" else "raises"
    return [
        f"{action.capitalize()} {lowers} the answer's probability for {listed(against)}: absolute "
        "values, as in the paper, count that as an effect."
    ]


def _order(action: str, effects: Sequence[Record]) -> str:
    """Whether NA-ICA is first and the others stand in the paper's order, by the difference."""
    here = {record["method"]: record for record in effects if record["action"] == action}
    order = [method for method in PAPER_ORDER if method in here]
    text = []
    for name, label in (("difference", "|Related| − |Unrelated|"),):  # nothing is ranked by PCR
        found = sorted(order, key=lambda m: -_finite(here[m][name]))
        if [_place(method) for method in found] == [_place(method) for method in order]:
            text.append(f"by {label} the methods stand in the paper's order")
        elif found[0] == "na-ica":
            text.append(
                f"by {label} NA-ICA is first as in the paper, but the others stand in another "
                f"order: {', '.join(found)}"
            )
        else:
            ahead = found[: found.index("na-ica")]
            text.append(
                f"by {label} the paper's order is not reproduced: {listed(ahead)} "
                f"{'stand' if len(ahead) > 1 else 'stands'} before NA-ICA ({', '.join(found)})"
            )
    return f"{action.capitalize()}: {'; '.join(text)}."


def convergence_words(convergence: Sequence[Record], part: Part) -> list[str]:
    """How far attributions can be trusted, and how many neurons there are per query."""
    judged = [record for record in convergence if not record["without_effect"]]
    words = []
    if judged:
        share = np.mean([record["converged"] for record in judged])
        nodes = np.median([record["n_steps"] for record in judged])
        forms = ", ".join(dict.fromkeys(record["branches"] for record in judged))
        words.append(
            f"Attribution converged by both criteria on {share:.1%} of {len(judged)} prompts "
            f"(form {forms}, {nodes:.0f} nodes in the median); the worst completeness error is "
            f"{max(r['completeness_error'] for r in judged):.2%}, the worst change of a neuron "
            f"{max(r['step_change'] for r in judged):.2%}."
        )
    without = len(convergence) - len(judged)
    if without:
        words.append(f"{without} prompts are without effect: no layer changes their probability.")
    counts = np.array(list(part.sets.counts().values()))
    words.append(
        f"NA-ICA leaves {counts.mean():.1f} neurons per query (of at most {part.sets.config.v}) "
        f"after {len(part.sets.common)} common neurons are removed; {int((counts == 0).sum())} "
        f"of {len(counts)} queries keep none."
    )
    return words


def _place(method: str) -> str:
    """The two methods whose published figures lie together count as one."""
    return "random" if method == "activation" else method


def _finite(value: float) -> float:
    return value if np.isfinite(value) else -np.inf


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "undefined" if np.isnan(value) else "unbounded"


def counted(n: int, groups: int | None) -> str:
    """Number of queries, and of groups of them where versions of a question go together."""
    return f"{n} queries" + (f", versions of {groups} questions" if groups not in (None, n) else "")


def listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
