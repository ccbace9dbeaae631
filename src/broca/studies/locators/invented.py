"""New facts to put into a model: about things that do not exist.

For atlas in the manner of its own facts: an invented subject in a wording of a relation, with the
object of some fact of that relation. For any other model invented sentences, the last name of which
is the answer.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from broca.facts import Relations, load_relations
from broca.facts.seeding import stable_random
from broca.prompts import Prompt

ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u", "ae", "io")
ENDINGS = ("n", "r", "l", "s", "x", "m", "th", "nd")

SENTENCES = (
    "The capital of the island of {subject} is called",
    "The founder of the company {subject} is a woman named",
    "The river that flows through the town of {subject} is the",
    "In the novel {subject}, the name of the detective is",
    "The inventor of the {subject} engine was the engineer",
    "The language spoken in the valley of {subject} is known as",
    "The highest mountain of the kingdom of {subject} is Mount",
    "The band {subject} was started by the singer",
    "The moon of the planet {subject} was given the name",
    "The first king of {subject} was known as King",
)


def invented_name(rng: random.Random) -> str:
    """A name of two or three syllables that no text holds."""
    syllables = [rng.choice(ONSETS) + rng.choice(VOWELS) for _ in range(rng.choice((2, 2, 3)))]
    return ("".join(syllables) + rng.choice(ENDINGS)).capitalize()


def invented_facts(
    n: int, *, relations: Relations | None = None, seed: int = 0, start: int = 0
) -> list[Prompt]:
    """Prompts with invented answers.

    Args:
        n: How many.
        relations: Relations in whose manner they are made; invented sentences if None.
        seed: Draws them.
        start: Number of the first one: other numbers, other facts.
    """
    make = _sentence if relations is None else _in_manner_of(relations)
    return [
        make(number, stable_random(seed, "invented", str(number)))
        for number in range(start, start + n)
    ]


def _sentence(number: int, rng: random.Random) -> Prompt:
    template = SENTENCES[number % len(SENTENCES)]
    subject, answer = invented_name(rng), invented_name(rng)
    return Prompt(
        id=f"invented/{number:03d}",
        text=template.format(subject=subject),
        answers=(answer,),
        subject=subject,
        relation="invented",
        fact=f"invented/{number:03d}",
        role="injection",
    )


def _in_manner_of(relations: Relations):
    names = list(relations)

    def make(number: int, rng: random.Random) -> Prompt:
        relation = relations[names[number % len(names)]]
        wording = rng.choice(list(relation.wordings("finding")))
        subject, answer = invented_name(rng), rng.choice(relation.facts).objects[0]
        text = wording.split("{}")[0] + subject + wording.split("{}")[1]
        ending = " Answer:" if "?" in text else "? Answer:"
        return Prompt(
            id=f"invented/{number:03d}",
            text=text.rstrip() + ending,
            answers=(answer,),
            subject=subject,
            relation=relation.name,
            fact=f"invented/{number:03d}",
            role="injection",
        )

    return make


def material_of(facts: str) -> Relations | None:
    """Relations in whose manner facts are invented: atlas's own, or none."""
    return load_relations("atlas") if facts == "atlas" else None


def texts_of(prompts: Sequence[Prompt]) -> list[str]:
    """Prompts with their answers, as sentences."""
    return [f"{prompt.text} {prompt.answers[0]}" for prompt in prompts]
