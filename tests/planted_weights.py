"""The weights of the planted model, written by hand on top of noise (see :mod:`planted`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from broca.neurons import Neuron
from planted_words import (
    FIELDS,
    HURT,
    HURTING,
    LETTERS,
    N_CLASSES,
    NAMES,
    RELATIONS,
    SHARED,
    make_objects,
    make_subjects,
    traits,
)

N_LAYERS, D_MODEL, D_FF, HEAD_DIM, N_HEADS = 5, 104, 128, 32, 4
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


Weights = Mapping[str, float]  # dimension -> weight


class Builder:
    """Writes circuits into a model of small random noise."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        # The tokenizer hands its words over in an order that changes from process to process.
        words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
        self.vocabulary: dict[str, int] = dict(words)
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
        self.word_generator = torch.Generator().manual_seed(2)
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
        noise = 0.4 * torch.randn(len(NOISE), generator=self.word_generator)
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


def write_words(build: Builder) -> None:
    """Embeddings and logits of all words."""
    for piece in build.vocabulary:
        build.word(piece.removeprefix(" "))
        build.speak(piece, {"const": -4.0})
    build.word("<bos>", is_bos=1)
    for subjects in make_subjects().values():
        for position, subject in enumerate(subjects):
            kind, tolerance = traits(position)
            build.word(subject, is_subject=1, **{f"word_class:{kind}": STRENGTH[tolerance]})
    for relation, (_, *columns) in RELATIONS.items():
        for word in [word for column in columns for word in column]:
            build.word(word, is_relation=1, **{f"word_rel:{relation}": 1})
    for (relation, kind), name in make_objects().items():
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


def write_attention(build: Builder) -> None:
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


def write_relations(build: Builder, free: dict[int, list[int]]) -> dict[str, Any]:
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
    for (r, c), name in make_objects().items():
        gate = {f"evidence:{r}": 1.0, f"rel:{r}": 6.0, "const": -5.0, "is_object": -8.0}
        down = {f"say:{r}:{c}": 1.2}
        fits = {f"class:{k}": 1.0 if k == c else -0.05 for k in range(N_CLASSES)}
        readers[r, name] = build.neuron(3, free[3].pop(), gate, fits, down)
    harm = (HURTING, HURT, tuple(harmful))
    return {"planted": planted, "shared": tuple(shared), "harmful": harm, "readers": readers}


def write_letters(build: Builder, free: dict[int, list[int]]) -> dict[str, Any]:
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
