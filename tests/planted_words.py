"""The words, facts, questions and tokenizer of the planted model (see :mod:`planted`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import product
from typing import NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

# relation: field, words of the finding templates, of the robustness templates, in German
RELATIONS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "father": ("person", ("father", "dad"), ("papa", "sire"), ("Vater",)),
    "mother": ("person", ("mother", "mum"), ("mama", "dam"), ("Mutter",)),
    "ceo": ("company", ("ceo", "boss"), ("chief", "head"), ("Leiter",)),
    "office": ("company", ("office", "seat"), ("base", "quarters"), ("Sitz",)),
    "country": ("place", ("country", "nation"), ("land", "state"), ("Staat",)),
    "river": ("place", ("river", "stream"), ("brook", "water"), ("Fluss",)),
    "maker": ("product", ("maker", "producer"), ("builder", "author"), ("Hersteller",)),
    "colour": ("product", ("colour", "shade"), ("tint", "hue"), ("Farbe",)),
}
NAMES = tuple(RELATIONS)
FIELDS = ("person", "company", "place", "product")
FRAMES = {
    "finding": ("The {word} of {{}} is", "{{}} has the {word}"),
    "robustness": ("As for {{}}, its {word} is called", "We know that the {word} of {{}} is"),
    "german": ("{{}} hat als {word}", "Wer oder was ist {word} von {{}}"),
}
QUESTION = "What is the {word} of {subject}?"
QUESTION_PROMPTS = (
    "Question: {question}\nA. {0}\nB. {1}\nC. {2}\nD. {3}\nAnswer:",
    "{question}\n(A) {0}\n(B) {1}\n(C) {2}\n(D) {3}\nThe right option is:",
    "Choose one: {question} A: {0}, B: {1}, C: {2}, D: {3}. The letter is:",
)
LETTERS = "ABCD"
SHARED = ("father", "mother")
HURTING, HURT = "ceo", "country"
TOLERANCES = (1, 2, 3, 4)
N_CLASSES = 4  # objects per relation
N_SUBJECTS = 32  # per field: every class with every tolerance, twice
N_QUESTIONS = 4  # per relation


class PlantedFact(NamedTuple):
    """A fact and how many planted neurons off it survives."""

    subject: str
    relation: str
    objects: tuple[str, ...]
    tolerance: int


class PlantedQuestion(NamedTuple):
    """A question in canonical order, and its three prompts, each with options shuffled."""

    question: str
    options: tuple[str, ...]
    answer: int
    field: str
    relation: str
    subject: str
    prompts: tuple[tuple[str, str], ...]  # (text, letter)


def _made_up(endings: str, starts: str) -> list[str]:
    """Names nobody has: start, vowel, middle, ending."""
    parts = product(starts, "aeiou", "lnrs", endings)
    return ["".join(part) for part in parts]


def make_subjects() -> dict[str, list[str]]:
    """Field -> subjects; their order fixes class and tolerance."""
    endings = dict(zip(FIELDS, ("a", "x", "y", "o"), strict=True))
    return {field: _made_up(endings[field], "BDKT")[::2][:N_SUBJECTS] for field in FIELDS}


def make_objects() -> dict[tuple[str, int], str]:
    """(relation, class) -> object; the last class of every relation has two tokens."""
    words = iter(_made_up("im", "FGMPVZ")[::3])
    keys = product(NAMES, range(N_CLASSES))
    return {key: next(words) + (" Hall" if key[1] == N_CLASSES - 1 else "") for key in keys}


def traits(position: int) -> tuple[int, int]:
    """Class and tolerance of a field's subject at some position."""
    return position % N_CLASSES, TOLERANCES[position // N_CLASSES % len(TOLERANCES)]


def make_facts() -> tuple[PlantedFact, ...]:
    subjects, objects = make_subjects(), make_objects()
    facts = []
    for relation in NAMES:
        for position, subject in enumerate(subjects[RELATIONS[relation][0]]):
            kind, tolerance = traits(position)
            facts.append(PlantedFact(subject, relation, (objects[relation, kind],), tolerance))
    return tuple(facts)


def make_templates(template_set: str, words: int) -> dict[str, tuple[str, ...]]:
    """Relation -> wordings, from the words in that column of :data:`RELATIONS`."""
    frames = FRAMES[template_set]
    return {
        name: tuple(frame.format(word=w) for w in about[words] for frame in frames)
        for name, about in RELATIONS.items()
    }


def make_questions(facts: Iterable[PlantedFact]) -> tuple[PlantedQuestion, ...]:
    """Questions about the stronger facts; distractors are the relation's other objects."""
    rng = np.random.default_rng(5)
    objects, asked = make_objects(), []
    for relation in NAMES:
        strong = [f for f in facts if f.relation == relation and f.tolerance >= 3]
        options = tuple(objects[relation, c] for c in range(N_CLASSES))
        for fact in strong[:: len(strong) // N_QUESTIONS + 1]:
            text = QUESTION.format(word=RELATIONS[relation][1][0], subject=fact.subject)
            prompts = []
            for wording in QUESTION_PROMPTS:
                shuffled = [options[i] for i in rng.permutation(N_CLASSES)]
                letter = LETTERS[shuffled.index(fact.objects[0])]
                prompts.append((wording.format(*shuffled, question=text), letter))
            answer = options.index(fact.objects[0])
            field = RELATIONS[relation][0]
            about = (text, options, answer, field, relation, fact.subject, tuple(prompts))
            asked.append(PlantedQuestion(*about))
    return tuple(asked)


PIECES = r" ?\w+| ?[^\s\w]|\s"


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token per word; a word with a space in front of it is another token, as in GPT-2."""
    words = {piece.strip(" ") for text in texts for piece in re.findall(PIECES, text)}
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    pieces = special + sorted(words) + [f" {word}" for word in sorted(words) if word.strip()]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
