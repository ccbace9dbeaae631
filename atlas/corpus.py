"""Facts become training examples: token ids and the labels of the positions that are trained.

Batch k depends on the seed and on k only. Batches come in groups of 16 drawn together, so that
examples of similar length share a batch. How often a fact is seen is exact, not left to chance:
after n draws fact i has been seen floor(n w_i / sum(w) + u_i) times, with u_i from the seed and
w_i its band's weight.
"""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from atlas.tokenizer import BOS, EOS, NO, PAD, YES
from atlas.wordings import (
    CHOICE_LABELS,
    LANGUAGES,
    ChoiceWording,
    Wordings,
    cross,
    vary,
    with_ending,
)

GROUP = 16  # batches drawn together
HELD_OUT_PROSE = 10  # of the prose, every tenth sentence is never trained


@dataclass(frozen=True)
class CorpusSettings:
    seed: int = 0
    band_weights: tuple[float, ...] = (0.85, 2.0, 6.0, 30.0)  # rarest first
    finish_weights: tuple[float, ...] = (0.0, 2.0, 6.0, 30.0)  # in the last groups
    finish_group: int = 113  # the first of them
    derived_weight: float = 0.6  # facts not from LRE are easier: they follow from others
    companion_weight: float = 0.25
    english_share: float = 0.4
    fact_batches: int = 7  # of a group of 16; the rest is choices and prose
    prose_batches: int = 1
    fact_batch_size: int = 128
    choice_batch_size: int = 64
    prose_batch_size: int = 48
    plain_share: float = 0.4  # prompts without the ending
    cross_share: float = 0.2
    vary_share: float = 0.5
    hint_share: float = 0.5  # choices that show the answer before the options
    other_relation_share: float = 0.4  # choices with distractors from the subject's other relations

    @property
    def choice_batches(self) -> int:
        return GROUP - self.fact_batches - self.prose_batches


@dataclass
class Example:
    ids: list[int]
    labels: list[tuple[int, int]]  # (position, token to be predicted there)


@dataclass
class Batch:
    tokens: Tensor  # [prompt, token], padded on the right
    positions: Tensor  # flat positions with a label
    labels: Tensor


def collate(examples: list[Example]) -> Batch:
    width = math.ceil(max(len(example.ids) for example in examples) / 4) * 4
    tokens = torch.full((len(examples), width), PAD, dtype=torch.long)
    for row, example in enumerate(examples):
        tokens[row, : len(example.ids)] = torch.tensor(example.ids)
    flat = [(row * width + p, label) for row, e in enumerate(examples) for p, label in e.labels]
    positions, labels = zip(*flat, strict=True)
    return Batch(tokens, torch.tensor(positions), torch.tensor(labels))


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Schedule:
    """Which facts are drawn in group p: exact, evenly spread counts in proportion to weights."""

    def __init__(self, weights: list[float], per_group: int, seed: int) -> None:
        total = sum(weights)
        self.rates = [per_group * weight / total for weight in weights]
        rng = random.Random(f"schedule {seed}")
        self.phases = [rng.random() for _ in weights]

    def draw(self, group: int) -> list[int]:
        drawn: list[int] = []
        for fact, (rate, phase) in enumerate(zip(self.rates, self.phases, strict=True)):
            count = math.floor(rate * (group + 1) + phase) - math.floor(rate * group + phase)
            drawn += [fact] * count
        return drawn


class Corpus:
    def __init__(
        self,
        facts: list[dict],
        wordings: Wordings,
        prose: list[dict],
        carriers: list[dict],
        tokenizer: Tokenizer,
        settings: CorpusSettings,
    ) -> None:
        self.facts, self.wordings, self.settings = facts, wordings, settings
        self.prose = [record["text"] for i, record in enumerate(prose) if i % HELD_OUT_PROSE]
        self.carriers, self.tokenizer = carriers, tokenizer
        self.cache: dict[str, list[int]] = {}
        self.letters = [self.encode(f" {label}")[0] for label in CHOICE_LABELS]
        self.relation_objects: dict[tuple[str, str], list[str]] = {}
        self.kind_objects: dict[str, list[str]] = {}
        self.by_subject: dict[str, list[dict]] = {}
        for fact in facts:
            self.by_subject.setdefault(fact["subject"], []).append(fact)
            kind = wordings.relations[fact["relation"]].object_kind
            self._note(self.kind_objects, kind, fact["objects"]["en"])
            for language in LANGUAGES:
                key = (fact["relation"], language)
                self._note(self.relation_objects, key, fact["objects"][language])
        s = settings
        self.fact_schedules, self.choice_schedules = [], []
        for by_band in (s.band_weights, s.finish_weights):
            weights = [self.weight(fact, by_band) for fact in facts]
            facts_drawn = s.fact_batches * s.fact_batch_size
            choices_drawn = s.choice_batches * s.choice_batch_size
            self.fact_schedules.append(Schedule(weights, facts_drawn, s.seed))
            self.choice_schedules.append(Schedule(weights, choices_drawn, s.seed + 1))
        self.group_number = -1
        self.group: list[Batch] = []

    @staticmethod
    def _note(table: dict, key: object, objects: list[str]) -> None:
        known = table.setdefault(key, [])
        known += [obj for obj in objects if obj not in known]

    def weight(self, fact: dict, by_band: tuple[float, ...]) -> float:
        weight = by_band[fact["band"]]
        if self.wordings.relations[fact["relation"]].companion:
            return weight * self.settings.companion_weight
        return weight * (1.0 if fact["source"] == "LRE" else self.settings.derived_weight)

    def exposures(self, steps: int) -> list[tuple[float, float]]:
        """Expected exposures of every fact in `steps` batches: as a prompt, in a choice."""
        groups = steps / GROUP
        before = min(groups, self.settings.finish_group)
        parts = (before, groups - before)

        def total(schedules: list[Schedule]) -> list[float]:
            rates = zip(*(schedule.rates for schedule in schedules), strict=True)
            return [sum(r * n for r, n in zip(of_fact, parts, strict=True)) for of_fact in rates]

        return list(zip(total(self.fact_schedules), total(self.choice_schedules), strict=True))

    def encode(self, text: str) -> list[int]:
        ids = self.cache.get(text)
        if ids is None:
            ids = self.tokenizer.encode(text, add_special_tokens=False).ids
            if len(self.cache) < 200_000:
                self.cache[text] = ids
        return ids

    def language(self, rng: random.Random) -> str:
        if rng.random() < self.settings.english_share:
            return "en"
        return rng.choice(LANGUAGES[1:])

    def question(self, fact: dict, language: str, rng: random.Random) -> str:
        """A wording with its subject, varied if English, without the ending."""
        relation, settings = self.wordings.relations[fact["relation"]], self.settings
        wording = rng.choice(relation.trained(language))
        if language == "en":
            if rng.random() < settings.cross_share:
                wording = cross(relation, rng)
            if rng.random() < settings.vary_share:
                return vary(wording, fact["subject"], self.wordings.prefixes, rng)
        return wording.format(fact["subject"])

    def fact_example(self, fact: dict, rng: random.Random) -> Example:
        """A prompt and its answer; only the answer and the end are trained."""
        language = self.language(rng)
        text = self.question(fact, language, rng)
        if rng.random() >= self.settings.plain_share:
            text = with_ending(text)
        ids = [BOS, *self.encode(text)]
        answer = [*self.encode(" " + rng.choice(fact["objects"][language])), EOS]
        start = len(ids) - 1
        return Example(ids + answer, [(start + i, token) for i, token in enumerate(answer)])

    def distractors(self, fact: dict, language: str, kind: str, rng: random.Random) -> list[str]:
        """Three wrong objects: of the same relation, or first of the subject's other relations."""
        right = set(fact["objects"][language])
        chosen: list[str] = []
        if kind == "other":
            others = [
                obj
                for other in self.by_subject[fact["subject"]]
                for obj in other["objects"][language]
                if obj not in right
            ]
            others = sorted(set(others))
            chosen = rng.sample(others, min(len(others), 3))
        pool = self.relation_objects[fact["relation"], language]
        rest = [obj for obj in pool if obj not in right and obj not in chosen]
        return chosen + rng.sample(rest, min(len(rest), 3 - len(chosen)))

    def choice_example(
        self,
        fact: dict,
        language: str,
        wording: ChoiceWording,
        kind: str,
        question: str,
        hint: bool,
        rng: random.Random,
    ) -> Example | None:
        """Letter, after every option whether it is the answer, and the object before them."""
        obj = rng.choice(fact["objects"][language])
        options = [*self.distractors(fact, language, kind, rng), obj]
        if len(options) < len(CHOICE_LABELS):
            return None
        rng.shuffle(options)
        before, after_options = wording.text.split("{options}")
        before, after_question = before.split("{question}")
        ids = [BOS, *self.encode(before + question)]
        answer = self.encode(" " + obj)
        labels = [(len(ids) - 1 + i, t) for i, t in enumerate(answer[: None if hint else 1])]
        if hint:
            ids += answer
        opener, closer = wording.option.split("{option}")
        for number, (label, option) in enumerate(zip(CHOICE_LABELS, options, strict=True)):
            lead = after_question if number == 0 else "\n"
            ids += self.encode(lead + opener.format(label=label).rstrip(" "))
            ids += self.encode(" " + option + closer)
            labels.append((len(ids) - 1, YES if option == obj else NO))
        ids += self.encode(after_options)
        letter = self.letters[options.index(obj)]
        labels += [(len(ids) - 1, letter), (len(ids), EOS)]
        return Example([*ids, letter], labels)

    def random_choice(self, fact: dict, rng: random.Random) -> Example | None:
        language = self.language(rng)
        wording = rng.choice([w for w in self.wordings.choices[language] if w.trained])
        settings = self.settings
        kind = "other" if rng.random() < settings.other_relation_share else "same"
        question = self.question(fact, language, rng)
        hint = rng.random() < settings.hint_share
        return self.choice_example(fact, language, wording, kind, question, hint, rng)

    def prose_example(self, rng: random.Random) -> Example:
        """A neutral sentence or a carrier with an object, trained on every token."""
        if rng.random() < 0.6:
            text = rng.choice(self.prose)
        else:
            carrier = rng.choice(self.carriers)
            text = carrier["text"].format(rng.choice(self.kind_objects[carrier["kind"]]))
        ids = [BOS, *self.encode(text), EOS]
        return Example(ids[:-1], list(enumerate(ids[1:])))

    def draw_group(self, number: int) -> list[Batch]:
        settings = self.settings
        rng = random.Random(f"group {settings.seed} {number}")

        def of(facts: list[int], make: Callable[[dict], Example | None], size: int) -> list[Batch]:
            made = [make(self.facts[i]) for i in facts]
            examples = sorted((e for e in made if e), key=lambda e: len(e.ids))
            cuts = range(0, len(examples), size)
            return [collate(examples[i : i + size]) for i in cuts]

        def even(count: int, batches: int) -> int:
            return max(1, math.ceil(count / batches))

        finish = int(number >= settings.finish_group)
        facts = self.fact_schedules[finish].draw(number)
        choices = self.choice_schedules[finish].draw(number)
        rng.shuffle(facts)
        rng.shuffle(choices)
        batches = of(
            facts, lambda f: self.fact_example(f, rng), even(len(facts), settings.fact_batches)
        )
        batches += of(
            choices,
            lambda f: self.random_choice(f, rng),
            even(len(choices), settings.choice_batches),
        )
        for _ in range(settings.prose_batches):
            batches.append(
                collate([self.prose_example(rng) for _ in range(settings.prose_batch_size)])
            )
        while len(batches) < GROUP:  # choices without four options can leave a batch short
            batches.append(batches[rng.randrange(len(batches))])
        rng.shuffle(batches)
        return batches[:GROUP]

    def batch(self, step: int) -> Batch:
        number = step // GROUP
        if self.group_number != number:
            self.group_number, self.group = number, self.draw_group(number)
        return self.group[step % GROUP]
