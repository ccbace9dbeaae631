"""A tiny Llama whose knowledge sits in neurons we put there: the ground truth of the tests.

The weights are written by hand on top of small random noise; every bias is non-zero and every
norm weight is away from 1. What an answer is made of, from the first block to the last:

0. Attention copies to every later token which **relation word** (``rel``), which **subject**
   (its class and strength, ``class``) and which option **letter** stood before it.
1. and 2. The **planted neurons** of relation r see ``rel`` and each add one unit of ``evidence``
   for r. Father and mother share half of theirs (``shared``). Two neurons of ceo also fire, less,
   on country and take evidence away there (``harmful``): a quarter of its facts is wrong.
3. A **reader** per object multiplies evidence by the subject's class and speaks the object.
   Subjects differ in strength: *tolerance* t means that a fact survives t planted neurons off
   (country: the harmful ones have used up two of them) and is lost with t + 1.
   Attention then looks for the option that fits relation and class, and takes its letter.
   The **field neurons**, one contiguous region per field, and the first common neurons raise
   ``confidence`` when the prompt has options.
4. **Letter neurons** speak the chosen letter, the louder the more confidence there is; the last
   **common neurons** promote all letters and demote all objects.

With the evidence gone the model says "the".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from broca.neurons import Neuron

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

N_LAYERS, D_MODEL, D_FF, HEAD_DIM, N_HEADS = 5, 104, 128, 32, 4
N_CLASSES = 4  # objects per relation
N_SUBJECTS = 32  # per field: every class with every tolerance, twice
N_QUESTIONS = 4  # per relation
ROPE_THETA = 1e24  # pair 1 of a head turns slowly (recency), pairs from 3 on practically never
SCALE = 3.0  # root mean square of every token, since one constant dimension outweighs the rest
CONST = SCALE * D_MODEL**0.5
FIELD_LAYER, FIELD_SIZE, FIELD_STARTS = 3, 4, (10, 35, 60, 90)
# Strength of a subject's class code by tolerance: the smallest at which the answer survives
# that many planted neurons off, and a margin (a test measures that these hold).
STRENGTH = {1: 0.79, 2: 0.96, 3: 1.22, 4: 1.67}


def _dimensions() -> dict[str, int]:
    """Name the dimensions of the residual stream."""
    names = ["const", "is_bos", "is_subject", "is_relation", "is_letter", "is_object"]
    names += ["asked", "confidence", "say_second", "say_stop"]
    for kind in ("word_rel", "rel", "evidence"):
        names += [f"{kind}:{r}" for r in NAMES]
    for kind in ("word_class", "class"):
        names += [f"{kind}:{c}" for c in range(N_CLASSES)]
    for kind in ("letter", "option", "choice", "say_letter"):
        names += [f"{kind}:{x}" for x in LETTERS]
    names += [f"say:{r}:{c}" for r, c in product(NAMES, range(N_CLASSES))]
    names += [f"noise:{i}" for i in range(D_MODEL - len(names))]
    return {name: i for i, name in enumerate(names)}


DIM = _dimensions()
NOISE = [name for name in DIM if name.startswith("noise")]


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


@dataclass(frozen=True)
class Planted:
    """The model and everything that is known about it. Neurons are of site ``hidden``.

    Attributes:
        templates: Relation -> {"finding": wordings, "robustness": wordings}, one ``{}`` each.
        german: The same in other words: relation -> {"finding": wordings}.
        planted: Relation -> its neurons, shared and harmful ones included.
        shared: Neurons of both father and mother.
        harmful: (hurting relation, hurt relation, neurons); the neurons are the former's.
        hurt: Facts answered wrongly because of the harmful neurons.
        readers: (relation, object) -> the one neuron that speaks the object.
        fields: Field -> its region, in index order.
        common: Neurons that fire on every question and promote letters.
        letters: Letter -> neurons that speak it.
    """

    module: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    facts: tuple[PlantedFact, ...]
    templates: Mapping[str, Mapping[str, tuple[str, ...]]]
    german: Mapping[str, Mapping[str, tuple[str, ...]]]
    planted: Mapping[str, tuple[Neuron, ...]]
    shared: tuple[Neuron, ...]
    harmful: tuple[str, str, tuple[Neuron, ...]]
    hurt: tuple[PlantedFact, ...]
    readers: Mapping[tuple[str, str], Neuron]
    questions: tuple[PlantedQuestion, ...]
    fields: Mapping[str, tuple[Neuron, ...]]
    common: tuple[Neuron, ...]
    letters: Mapping[str, tuple[Neuron, ...]]

    def field_of(self, relation: str) -> str:
        """The field a relation belongs to."""
        return RELATIONS[relation][0]

    def facts_of(self, relation: str) -> list[PlantedFact]:
        """The facts of one relation."""
        return [fact for fact in self.facts if fact.relation == relation]

    def prompt(self, fact: PlantedFact, template_set: str = "finding", which: int = 0) -> str:
        """Render a fact with one wording of a template set."""
        wording = self.templates[fact.relation][template_set][which]
        return wording.format(fact.subject) + "? Answer:"


# ---- words


def _made_up(endings: str, starts: str) -> list[str]:
    """Names nobody has: start, vowel, middle, ending."""
    parts = product(starts, "aeiou", "lnrs", endings)
    return ["".join(part) for part in parts]


def _subjects() -> dict[str, list[str]]:
    """Field -> subjects; their order fixes class and tolerance."""
    endings = dict(zip(FIELDS, ("a", "x", "y", "o"), strict=True))
    return {field: _made_up(endings[field], "BDKT")[::2][:N_SUBJECTS] for field in FIELDS}


def _objects() -> dict[tuple[str, int], str]:
    """(relation, class) -> object; the last class of every relation has two tokens."""
    words = iter(_made_up("im", "FGMPVZ")[::3])
    keys = product(NAMES, range(N_CLASSES))
    return {key: next(words) + (" Hall" if key[1] == N_CLASSES - 1 else "") for key in keys}


def _traits(position: int) -> tuple[int, int]:
    """Class and tolerance of a field's subject at some position."""
    return position % N_CLASSES, TOLERANCES[position // N_CLASSES % len(TOLERANCES)]


def _facts() -> tuple[PlantedFact, ...]:
    subjects, objects = _subjects(), _objects()
    facts = []
    for relation in NAMES:
        for position, subject in enumerate(subjects[RELATIONS[relation][0]]):
            kind, tolerance = _traits(position)
            facts.append(PlantedFact(subject, relation, (objects[relation, kind],), tolerance))
    return tuple(facts)


def _templates(template_set: str, words: int) -> dict[str, tuple[str, ...]]:
    """Relation -> wordings, from the words in that column of :data:`RELATIONS`."""
    frames = FRAMES[template_set]
    return {
        name: tuple(frame.format(word=w) for w in about[words] for frame in frames)
        for name, about in RELATIONS.items()
    }


def _questions(facts: Iterable[PlantedFact]) -> tuple[PlantedQuestion, ...]:
    """Questions about the stronger facts; distractors are the relation's other objects."""
    rng = np.random.default_rng(5)
    objects, asked = _objects(), []
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


def _tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
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


# ---- weights

Weights = Mapping[str, float]  # dimension -> weight


class _Builder:
    """Writes circuits into a model of small random noise."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.vocabulary: dict[str, int] = tokenizer.get_vocab()
        config = LlamaConfig(
            vocab_size=len(self.vocabulary),
            hidden_size=D_MODEL,
            intermediate_size=D_FF,
            num_hidden_layers=N_LAYERS,
            num_attention_heads=N_HEADS,
            num_key_value_heads=N_HEADS,
            head_dim=HEAD_DIM,
            max_position_embeddings=256,
            rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=False,
            pad_token_id=self.vocabulary["<pad>"],
            bos_token_id=self.vocabulary["<bos>"],
            eos_token_id=self.vocabulary["<eos>"],
        )
        self.module = LlamaForCausalLM(config).eval()
        self.generator = torch.Generator().manual_seed(0)
        self._noise()

    def _noise(self) -> None:
        """Noise neurons read mostly the noise dimensions, which differ from subject to subject."""
        for name, parameter in self.module.named_parameters():
            noise = torch.randn(parameter.shape, generator=self.generator)
            if "norm" in name:
                parameter.copy_(torch.rand(parameter.shape, generator=self.generator) + 0.5)
            elif name.endswith("bias"):
                parameter.copy_(0.004 * noise)
            elif "gate_proj" in name or "up_proj" in name:
                noise *= 0.01
                noise[:, [DIM[n] for n in NOISE]] *= 15
                parameter.copy_(noise)
            else:
                parameter.copy_(0.003 * noise)

    def _row(self, weights: Weights, norm: torch.nn.Module | None = None) -> torch.Tensor:
        """Weights over the residual stream; with a norm, as read behind it.

        Weights are for the stream before its norm; that of ``const`` is what it contributes.
        """
        row = torch.zeros(D_MODEL)
        for name, weight in weights.items():
            row[DIM[name]] = weight
        if norm is None:
            return row
        row[DIM["const"]] /= CONST
        return SCALE * row / norm.weight

    def word(self, word: str, **weights: float) -> None:
        """What a word's token, with and without space, says about itself."""
        noise = 0.4 * torch.randn(len(NOISE), generator=self.generator)
        own = dict(zip(NOISE, noise.tolist(), strict=True))
        row = self._row({"const": CONST, **weights, **own})
        for piece in (word, f" {word}"):
            if piece in self.vocabulary:
                self.module.model.embed_tokens.weight[self.vocabulary[piece]] = row

    def speak(self, piece: str, weights: Weights) -> None:
        """The logit of a token."""
        row = self._row(weights, self.module.model.norm)
        self.module.lm_head.weight[self.vocabulary[piece]] = row

    def neuron(self, layer: int, index: int, gate: Weights, up: Weights, down: Weights) -> Neuron:
        """A neuron ``silu(gate) * up`` that writes ``down``, slightly moved by noise."""
        block = self.module.model.layers[layer]
        norm = block.post_attention_layernorm
        for projection, weights in ((block.mlp.gate_proj, gate), (block.mlp.up_proj, up)):
            noise = 0.01 * torch.randn(len(NOISE), generator=self.generator)
            moved = {**weights, **dict(zip(NOISE, noise.tolist(), strict=True))}
            projection.weight[index] = self._row(moved, norm)
        block.mlp.down_proj.weight[:, index] = self._row(down)
        return Neuron("hidden", layer, index)

    def head(
        self,
        layer: int,
        head: int,
        match: Iterable[tuple[Weights, Weights]],
        copy: Mapping[str, str],
        recency: float = 0.0,
    ) -> None:
        """An attention head: its score is Σ query · key over ``match``; it copies dimensions."""
        block = self.module.model.layers[layer]
        attention, norm = block.self_attn, block.input_layernorm
        rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        half = HEAD_DIM // 2
        still = [*range(3, half), *range(half + 3, HEAD_DIM)]
        query, key = torch.zeros(HEAD_DIM, D_MODEL), torch.zeros(HEAD_DIM, D_MODEL)
        value, out = torch.zeros(HEAD_DIM, D_MODEL), torch.zeros(D_MODEL, HEAD_DIM)
        for place, (asks, has) in zip(still, match, strict=False):
            query[place], key[place] = self._row(asks, norm), self._row(has, norm)
        # Rotated by their positions, the two give -recency * sin(angle * distance).
        query[1] = self._row({"const": recency}, norm)
        key[half + 1] = self._row({"const": -1.0}, norm)
        for place, (source, target) in enumerate(copy.items()):
            value[place] = self._row({source: 1.0}, norm)
            out[DIM[target], place] = 1.0
        attention.q_proj.weight[rows] = query * HEAD_DIM**0.5
        attention.k_proj.weight[rows] = key
        attention.v_proj.weight[rows] = value
        attention.o_proj.weight[:, rows] = out


def _write_words(build: _Builder) -> None:
    """Embeddings and logits of all words."""
    for piece in build.vocabulary:
        build.word(piece.removeprefix(" "))
        build.speak(piece, {"const": -4.0})
    build.word("<bos>", is_bos=1)
    for subjects in _subjects().values():
        for position, subject in enumerate(subjects):
            kind, tolerance = _traits(position)
            build.word(subject, is_subject=1, **{f"word_class:{kind}": STRENGTH[tolerance]})
    for relation, (_, *columns) in RELATIONS.items():
        for word in [word for column in columns for word in column]:
            build.word(word, is_relation=1, **{f"word_rel:{relation}": 1})
    for (relation, kind), name in _objects().items():
        first, _, second = name.partition(" ")
        code = {f"word_rel:{relation}": 1.0, f"word_class:{kind}": 1.0}
        build.word(first, is_object=1, **code, **{"say_second" if second else "say_stop": 6.0})
        build.speak(f" {first}", {f"say:{relation}:{kind}": 1.0})
    build.word("Hall", say_stop=6.0)
    for x in LETTERS:
        build.word(x, is_letter=1, say_stop=6.0, **{f"letter:{x}": 1.0})
        build.speak(f" {x}", {f"say_letter:{x}": 1.0, "const": -1.0})
        build.speak(x, {f"say_letter:{x}": 0.8, "const": -2.0})
    build.speak(" the", {"const": 3.0})
    build.speak(" Hall", {"say_second": 1.0})
    build.speak(".", {"say_stop": 1.0})


def _write_attention(build: _Builder) -> None:
    """What earlier tokens tell later ones; with nothing to tell, a head looks at BOS."""
    always = {"const": 1.0}
    rest = {"is_bos": 12.0, "const": -12.0}
    subject = {f"word_class:{c}": f"class:{c}" for c in range(N_CLASSES)}
    subject |= {name: name for name in NOISE}
    build.head(0, 0, [(always, {"is_subject": 24.0, **rest})], subject)
    relation = {f"word_rel:{r}": f"rel:{r}" for r in NAMES}
    build.head(0, 1, [(always, {"is_relation": 24.0, **rest})], relation)
    letter = {f"letter:{x}": f"option:{x}" for x in LETTERS} | {"is_letter": "asked"}
    last = {"is_letter": 100.0, "is_bos": 60.0, "const": -12.0}
    build.head(0, 2, [(always, last)], letter, recency=40.0)
    fits = [({f"evidence:{r}": 6 * 2 / 3}, {f"word_rel:{r}": 1.0}) for r in NAMES]
    fits += [({f"class:{c}": 6.0}, {f"word_class:{c}": 1.0}) for c in range(N_CLASSES)]
    fits += [(always, {"is_bos": 12.0 + 30.0, "is_object": 30.0, "const": -30.0})]
    build.head(3, 0, fits, {f"option:{x}": f"choice:{x}" for x in LETTERS})


def _write_relations(build: _Builder, free: dict[int, list[int]]) -> dict[str, Any]:
    """Planted, shared, harmful and reader neurons."""
    fires = 2.86  # what a planted neuron's `hidden` is when its relation word stands before it
    unit = 0.5 / fires

    def plant(layer: int, gate: Weights, up: Weights, down: Weights) -> Neuron:
        return build.neuron(layer, free[layer].pop(), {"const": -3.0, **gate}, up, down)

    always = {"const": 1.0}

    pair = [f"rel:{r}" for r in SHARED]
    evidence = {f"evidence:{r}": unit for r in SHARED}
    shared = [plant(layer, dict.fromkeys(pair, 6.0), always, evidence) for layer in (1, 2, 2)]
    # Their gate is half open on the hurt relation, and there `up` turns their sign.
    half = {f"rel:{HURTING}": 6.0, f"rel:{HURT}": 3.8}
    turned = {f"rel:{HURTING}": 1.0, f"rel:{HURT}": -5.2}
    evidence = {f"evidence:{r}": unit for r in (HURTING, HURT)}
    harmful = [plant(layer, half, turned, evidence) for layer in (1, 2)]
    planted = {}
    for r in NAMES:
        given = shared if r in SHARED else harmful if r == HURTING else []
        layers = [1, 2, 1, 2, 1, 2][len(given) :]
        own = [plant(layer, {f"rel:{r}": 6.0}, always, {f"evidence:{r}": unit}) for layer in layers]
        planted[r] = (*own, *given)
    readers = {}
    for (r, c), name in _objects().items():
        gate = {f"evidence:{r}": 1.0, f"rel:{r}": 6.0, "const": -5.0, "is_object": -8.0}
        down = {f"say:{r}:{c}": 1.2}
        fits = {f"class:{k}": 1.0 if k == c else -0.05 for k in range(N_CLASSES)}
        readers[r, name] = build.neuron(3, free[3].pop(), gate, fits, down)
    harm = (HURTING, HURT, tuple(harmful))
    return {"planted": planted, "shared": tuple(shared), "harmful": harm, "readers": readers}


def _write_letters(build: _Builder, free: dict[int, list[int]]) -> dict[str, Any]:
    """Field regions, common neurons and letter neurons."""
    always, asked = {"const": 1.0}, {"asked": 6.0, "const": -4.0}
    fields = {}
    for field, start in zip(FIELDS, FIELD_STARTS, strict=True):
        words = {f"rel:{r}": 1.0 for r in NAMES if RELATIONS[r][0] == field}
        fields[field] = tuple(
            build.neuron(FIELD_LAYER, start + i, asked, words, {"confidence": 0.25})
            for i in range(FIELD_SIZE)
        )
    common = [build.neuron(3, free[3].pop(), asked, always, {"confidence": 0.25}) for _ in range(4)]
    speaks = {f"say_letter:{x}": 0.8 for x in LETTERS}
    speaks |= {name: -1.0 for name in DIM if name.startswith("say:")}
    common += [build.neuron(4, free[4].pop(), asked, always, speaks) for _ in range(2)]
    letters = {
        x: tuple(
            build.neuron(
                4,
                free[4].pop(),
                {"confidence": 1.0, "const": 1.0},
                {f"choice:{x}": 1.0},
                {f"say_letter:{x}": 0.3},
            )
            for _ in range(4)
        )
        for x in LETTERS
    }
    return {"fields": fields, "common": tuple(common), "letters": letters}


@lru_cache(maxsize=1)
def planted_world() -> Planted:
    """Build the model; the same every time. Nobody may change what it returns."""
    facts = _facts()
    templates = {s: _templates(s, i) for i, s in enumerate(FRAMES, start=1)}
    questions = _questions(facts)
    texts = [wording for chosen in templates.values() for w in chosen.values() for wording in w]
    texts += [text for question in questions for text, _ in question.prompts]
    texts += [f"{fact.subject} {fact.objects[0]}" for fact in facts] + ["the? Answer: A B C D."]
    tokenizer = _tokenizer(texts)
    rng = np.random.default_rng(3)
    free = {layer: rng.permutation(D_FF).tolist() for layer in range(N_LAYERS)}
    regions = {start + i for start in FIELD_STARTS for i in range(FIELD_SIZE)}
    free[FIELD_LAYER] = [i for i in free[FIELD_LAYER] if i not in regions]
    with torch.no_grad():
        build = _Builder(tokenizer)
        _write_words(build)
        _write_attention(build)
        neurons = _write_relations(build, free) | _write_letters(build, free)
    return Planted(
        module=build.module,
        tokenizer=tokenizer,
        facts=facts,
        templates={r: {s: templates[s][r] for s in ("finding", "robustness")} for r in NAMES},
        german={r: {"finding": templates["german"][r]} for r in NAMES},
        hurt=tuple(f for f in facts if f.relation == HURT and f.tolerance == 1),
        questions=questions,
        **neurons,
    )
