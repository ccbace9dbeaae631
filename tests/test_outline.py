"""A model without weights plans as the model does, and computes nothing."""

from __future__ import annotations

import pickle

import pytest

from broca.errors import ModelError
from broca.model import LanguageModel, Outline, outline_of
from broca.model.families import build_tiny
from tiny import TEXTS, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module", params=["llama", "gpt2", "olmoe"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return LanguageModel(build_tiny(request.param), tiny_tokenizer(), name=request.param)


def test_an_outline_plans_as_the_model_does(model: LanguageModel) -> None:
    found = pickle.loads(pickle.dumps(outline_of(model)))
    assert isinstance(found, Outline)
    same = ("identity", "drive", "coverage", "sites", "n_layers", "dtype", "device", "device_name")
    for name in same:
        assert getattr(found, name) == getattr(model, name)
    assert (found.name, found.max_tokens, found.end_tokens) == (
        model.name,
        model.max_tokens,
        model.end_tokens,
    )
    assert found.encode(TEXTS) == model.encode(TEXTS)
    lengths = [len(ids) for ids in model.encode(TEXTS)]
    assert found.batches(lengths, 3) == model.batches(lengths, 3)
    counts = [sum(p.numel() for p in one.module.parameters()) for one in (found, model)]
    assert counts[0] == counts[1]


def test_an_outline_holds_no_weights(model: LanguageModel) -> None:
    found = outline_of(model)
    assert all(p.is_meta for p in found.module.parameters())
    assert not any(p.is_meta for p in model.module.parameters())
    n_bytes = sum(p.numel() * p.element_size() for p in model.module.parameters())
    assert len(pickle.dumps(found)) < len(pickle.dumps(model)) - 0.9 * n_bytes


def test_nothing_is_computed_with_an_outline() -> None:
    found = outline_of(tiny_model("llama"))
    for compute in (lambda: found.probabilities(["a"]), lambda: found.answer("a")):
        with pytest.raises(ModelError, match=r"not in this process.*Workers"):
            compute()
