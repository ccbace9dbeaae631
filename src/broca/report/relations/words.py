"""What the paper reports beside what a run found, in words computed from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broca.report.relations.figures import INTER
from broca.report.runs import StoredRun

PAPER_LOST = {
    "company_ceo": 23,
    "company_hq": 26,
    "landmark_continent": 17,
    "landmark_country": 13,
    "person_father": 19,
    "person_mother": 10,
    "person_occupation": 15,
    "person_plays_instrument": 31,
    "person_pro_sport": 20,
    "person_sport_position": 43,
    "product_company": 17,
    "star_constellation": 35,
}
"""Evaluation prompts (of 50) that Llama-2-7B loses with its 3,000 own neurons off (the paper)."""

PAPER_FATHER_MOTHER = 2053 / 3000
"""Share of their neurons that father and mother have in common in Llama-2-7B (the paper)."""


def paper_notes(drops: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the losses differ from the paper's, in words."""
    pairs = [
        (d["relation"], d["lost"] / d["n"], PAPER_LOST[d["relation"]] / 50)
        for d in drops
        if d["relation"] in PAPER_LOST and d["n"]
    ]
    if not pairs:
        return ["The paper reports none of these relations."]
    here = sorted(share for _, share, _ in pairs)[len(pairs) // 2]
    there = sorted(share for _, _, share in pairs)[len(pairs) // 2]
    notes = [
        f"The paper's Llama-2-7B loses {there:.0%} of its evaluation prompts in the median "
        f"over these relations, this model {here:.0%}."
    ]
    weaker = [name for name, share, paper in pairs if share < paper / 2]
    stronger = [name for name, share, paper in pairs if share > 2 * paper]
    if weaker:
        notes.append(f"Less than half of what the paper reports is lost in {', '.join(weaker)}.")
    if stronger:
        notes.append(f"More than twice what the paper reports is lost in {', '.join(stronger)}.")
    if not weaker and not stronger:
        notes.append("No relation differs from the paper by more than a factor of two.")
    return notes


def interference_notes(run: StoredRun) -> list[str]:
    mother = [c for c in run.table(INTER, "matrix") if c["asked"] == "person_mother" != c["off"]]
    if not mother:
        return []
    gains = sum(c["drop"] is not None and c["drop"] < 0 for c in mother)
    return [
        "In the paper mother improves when 5 of 11 other sets are off; "
        f"here when {gains} of {len(mother)} are."
    ]


def place_words(places: Sequence[Mapping[str, Any]], n_layers: int) -> list[str]:
    total = sum(r["n"] for r in places)
    if not total or n_layers < 3:
        return []
    thirds = [0, 0, 0]
    sites: dict[str, int] = {}
    for record in places:
        thirds[min(2, 3 * record["layer"] // n_layers)] += record["n"]
        sites[record["site"]] = sites.get(record["site"], 0) + record["n"]
    low, middle, high = (n / total for n in thirds)
    by_site = ", ".join(f"{site} {n / total:.0%}" for site, n in sites.items())
    where = "as in the paper" if middle == max(low, middle, high) else "other than in the paper"
    return [
        f"Lower third of the layers {low:.0%}, middle {middle:.0%}, upper {high:.0%}: {where}, "
        f"where the sets sit mostly in the middle layers. By site: {by_site}."
    ]


def overlap_notes(pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    shared = pairs.get(("person_father", "person_mother"))
    if shared is None:
        return []
    return [
        f"Father and mother share {shared['of_smaller']:.0%} of their neurons; in the paper's "
        f"Llama-2-7B {PAPER_FATHER_MOTHER:.0%}."
    ]


def percent(share: float | None) -> str:
    return "an undefined share" if share is None else f"{share:.0%}"


def points(share: float) -> str:
    rounded = round(100 * share, 1) or 0.0  # no "-0.0"
    return f"{rounded:+.1f} points of accuracy".replace("-", "−").replace("+0.0", "0.0")
