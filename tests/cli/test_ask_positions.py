"""Where `broca ask` edits while an answer grows: at the places the options name, and no others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from broca.cli.ask import _go_on
from broca.interventions import Deactivate
from broca.model import LanguageModel
from broca.neurons import NeuronIndex, NeuronSet, uniform_random
from tiny import tiny_model

PROMPT, N_TOKENS = "the capital of France is", 8


def zeroed(module, args, *, places: slice, listed: list[int]):
    hidden = args[0].clone()
    hidden[:, places, listed] = 0
    return (hidden, *args[1:])


def slow(model: LanguageModel, neurons: NeuronSet, edited: Callable[[int, int], slice]) -> str:
    """Whole texts, a token at a time, with a plain hook on every layer's down projection."""
    ids = model.encode([PROMPT])[0]
    start = len(ids)
    by_layer: dict[int, list[int]] = {}
    for one in neurons:
        by_layer.setdefault(one.layer, []).append(one.index)
    while len(ids) < start + N_TOKENS:
        handles = [
            model.layers[layer].mlp.down_proj.register_forward_pre_hook(
                partial(zeroed, places=edited(start, len(ids)), listed=listed)
            )
            for layer, listed in by_layer.items()
        ]
        with torch.no_grad():
            logits = model.module(torch.tensor([ids])).logits[0, -1]
        for handle in handles:
            handle.remove()
        ids.append(int(logits.argmax()))
        if ids[-1] in model.end_tokens:
            break
    return model.tokenizer.decode(ids[start:], skip_special_tokens=True).strip().split("\n")[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("positions", "edited"),
    [
        ("all", lambda start, now: slice(0, now)),
        ("last", lambda start, now: slice(start - 1, start)),
        ("answer", lambda start, now: slice(start - 1, now)),
    ],
)
def test_the_edit_stays_where_it_is(positions, edited, seed: int) -> None:
    model = tiny_model("llama", seed=seed)
    neurons = uniform_random(NeuronIndex(model.identity, ("hidden",)), 90, seed)
    found = _go_on(model, PROMPT, N_TOKENS, [Deactivate(neurons, positions)])
    assert found == slow(model, neurons, edited)


def test_nothing_is_edited_where_nothing_is_to_be() -> None:
    model = tiny_model("llama")
    none = uniform_random(NeuronIndex(model.identity, ("hidden",)), 1, 0)
    assert _go_on(model, PROMPT, N_TOKENS) == slow(model, none, lambda start, now: slice(0, 0))


def test_an_answer_ends_where_the_context_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions beyond it do not exist in a GPT-2: an IndexError."""
    model = tiny_model("gpt2", n_positions=12)
    monkeypatch.setattr(LanguageModel, "end_tokens", frozenset())
    text = model.tokenizer.decode(model.encode([PROMPT])[0][1:9])
    ids = model.encode([text])[0]
    assert len(ids) == 9
    plain = list(ids)
    with torch.no_grad():
        while len(plain) <= 12:  # what is said behind the last position is never read
            plain.append(int(model.module(torch.tensor([plain])).logits[0, -1].argmax()))
    said = model.tokenizer.decode(plain[9:])
    assert model.answer(text, N_TOKENS) == said
    assert _go_on(model, text, N_TOKENS) in said


class Scripted:
    """A model that says one text, a character at a time, and an end that is never reached."""

    end_tokens: frozenset[int] = frozenset()

    def __init__(self, text: str) -> None:
        self.text, self.tokenizer = text, self

    def encode(self, texts):
        return [[0]]

    def fits(self, ids) -> bool:
        return True

    def pad(self, rows):
        return rows[0]

    def logits(self, ids):
        found = torch.zeros(1, 1, 0x110000)
        found[0, 0, ord(self.text[len(ids) - 1])] = 1
        return found

    def decode(self, ids, skip_special_tokens=True):
        return "".join(map(chr, ids))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("Paris.\nAnd", "Paris."), ("\n**\nParis\nAnd", "Paris"), ("---\n- Paris\nAnd", "- Paris")],
)
def test_the_first_line_that_says_something_is_shown_whole(text: str, shown: str) -> None:
    """A line of marks alone was shown in its place."""
    assert _go_on(Scripted(text), "x", len(text)) == shown  # type: ignore[arg-type]
