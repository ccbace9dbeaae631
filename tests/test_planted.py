"""The planted model is what it says: measured with plain transformers and hooks, without broca."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from transformers import BatchEncoding

from broca.neurons import Neuron
from planted import Planted, planted_world
from planted_weights import FIELD_LAYER
from planted_words import FIELDS, HURT, HURTING, LETTERS, NAMES, SHARED, PlantedFact


@pytest.fixture(scope="module")
def world() -> Planted:
    return planted_world()


@contextmanager
def scaled(world: Planted, neurons: Iterable[Neuron], factor: float = 0.0) -> Iterator[None]:
    """Multiply hidden neurons at all positions."""
    by_layer: dict[int, list[int]] = {}
    for neuron in neurons:
        assert neuron.site == "hidden"
        by_layer.setdefault(neuron.layer, []).append(neuron.index)

    def hook_of(indices: list[int]):
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            hidden = inputs[0].clone()
            hidden[..., indices] *= factor
            return (hidden,)

        return hook

    with ExitStack() as hooks:
        for layer, indices in by_layer.items():
            down = world.module.model.layers[layer].mlp.down_proj
            hooks.callback(down.register_forward_pre_hook(hook_of(indices)).remove)
        yield


def encode(world: Planted, texts: Sequence[str]) -> BatchEncoding:
    return world.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left")


@torch.no_grad()
def last_logits(world: Planted, texts: Sequence[str]) -> torch.Tensor:
    """Logits of the next token, [prompt, vocab]."""
    return world.module(**encode(world, texts), logits_to_keep=1).logits[:, -1]


def first_tokens(world: Planted, words: Iterable[str]) -> torch.Tensor:
    """The token with which each word goes on after a prompt."""
    vocabulary = world.tokenizer.get_vocab()
    return torch.tensor([vocabulary[f" {word.split()[0]}"] for word in words])


def right(
    world: Planted, facts: Sequence[PlantedFact], template_set: str = "finding"
) -> torch.Tensor:
    """Which facts' objects are begun, [fact]; wordings take turns."""
    texts = [world.prompt(f, template_set, i % 4) for i, f in enumerate(facts)]
    expected = first_tokens(world, (fact.objects[0] for fact in facts))
    return last_logits(world, texts).argmax(-1) == expected


def letter_probabilities(world: Planted) -> dict[str, np.ndarray]:
    """Field -> P(right letter) of its prompts."""
    prompts = [p for question in world.questions for p in question.prompts]
    fields = np.repeat([question.field for question in world.questions], 3)
    tokens = first_tokens(world, (letter for _, letter in prompts))
    p = last_logits(world, [text for text, _ in prompts]).softmax(-1)
    chosen = p[torch.arange(len(tokens)), tokens].numpy()
    return {field: chosen[fields == field] for field in FIELDS}


# ---- facts


@pytest.mark.parametrize("template_set", ["finding", "robustness"])
def test_all_facts_are_right_except_the_hurt_ones(world: Planted, template_set: str) -> None:
    answers = right(world, world.facts, template_set)
    wrong = [f for f, ok in zip(world.facts, answers, strict=True) if not ok]
    assert wrong == list(world.hurt)
    assert len(wrong) == 8


def test_two_greedy_tokens_begin_the_object(world: Planted) -> None:
    facts = [f for f in world.facts if f not in world.hurt][::5]
    batch = encode(world, [world.prompt(f) for f in facts])
    out = world.module.generate(**batch, max_new_tokens=2, do_sample=False)
    said = world.tokenizer.batch_decode(out[:, batch.input_ids.shape[1] :])
    assert all(
        text.strip().rstrip(".") == fact.objects[0] for text, fact in zip(said, facts, strict=True)
    )
    assert any(" " in fact.objects[0] for fact in facts)


def test_german_words_mean_the_same(world: Planted) -> None:
    facts = [f for f in world.facts if f not in world.hurt]
    texts = [
        world.german[f.relation]["finding"][i % 2].format(f.subject) + "? Answer:"
        for i, f in enumerate(facts)
    ]
    expected = first_tokens(world, (f.objects[0] for f in facts))
    assert (last_logits(world, texts).argmax(-1) == expected).all()
    assert world.tokenizer.unk_token_id not in encode(world, texts).input_ids


def test_every_fact_is_lost_exactly_when_its_tolerance_is_exceeded(world: Planted) -> None:
    """Whichever of the planted neurons are off: the effect is cumulative."""
    rng = np.random.default_rng(0)
    for relation in NAMES:
        facts, neurons = world.facts_of(relation)[::5], world.planted[relation]
        assert {fact.tolerance for fact in facts} == {1, 2, 3, 4}
        used = 2 if relation == HURT else 0
        for n_off in range(len(neurons) + 1):
            off = [neurons[i] for i in rng.permutation(len(neurons))[:n_off]]
            with scaled(world, off):
                answers = right(world, facts).tolist()
            assert answers == [n_off <= fact.tolerance - used for fact in facts], (relation, n_off)


def test_a_set_touches_only_its_relation_and_those_that_share_it(world: Planted) -> None:
    facts = world.facts[::5]
    before = right(world, facts)
    for relation in NAMES:
        with scaled(world, world.planted[relation]):
            after = right(world, facts)
        changed = {
            f.relation for f, old, new in zip(facts, before, after, strict=True) if old != new
        }
        also = set(SHARED) if relation in SHARED else {HURT} if relation == HURTING else set()
        assert changed == {relation} | also


def test_matched_random_neurons_change_no_answer(world: Planted) -> None:
    rng = np.random.default_rng(1)
    width = world.module.config.intermediate_size
    meant = {n for group in world.planted.values() for n in group} | set(world.readers.values())
    facts = world.facts[::3]
    before = right(world, facts)
    for _ in range(3):
        free = {
            layer: [i for i in rng.permutation(width) if Neuron("hidden", layer, i) not in meant]
            for layer in (1, 2)
        }
        off = [Neuron("hidden", layer, int(i)) for layer in (1, 2) for i in free[layer][:20]]
        with scaled(world, off):
            assert torch.equal(right(world, facts), before)


def test_shared_neurons_belong_to_both_and_weaken_both(world: Planted) -> None:
    one, other = (set(world.planted[relation]) for relation in SHARED)
    assert one & other == set(world.shared)
    with scaled(world, world.shared):
        for relation in SHARED:
            facts = world.facts_of(relation)
            assert right(world, facts).tolist() == [fact.tolerance >= 3 for fact in facts]


def test_harmful_neurons_off_make_the_hurt_facts_right(world: Planted) -> None:
    hurting, hurt, neurons = world.harmful
    assert (hurting, hurt) == (HURTING, HURT)
    assert set(neurons) < set(world.planted[hurting])
    for off in (neurons, world.planted[hurting]):
        with scaled(world, off):
            assert right(world, world.facts_of(hurt)).all()


def test_a_reader_speaks_one_object(world: Planted) -> None:
    fact = world.facts_of("maker")[-1]
    with scaled(world, [world.readers["maker", fact.objects[0]]]):
        answers = right(world, world.facts_of("maker"))
    assert answers.tolist() == [f.objects != fact.objects for f in world.facts_of("maker")]


# ---- finding them


@torch.no_grad()
def mean_responses(world: Planted, texts: Sequence[str], module_name: str) -> np.ndarray:
    """Mean over real tokens of what enters (hidden) or leaves (gate) a module, [prompt, neuron]."""
    batch = encode(world, texts)
    mask = batch.attention_mask[..., None]
    pooled: list[torch.Tensor] = []

    def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        values = inputs[0] if module_name == "down_proj" else output
        pooled.append((values * mask).sum(1) / mask.sum(1))

    with ExitStack() as hooks:
        for block in world.module.model.layers:
            module = getattr(block.mlp, module_name)
            hooks.callback(module.register_forward_hook(hook).remove)
        world.module(**batch)
    return torch.cat(pooled, dim=1).numpy()


def average_precisions(responses: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Average precision of every neuron, without ties."""
    hits = positive[np.argsort(-responses, axis=0, kind="stable")]
    precision = hits.cumsum(0) / np.arange(1, len(positive) + 1)[:, None]
    return (precision * hits).sum(0) / positive.sum()


@pytest.mark.parametrize("module_name", ["down_proj", "gate_proj"])
def test_planted_neurons_rank_first_by_average_precision(world: Planted, module_name: str) -> None:
    texts = [world.prompt(f, "finding", i % 4) for i, f in enumerate(world.facts)]
    responses = mean_responses(world, texts, module_name)
    width = world.module.config.intermediate_size
    for relation in NAMES:
        positive = np.array([fact.relation == relation for fact in world.facts])
        scores = average_precisions(responses, positive)
        planted = np.array([n.layer * width + n.index for n in world.planted[relation]])
        shared = np.array([n in world.shared for n in world.planted[relation]])
        exact = [average_precision_score(positive, responses[:, i]) for i in planted]
        assert scores[planted] == pytest.approx(exact, abs=1e-3)
        assert (scores[planted[~shared]] > 0.99).all()
        others = np.setdiff1d(np.arange(len(scores)), planted)
        if module_name == "gate_proj":  # a reader's gate sees the evidence
            readers = [n for (r, _), n in world.readers.items() if r == relation]
            others = np.setdiff1d(others, [n.layer * width + n.index for n in readers])
        assert scores[planted].min() > scores[others].max() + 0.05


# ---- questions


def test_letters_are_right_and_not_certain(world: Planted) -> None:
    prompts = [p for question in world.questions for p in question.prompts]
    for question in world.questions:
        texts = [text for text, _ in question.prompts]
        assert len(set(texts)) == 3
        assert all(question.options[question.answer] in text for text in texts)
    logits = last_logits(world, [text for text, _ in prompts])
    spaced = first_tokens(world, (letter for _, letter in prompts))
    assert torch.equal(logits.argmax(-1), spaced)
    p = letter_probabilities(world)
    assert all(values.min() > 0.35 and values.max() < 0.75 for values in p.values())
    bare = torch.tensor([world.tokenizer.get_vocab()[letter] for _, letter in prompts])
    rows = torch.arange(len(prompts))
    assert (logits[rows, bare] < logits[rows, spaced]).all()


def test_field_neurons_matter_in_their_field_only(world: Planted) -> None:
    before = letter_probabilities(world)
    for field in FIELDS:
        region = [n.index for n in world.fields[field]]
        assert region == list(range(region[0], region[-1] + 1))
        assert all(n.layer == FIELD_LAYER for n in world.fields[field])
        for factor, bounds in ((0.0, (0.0, 0.6)), (2.0, (1.2, 2.0))):
            with scaled(world, world.fields[field], factor):
                after = letter_probabilities(world)
            for other in FIELDS:
                ratio = after[other].mean() / before[other].mean()
                low, high = bounds if other == field else (0.95, 1.05)
                assert low < ratio < high, (field, other, factor)


def test_common_neurons_matter_in_every_field(world: Planted) -> None:
    before = letter_probabilities(world)
    with scaled(world, world.common):
        off = letter_probabilities(world)
    with scaled(world, world.common, 2.0):
        twice = letter_probabilities(world)
    for field in FIELDS:
        assert (off[field] < 0.2 * before[field]).all()
        assert (twice[field] > before[field]).all()


def test_letter_neurons_speak_their_letter(world: Planted) -> None:
    head = world.module.lm_head.weight * world.module.model.norm.weight
    vocabulary = world.tokenizer.get_vocab()
    for letter, neurons in world.letters.items():
        for neuron in neurons:
            down = world.module.model.layers[neuron.layer].mlp.down_proj.weight
            assert (head @ down[:, neuron.index]).argmax() == vocabulary[f" {letter}"]
    assert tuple(world.letters) == tuple(LETTERS)


def integrated_gradients(
    world: Planted, text: str, letter: str, layer: int, n_steps: int = 6
) -> tuple[np.ndarray, float]:
    """A plain midpoint rule at the last position; NA [neuron] and P(1) - P(0)."""
    token = first_tokens(world, [letter])[0]
    down = world.module.model.layers[layer].mlp.down_proj
    seen: list[torch.Tensor] = []
    alphas = torch.cat([(torch.arange(n_steps) + 0.5) / n_steps, torch.tensor([0.0, 1.0])])

    def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        hidden = inputs[0].detach().clone()
        last = (alphas[:, None] * hidden[:, -1]).requires_grad_()
        seen.extend([hidden[0, -1], last])
        return (torch.cat([hidden[:, :-1], last[:, None]], dim=1),)

    handle = down.register_forward_pre_hook(hook)
    try:
        batch = encode(world, [text] * len(alphas))
        p = world.module(**batch, logits_to_keep=1).logits[:, -1].softmax(-1)[:, token]
    finally:
        handle.remove()
    value, last = seen
    (gradient,) = torch.autograd.grad(p[:-2].sum(), last)
    return (value * gradient.sum(0) / n_steps).numpy(), (p[-1] - p[-2]).item()


def test_integrated_gradients_rank_field_and_letter_neurons_first(world: Planted) -> None:
    for field in FIELDS:
        questions = [q for q in world.questions if q.field == field][::4]
        total = np.zeros(world.module.config.intermediate_size)
        for text, letter in (question.prompts[i] for i, question in enumerate(questions)):
            scores, change = integrated_gradients(world, text, letter, FIELD_LAYER)
            assert scores.sum() == pytest.approx(change, rel=0.02)
            total += scores
            top, change = integrated_gradients(world, text, letter, layer=4)
            assert top.sum() == pytest.approx(change, rel=0.02)
            speakers = {n.index for n in (*world.letters[letter], *world.common) if n.layer == 4}
            assert set(np.argsort(-top)[: len(speakers)]) == speakers
        common = {n.index for n in world.common if n.layer == FIELD_LAYER}
        ranked = [int(i) for i in np.argsort(-total) if int(i) not in common]
        region = [n.index for n in world.fields[field]]
        assert set(ranked[: len(region)]) == set(region)
        assert total[ranked[len(region)]] < 0.2 * total[region].min()


# ---- the model is one that hides no mistakes


def test_biases_and_norms_are_away_from_their_initial_values(world: Planted) -> None:
    for name, parameter in world.module.named_parameters():
        if name.endswith("bias"):
            assert (parameter != 0).all(), name
        if "norm" in name:
            assert (parameter - 1).abs().mean() > 0.1, name


def test_padding_does_not_matter(world: Planted) -> None:
    texts = [world.prompt(world.facts[0]), world.questions[0].prompts[0][0]]
    together = last_logits(world, texts)
    for row, text in zip(together, texts, strict=True):
        torch.testing.assert_close(row, last_logits(world, [text])[0], atol=1e-4, rtol=0)
