"""Whatever a tokenizer adds to a text, a prompt is read the same way by every reader of tokens."""

from __future__ import annotations

import copy

import pytest
import torch
from tokenizers import processors
from transformers import ByT5Tokenizer

from broca.answers import answer_tokens, find_targets
from broca.errors import PromptError
from broca.model import LanguageModel
from broca.prompts import Prompt
from broca.responses import record_responses
from tiny import TEXTS, tiny_module, tiny_tokenizer

TEMPLATES = {
    "neither": "$A",
    "bos": "<bos> $A",
    "eos": "$A <eos>",
    "both": "<bos> $A <eos>",
}
BOS, EOS = 1, 2


def tokenizer_that_adds(kind: str):
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=TEMPLATES[kind], special_tokens=[("<bos>", BOS), ("<eos>", EOS)]
    )
    return tokenizer


def model_that_adds(kind: str) -> LanguageModel:
    return LanguageModel(tiny_module("llama"), tokenizer_that_adds(kind), name=kind)


def own_tokens(text: str) -> list[int]:
    return tiny_tokenizer()(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("kind", TEMPLATES)
def test_prompts_get_the_start_once_and_never_the_end(kind):
    model = model_that_adds(kind)
    start = [BOS] if kind in ("bos", "both") else []
    for text in TEXTS:
        assert model.encode([text]) == [[*start, *own_tokens(text)]]
        spans = model.token_spans(text)
        assert len(spans) == len(start) + len(own_tokens(text))
        assert "".join(text[a:b] for a, b in spans) == text
    assert model.tokenize("<bos>a cat") == [BOS, *own_tokens("a cat")]  # as chat templates write it
    assert model.tokenize("a cat<eos>") == [*start, *own_tokens("a cat"), EOS]  # the text's own
    assert answer_tokens(model, "a cat", "fox", " ") == tuple(own_tokens(" fox"))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_self_check_tells_what_was_decided(kind):
    told = model_that_adds(kind).self_check().special_tokens
    assert ("begin with <bos>" in told) == (kind in ("bos", "both"))
    assert ("<eos>, which the tokenizer appends, is left out" in told) == (kind in ("eos", "both"))


@pytest.mark.parametrize(("ended", "plain"), [("eos", "neither"), ("both", "bos")])
def test_an_appended_end_changes_no_number(ended, plain):
    """Answers, responses at the last token and at the subject's, and choices read no EOS."""
    prompts = [
        Prompt(f"p{n}", text, ("x",), subject_span=(0, 3)) for n, text in enumerate(TEXTS[:2])
    ]
    one, other = model_that_adds(ended), model_that_adds(plain)
    assert one.answer(TEXTS[0], 4) == other.answer(TEXTS[0], 4)
    for pooling in ("mean", "mean-no-bos", "last", "subject-last"):
        blocks = [
            record_responses(model, prompts, ("up",), pooling=pooling).block("up", 1)
            for model in (one, other)
        ]
        assert (blocks[0] == blocks[1]).all()
    assert torch.equal(one.probabilities(TEXTS), other.probabilities(TEXTS))


def test_a_tokenizer_without_a_token_for_the_probe():
    class Mute:
        eos_token_id = EOS

        def __call__(self, text, add_special_tokens=True):
            ids = [BOS, EOS] if add_special_tokens else []
            return type("Encoding", (), {"input_ids": ids})

    from broca.model.special_tokens import find_special_tokens

    found = find_special_tokens(Mute())
    assert (found.before, found.after) == ((BOS,), (EOS,))


# ---- tokenizers that do not go with the model


def test_a_token_that_the_model_does_not_know_is_named():
    """It ended in an IndexError from inside of the model."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens(["<|new|>"])
    module = tiny_module("llama", vocab_size=len(tiny_tokenizer()))
    model = LanguageModel(module, tokenizer, name="tiny")
    with pytest.raises(PromptError, match=r"'<\|new\|>' \(320\)") as caught:
        model.answer("a <|new|> cat", 2)
    assert "resize_token_embeddings" in str(caught.value)
    with pytest.raises(PromptError, match="does not know"):
        find_targets(model, [Prompt("p", "a cat", ("<|new|>",))], " ")
    known = LanguageModel(module, tiny_tokenizer(), name="tiny")
    assert model.answer("a cat", 4) == known.answer("a cat", 4)


def test_a_padding_token_of_the_tokenizer_alone_is_never_fed():
    """`tokenizer.pad_token = "[PAD]"` adds a token that no embedding was made for."""
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    module = tiny_module("llama", vocab_size=len(tiny_tokenizer()))
    assert tokenizer.pad_token_id == module.get_input_embeddings().num_embeddings
    model = LanguageModel(module, tokenizer, name="tiny")
    assert model.drive.pads
    with torch.no_grad():
        for found, text in zip(model.probabilities(TEXTS), TEXTS, strict=True):
            plain = module(torch.tensor([tiny_tokenizer()(text).input_ids])).logits[0, -1]
            torch.testing.assert_close(found, plain.softmax(-1), atol=1e-5, rtol=1e-4)


def test_a_tokenizer_without_places_is_one_sentence():
    model = LanguageModel(tiny_module("llama", vocab_size=400), ByT5Tokenizer(), name="bytes")
    assert len(model.probabilities(["a cat"])) == 1
    with pytest.raises(PromptError, match="does not say where") as caught:
        model.token_spans("a cat")
    assert "ByT5Tokenizer" in str(caught.value)
