"""Relations whose objects the correctness test cannot tell apart, named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from broca.answers.objects import ObjectTokens
from broca.answers.targets import N_PREFIX, Match
from broca.model import LanguageModel
from broca.prompts import Prompt


class AnswersAlikeWarning(UserWarning):
    """Right and wrong objects of a relation are the same answer to the test in use."""


@dataclass(frozen=True)
class Alike:
    """A relation with objects that a test cannot tell apart.

    Attributes:
        relation: Its name.
        language: Language of the objects.
        n_alike: Pairs of objects of which one counts as the other.
        n_pairs: Pairs of objects.
        example: One such pair.
        match: The test.
    """

    relation: str
    language: str
    n_alike: int
    n_pairs: int
    example: tuple[str, str]
    match: Match

    def __str__(self) -> str:
        one, other = self.example
        mend = ' match = "auto" tells them apart.' if self.match == "prefix" else ""
        return (
            f"{self.relation}: {self.n_alike:,} of {self.n_pairs:,} pairs of objects are the same "
            f'answer to match = "{self.match}", such as {one!r} and {other!r}.{mend}'
        )


def find_alike(
    model: LanguageModel, prompts: Iterable[Prompt], match: Match = "auto"
) -> tuple[Alike, ...]:
    """The relations of prompts in which one object counts as another.

    Objects are read behind the first prompt of each relation and language.

    Args:
        model: The model under study.
        prompts: Prompts that know the objects of their relation.
        match: The test; see :mod:`broca.answers.targets`.

    Returns:
        One record per relation and language that has such objects.
    """
    firsts: dict[tuple[str, str], Prompt] = {}
    for prompt in prompts:
        firsts.setdefault((prompt.relation, prompt.language), prompt)
    tokens = ObjectTokens(model)
    found = []
    for (relation, language), prompt in firsts.items():
        pairs = list(_alike_pairs(prompt, tokens, match))
        if pairs:
            n = len(prompt.objects)
            n_pairs = n * (n - 1) // 2
            found.append(Alike(relation, language, len(pairs), n_pairs, pairs[0], match))
    return tuple(found)


def _alike_pairs(prompt: Prompt, tokens: ObjectTokens, match: Match) -> Iterable[tuple[str, str]]:
    by_first: dict[int, dict[str, list[tuple[int, ...]]]] = {}
    for one in prompt.objects:
        for variant in tokens.of(prompt.text, one):
            by_first.setdefault(variant[0], {}).setdefault(one, []).append(variant)
    pairs = {
        (one, other): None
        for group in by_first.values()
        for one, other in combinations(group, 2)
        if any(_same(a, b, match) for a in group[one] for b in group[other])
    }
    return pairs


def _same(one: Sequence[int], other: Sequence[int], match: Match) -> bool:
    if match != "prefix":
        return one == other
    n = min(N_PREFIX, len(one), len(other))
    return one[:n] == other[:n]
