"""Detection and evaluation facts without a shared subject, over all relations together.

1. Subjects are ordered by a hash of seed and name. Each relation wants
   min(n_evaluation, half of its facts) evaluation facts.
2. First pass: a subject becomes an evaluation subject when **all** its relations still want facts.
3. Second pass: also when **one** of its relations does, as long as none of its relations loses
   more than half of its facts to evaluation subjects.
4. Detection = facts of all other subjects. Evaluation = the wanted number of facts of evaluation
   subjects, first accepted first; the rest of theirs are dropped.

Source: arXiv 2502.17355, section 3 splits within each relation; the global split is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from broca.errors import FactsError

from .seeding import stable_number

if TYPE_CHECKING:
    from .fact import Fact

Part = tuple[list["Fact"], list["Fact"], list[str]]


def split_by_subject(
    facts: Mapping[str, Sequence[Fact]], n_evaluation: int, seed: int
) -> dict[str, Part]:
    """Per relation: detection facts, evaluation facts, notes.

    Raises:
        FactsError: `n_evaluation` below 1, or a relation of which a part would be empty.
    """
    if n_evaluation < 1:
        raise FactsError("at least 1 evaluation fact is needed", f"n_evaluation={n_evaluation}")
    by_subject: dict[str, dict[str, Fact]] = {}
    for name, members in facts.items():
        for fact in members:
            by_subject.setdefault(fact.subject, {})[name] = fact
    order = sorted(by_subject, key=lambda subject: (stable_number(seed, subject), subject))
    wanted = {name: min(n_evaluation, len(members) // 2) for name, members in facts.items()}
    chosen = _choose_subjects(by_subject, order, wanted, facts)
    return {
        name: _part(name, by_subject, order, chosen, wanted[name], n_evaluation) for name in facts
    }


def _choose_subjects(
    by_subject: Mapping[str, Mapping[str, Fact]],
    order: Sequence[str],
    wanted: Mapping[str, int],
    facts: Mapping[str, Sequence[Fact]],
) -> dict[str, None]:
    """Evaluation subjects in the order in which they were accepted."""
    taken = dict.fromkeys(facts, 0)
    chosen: dict[str, None] = {}

    def accept(subject: str) -> None:
        chosen[subject] = None
        for name in by_subject[subject]:
            taken[name] += 1

    for subject in order:
        if all(taken[name] < wanted[name] for name in by_subject[subject]):
            accept(subject)
    for subject in order:
        names = by_subject[subject]
        if (
            subject not in chosen
            and any(taken[name] < wanted[name] for name in names)
            and all(taken[name] < len(facts[name]) // 2 for name in names)
        ):
            accept(subject)
    return chosen


def _part(
    name: str,
    by_subject: Mapping[str, Mapping[str, Fact]],
    order: Sequence[str],
    chosen: Mapping[str, None],
    wanted: int,
    n_evaluation: int,
) -> Part:
    detection = [by_subject[s][name] for s in order if s not in chosen and name in by_subject[s]]
    candidates = [by_subject[s][name] for s in chosen if name in by_subject[s]]
    evaluation = candidates[:wanted]
    n_facts = len(detection) + len(candidates)
    if not detection or not evaluation:
        raise FactsError(
            f"relation {name} has too few facts to split ({n_facts})",
            mend="It needs at least two, with subjects that other relations leave to it",
        )
    notes = []
    if len(evaluation) < n_evaluation:
        notes.append(
            f"{name}: {len(evaluation)} evaluation facts instead of {n_evaluation},"
            f" at most half of its {n_facts}"
        )
    if len(candidates) > len(evaluation):
        notes.append(
            f"{name}: {len(candidates) - len(evaluation)} of {n_facts} facts left out,"
            " their subjects are evaluation subjects of other relations"
        )
    return detection, evaluation, notes
