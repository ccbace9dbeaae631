"""Sentences computed from the numbers of a flips study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.studies.queries.effect_words import counted, listed

Record = Mapping[str, Any]
FEWEST = 10  # queries below which a rate says little
NEAR = "The model answers near chance: what flips here says nothing about knowledge."
ANSWERED = {"boost": "wrongly", "suppress": "rightly"}
TURNS = {"boost": "Boosting", "suppress": "Suppressing"}
INTO = {"boost": "right", "suppress": "wrong"}


def flip_words(
    whole: Sequence[Record], paired: Sequence[Record], alpha: float, near: bool
) -> list[str]:
    """How often own neurons flip answers, against other methods; what cannot be told.

    Args:
        whole: Records over all fields.
        paired: Pairs of methods.
        alpha: Level of significance.
        near: Whether the model answers near chance: then no methods are compared.
    """
    words = [NEAR] if near else []
    for record in whole:
        if record["method"] == "na-ica":
            words.append(_own(record))
            if not near:
                words += _enough(record) or _compared(record["action"], paired, alpha)
    return words


def _own(record: Record) -> str:
    action = record["action"]
    if not record["candidates"]:
        return (
            f"No prompt is answered {ANSWERED[action]}: there is nothing that "
            f"{TURNS[action].lower()} could turn {INTO[action]}."
        )
    matched = (
        f"; matched random neurons {record['matched']:.1%} (p = {record['p_matched']:.2g})"
        if "p_matched" in record
        else ""
    )
    return (
        f"{TURNS[action]} a query's own NA-ICA neurons turns {INTO[action]} {record['rate']:.1%}"
        f"{_interval(record, 'rate')} of the {record['candidates']} prompts answered "
        f"{ANSWERED[action]} (n = {counted(record['n'], record.get('groups'))}{matched}); that is "
        f"{record['share']:.1%}{_interval(record, 'share')} of all {record['prompts']} prompts. "
        f"{record['against']:.1%} of them flip the other way."
    )


def _enough(record: Record) -> list[str]:
    """What to say where too few prompts could flip; nothing where there are enough."""
    if record.get("groups", record["n"]) >= FEWEST:
        return []
    action, groups = record["action"], record.get("groups", record["n"])
    versions = f" ({groups} questions)" if groups != record["n"] else ""
    return [
        f"Only {record['n']} of {record['queries']} queries{versions} have a prompt answered "
        f"{ANSWERED[action]}: too few to tell methods apart by what "
        f"{TURNS[action].lower()} turns {INTO[action]}."
    ]


def _compared(action: str, paired: Sequence[Record], alpha: float) -> list[str]:
    """Which methods NA-ICA exceeds, and which exceed random neurons, by paired intervals."""
    here = [r for r in paired if r["action"] == action]
    own = [r for r in here if r["method"] == "na-ica"]
    if not own:
        return []
    above = [r["other"] for r in own if r["gap_low"] > 0]
    below = [r["other"] for r in own if r["gap_high"] < 0]
    rest = [r["other"] for r in own if r["other"] not in (*above, *below)]
    parts = [
        f"{verb} {listed(names)}"
        for verb, names in (
            ("flips more than", above),
            ("cannot be told from", rest),
            ("flips fewer than", below),
        )
        if names
    ]
    sure = [r["other"] for r in own if r["p_holm"] < alpha]
    beyond = [r["method"] for r in here if r["other"] == "random" and r["gap_low"] > 0]
    text = f"{action.capitalize()}: paired over queries, NA-ICA {'; '.join(parts)} (95 % intervals)"
    text += f"; after Holm's correction it differs from {listed(sure) if sure else 'no method'}."
    if any(r["other"] == "random" for r in here):
        text += f" More than random neurons: {listed(beyond) if beyond else 'no method'}."
    return [text]


def _interval(record: Record, name: str) -> str:
    low, high = record[f"{name}_low"], record[f"{name}_high"]
    return f" [{low:.1%}, {high:.1%}]" if low == low else ""
